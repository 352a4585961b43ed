"""Data sets and the stream of batches drawn from them. Importing this files the data modes by name."""

from gantrain.data import digits, single, torchvision_sets

__all__ = ["digits", "single", "torchvision_sets"]
