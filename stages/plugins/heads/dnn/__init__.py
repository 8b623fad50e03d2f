"""The DNN head."""
