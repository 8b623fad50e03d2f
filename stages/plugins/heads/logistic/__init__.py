"""The logistic head."""
