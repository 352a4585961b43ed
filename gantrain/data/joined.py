"""Data sets one after another."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

from gantrain.data.base import Batch, ImageDataset
from gantrain.data.names import fingerprint_of


class Joined(ImageDataset):
    """The items of several data sets of the same images, such as those of two phases, one after another."""

    def __init__(self, parts: Sequence[ImageDataset]) -> None:
        self._parts = parts
        self._ends = list(accumulate(map(len, parts)))
        self.paired = parts[0].paired
        self._join_labels()

    def _join_labels(self) -> None:
        self.spec = self._parts[0].spec
        labels = [part.labels for part in self._parts if part.labels is not None]
        self.labels = [label for each in labels for label in each] if len(labels) == len(self._parts) else None

    def __len__(self) -> int:
        return self._ends[-1]

    def item(self, index: int, seed: int) -> Batch:
        part = bisect_right(self._ends, index)
        return self._parts[part].item(index - (self._ends[part - 1] if part else 0), seed)

    def use_class_names(self, names: Sequence[str]) -> None:
        for part in self._parts:
            part.use_class_names(names)
        self._join_labels()

    def stamp(self) -> str:
        return fingerprint_of(part.stamp() for part in self._parts)

    def unaugmented(self) -> ImageDataset:
        return Joined([part.unaugmented() for part in self._parts])

    def of_domain(self, domain: str) -> ImageDataset:
        return Joined([part.of_domain(domain) for part in self._parts])
