"""Charts and pictures of pictures."""
