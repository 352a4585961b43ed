"""Data sets, and the stream of batches drawn from them."""
