"""Images that are copies of others, but not byte for byte."""
