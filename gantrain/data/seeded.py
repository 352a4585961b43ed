"""The batches of a stream, made in its workers from the (epoch, index) of their items."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import partial

from torch.utils.data import Dataset

from gantrain.data.base import Batch, ImageDataset, collate
from gantrain.data.errors import OnError, as_config_error, get_item, next_readable
from gantrain.data.images.deferred import KEYS
from gantrain.data.slots import Slots
from gantrain.errors import ConfigError
from gantrain.runtime.seeding import derive_seed

REPLACED = "replaced"  # The key of a batch for the errors of items that were replaced.


class Seeded(Dataset[Batch]):
    """Batches by the (epoch, index) of their items, each with its own seed."""

    def __init__(
        self, dataset: ImageDataset, seed: int, on_error: OnError, slots: Slots | None, *, defers: bool
    ) -> None:
        self._dataset = dataset
        self._deferring = dataset.deferring() if defers else None
        self._seed = seed
        self._on_error = on_error
        self.slots = slots  # What ``stack`` uses.

    def __getitems__(self, keys: Sequence[tuple[int, int]]) -> Batch:
        if self.slots is None:
            return self._batch(keys)
        self.slots.next_slot()
        return self.slots.sent(self._batch(keys))

    def on_cpu(self, keys: Sequence[tuple[int, int]]) -> Batch:
        """A batch without deferred images."""
        indices, seeds = self._seeded(keys)
        try:
            with as_config_error("make a batch of the data"):
                return self._dataset.items(indices, seeds)
        except ConfigError:
            if self._on_error == "raise":
                for index, seed in zip(indices, seeds, strict=True):  # Raise the error of the item that fails.
                    get_item(self._dataset, index, seed)
                raise
        found = [next_readable(self._dataset, index, partial(self._seed_of, epoch)) for epoch, index in keys]
        return {**collate([item for item, _ in found]), REPLACED: [reasons for _, reasons in found if reasons]}

    def _seeded(self, keys: Sequence[tuple[int, int]]) -> tuple[list[int], list[int]]:
        return [index for _, index in keys], [self._seed_of(epoch, index) for epoch, index in keys]

    def _seed_of(self, epoch: int, index: int) -> int:
        return derive_seed(self._seed, "item", epoch, index)

    def _batch(self, keys: Sequence[tuple[int, int]]) -> Batch:
        if self._deferring is not None:
            # Errors of any kind are reported, or the images replaced, below.
            with suppress(ConfigError), as_config_error("make a batch of the data"):
                return {**self._deferring.items(*self._seeded(keys)), KEYS: list(keys)}
        return self.on_cpu(keys)
