"""What the fuzzer knows of the structure of files: changes that leave lengths, offsets and checksums right.

Bytes that are changed at random seldom get past a file's first check. A module for each kind of file splits it into its
parts, changes these and joins them again, and writes hostile files of its own for the fuzzer to start from.
"""
