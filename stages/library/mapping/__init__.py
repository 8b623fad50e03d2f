"""A map of the images: where each one lies, small pictures of all, and the page that shows them."""
