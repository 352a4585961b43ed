"""The order in which training draws the items of a data set."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from gantrain.errors import ConfigError
from gantrain.runtime.seeding import derive_seed

# The item of each place in an endless sequence, as (epoch, index): an item has a new epoch whenever it is drawn again.
Order: TypeAlias = Callable[[int], tuple[int, int]]
MOST_SHOWN = 20  # Classes.


def epochs(size: int, seed: int | None) -> Order:
    """Every epoch is a permutation of ``range(size)``; without a seed, it is in order."""
    permutation = lru_cache(maxsize=1)(partial(_permutation, size, seed, "order"))

    def place(position: int) -> tuple[int, int]:
        epoch, within = divmod(position, size)
        return epoch, int(permutation(epoch)[within])

    return place


def balanced(labels: Sequence[int], seed: int | None) -> Order:
    """In every round of as many places as there are classes, each has one item; its items are permuted, repeatedly."""
    numbers = np.asarray(labels)
    members = [np.flatnonzero(numbers == label) for label in np.unique(numbers)]
    turns = lru_cache(maxsize=1)(partial(_permutation, len(members), seed, "classes"))
    orders = [
        lru_cache(maxsize=1)(partial(_permutation, len(items), seed, f"class {number}"))
        for number, items in enumerate(members)
    ]

    def place(position: int) -> tuple[int, int]:
        turn, within = divmod(position, len(members))
        chosen = int(turns(turn)[within])
        epoch, member = divmod(turn, len(members[chosen]))
        return epoch, int(members[chosen][orders[chosen](epoch)[member]])

    return place


def check_balance(labels: Sequence[int] | None) -> None:
    """Refuse ``data.balance`` for labels that it can't balance."""
    if labels is None:
        raise ConfigError(
            "data.balance=true: this data set has no labels; images get them from one sub-folder per class"
        )
    if -1 in labels:
        raise ConfigError("data.balance=true needs the labels of all images: leave out data.labelled")
    if len(set(labels)) < 2:
        raise ConfigError("data.balance=true has no effect: all images are of one class")


def class_counts(labels: Sequence[int], names: Sequence[str]) -> str:
    """The number of images of each class, or of the smallest and the largest of many classes."""
    counts = Counter(labels)
    if len(names) <= MOST_SHOWN:
        return ", ".join(f"{name}: {counts[number]:,}" for number, name in enumerate(names))
    ranked = sorted(range(len(names)), key=lambda number: counts[number])
    few, many = (f"{counts[number]:,} ({names[number]})" for number in (ranked[0], ranked[-1]))
    return f"{len(names):,}, of {few} to {many} images"


def batches(start: int, batch_size: int, share: slice, order: Order) -> Iterator[list[tuple[int, int]]]:
    """A rank's (epoch, index) pairs from global batch ``start`` on."""
    for first in itertools.count(start * batch_size, batch_size):
        yield [order(position) for position in range(first + share.start, first + share.stop)]


def _permutation(size: int, seed: int | None, purpose: str, epoch: int) -> NDArray[np.int64]:
    """The indices of the items in the order of an epoch."""
    if seed is None:
        return np.arange(size)
    generator = torch.Generator().manual_seed(derive_seed(seed, purpose, epoch))
    return torch.randperm(size, generator=generator).numpy()
