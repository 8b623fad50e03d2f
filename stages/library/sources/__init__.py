"""What a data set is made of."""
