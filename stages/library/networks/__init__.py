"""A backbone's contract and its weight files."""
