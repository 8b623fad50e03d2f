"""Fuzzing and fault injection: what ought to break the program, tried."""
