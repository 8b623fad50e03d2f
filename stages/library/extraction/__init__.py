"""Images through a network, once."""
