"""What is done with data sets besides training on them."""
