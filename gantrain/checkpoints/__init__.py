"""Checkpoints: storing them, their file format, and the weights of the reference implementation."""
