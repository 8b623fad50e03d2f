"""Pictures through a network, once."""
