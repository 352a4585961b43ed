"""Whether a data set has other images in the test phase."""

from __future__ import annotations

import torch

from gantrain.data.base import IMAGE_KEYS, ImageDataset


def is_held_out(train_set: ImageDataset, test_set: ImageDataset) -> bool:
    """Whether the test phase has other images than the training phase; a data mode may ignore ``phase``.

    They are the same if both have the same fingerprint (often a digest of file names alone, and empty by default), the
    same size, and the same first, middle and last item.
    """
    size = len(train_set)
    if (size, train_set.fingerprint) != (len(test_set), test_set.fingerprint):
        return True
    indices = sorted({0, size // 2, size - 1}) if size else []
    try:
        pairs = [(train_set.item(index, 0), test_set.item(index, 0)) for index in indices]
    except Exception:  # An unreadable image is reported when a batch needs it.
        return True
    keys = [key for key in IMAGE_KEYS if key in train_set.keys & test_set.keys]
    return not keys or not all(torch.equal(train[key], test[key]) for train, test in pairs for key in keys)
