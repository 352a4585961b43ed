"""The data modes. Importing this registers them."""

from gantrain.data.sets import aligned, digits, lsun, made_of_digits, shards, single, torchvision_sets, unaligned

__all__ = ["aligned", "digits", "lsun", "made_of_digits", "shards", "single", "torchvision_sets", "unaligned"]
