"""What people add: a file or folder each, looked up by its name."""
