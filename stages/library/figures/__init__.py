"""Charts and images of images."""
