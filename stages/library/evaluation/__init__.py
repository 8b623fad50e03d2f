"""A model on the test set."""
