"""The ridge head."""
