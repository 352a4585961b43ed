"""Images in place of a data set: black ones if it is missing, to try a configuration, or random ones to measure it."""

from __future__ import annotations

import glob
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch

from gantrain.data.base import Batch, ImageDataset, ImageSpec

T = TypeVar("T", bound="StandIn")

SIZE = 1000  # Images.
STORED = 64  # Different random images.
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
        gray = data.get("mode") == "digits" or data.get("dataset") in ("MNIST", "FashionMNIST")
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

    @classmethod
    def of(cls: type[T], data: Mapping[str, Any], needs: frozenset[str]) -> T:
        """Those for a model that needs these keys of a batch."""
        # Experiments with data sets of torchvision may depend on their labels in other ways.
        labelled = "label" in needs or (data.get("mode") == "torchvision" and data["dataset"] != "CelebA")
        return cls(data, needs - {"label"} or frozenset({"image"}), labelled=labelled)

    def __len__(self) -> int:
        return SIZE

    def item(self, index: int, seed: int) -> Batch:
        """Images (C, H, W) uint8, and ``label`` 0 if there are labels."""
        images = {key: torch.zeros(self.spec.shape(key), dtype=torch.uint8) for key in self.spec.channels}
        return {**images, "name": str(index), **({"label": 0} if self.labels is not None else {})}


class RandomImages(StandIn):
    """Random images and labels in memory, which take hardly any time to read; for the arguments see ``StandIn``."""

    in_memory = True

    def __init__(self, data: Mapping[str, Any], domains: frozenset[str], *, labelled: bool) -> None:
        super().__init__(data, domains, labelled=labelled)
        draws = torch.Generator().manual_seed(0)
        self._images = {
            key: torch.randint(256, (STORED, *self.spec.shape(key)), dtype=torch.uint8, generator=draws)
            for key in self.spec.channels
        }
        if labelled:
            self.labels = torch.randint(CLASSES, (SIZE,), generator=draws).tolist()

    def item(self, index: int, seed: int) -> Batch:
        images = {key: images[index % STORED] for key, images in self._images.items()}
        return {**images, "name": str(index), **({"label": self.labels[index]} if self.labels is not None else {})}

    def items(self, indices: Sequence[int], seeds: Sequence[int]) -> Batch:
        places = [index % STORED for index in indices]
        batch: Batch = {key: images[places] for key, images in self._images.items()}
        if self.labels is not None:
            batch["label"] = torch.tensor([self.labels[index] for index in indices])
        return batch | {"name": [str(index) for index in indices]}


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
