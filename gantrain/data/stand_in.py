"""Black images in place of a data set that is missing, so that the rest of a configuration can be tried."""

from __future__ import annotations

import glob
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from gantrain.data.base import Batch, ImageDataset, ImageSpec

SIZE = 1000  # Images.
CLASSES = 10  # As many as the data sets with labels of the experiments have.
TORCHVISION = {"CIFAR10": "cifar-10-batches-py", "CelebA": "celeba"}  # The folders of the others have their names.


class StandIn(ImageDataset):
    """Black images of the size and channels that the configuration of a data set requests.

    Args:
        data: The keys under ``data``.
        domains: ``image``, or ``a`` and ``b``.
        labelled: Whether items have labels.
    """

    held_out = False

    def __init__(self, data: Mapping[str, Any], domains: frozenset[str], *, labelled: bool) -> None:
        size = data.get("crop_size") or data.get("load_size") or 64
        height, width = size if isinstance(size, (list, tuple)) else (size, size)
        gray = data.get("dataset") in ("MNIST", "FashionMNIST")
        first = data.get("channels") or (1 if gray else 3)
        channels = {"a": first, "b": data.get("channels_b") or first}
        if data.get("direction") == "b_to_a":
            channels = {"a": channels["b"], "b": channels["a"]}
        self.labels = [0] * SIZE if labelled else None
        self.spec = ImageSpec(
            height=height,
            width=width,
            channels={domain: channels.get(domain, first) for domain in sorted(domains)},
            depth=dict.fromkeys(sorted(domains), "uint8"),
            class_names=tuple(map(str, range(CLASSES))) if labelled else (),
        )

    def __len__(self) -> int:
        return SIZE

    def item(self, index: int, seed: int) -> Batch:
        """Images (C, H, W) uint8, and ``label`` 0 if there are labels."""
        images = {key: torch.zeros(self.spec.shape(key), dtype=torch.uint8) for key in self.spec.channels}
        return {**images, "name": str(index), **({"label": 0} if self.labels is not None else {})}


def is_missing(data: Mapping[str, Any]) -> bool:
    """Whether the folder of a data set does not exist; nothing is downloaded to find out."""
    mode, root = data.get("mode"), data.get("root")
    if not isinstance(root, str) or mode in ("digits_lmdb", "edges2digits", "digits2stripes"):  # They are made here.
        return False
    folder = Path(root).expanduser()
    if mode == "torchvision":
        name = str(data.get("dataset"))
        return not (folder / TORCHVISION.get(name, name)).exists()
    return not folder.exists() and not glob.has_magic(root) and "{" not in root and "://" not in root
