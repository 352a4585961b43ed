"""Data sets and the stream of batches drawn from them. Importing this files the data modes by name."""

from gantrain.data import aligned, digits, lsun, made_of_digits, shards, single, torchvision_sets, unaligned

__all__ = ["aligned", "digits", "lsun", "made_of_digits", "shards", "single", "torchvision_sets", "unaligned"]
