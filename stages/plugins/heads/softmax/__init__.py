"""The softmax head."""
