"""What runs a network; see ../runtime.py."""
