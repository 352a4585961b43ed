"""Checkpoints: where they are stored, their format, and the weights of the reference implementation."""
