"""The data modes. Importing this registers them."""

from gantrain.data.sets import aligned, digit_sets, digits, lsun, shards, single, torchvision_sets, unaligned

__all__ = ["aligned", "digit_sets", "digits", "lsun", "shards", "single", "torchvision_sets", "unaligned"]
