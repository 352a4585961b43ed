"""Objects built from a configuration, and the loop that trains them."""
