"""The keys under ``data``, split into those of the data set, the stream of batches, the selection and the cache."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from gantrain.config.schema import Fraction, PositiveInt, checked, construct
from gantrain.data.base import ImageDataset, Selection, first_of_each_class
from gantrain.data.held_out import is_held_out
from gantrain.data.images.cache import Cache
from gantrain.data.names import phase_of
from gantrain.data.stream import BatchStream
from gantrain.errors import ConfigError
from gantrain.registry import DATASETS
from gantrain.runtime import distributed

STREAM_KEYS = ("batch_size", "num_workers", "on_error", "balance", "decode_device")
CACHE_KEYS = ("cache", "cache_limit")


@dataclass(frozen=True, kw_only=True)
class SelectionSettings:
    """Which items of a data set are used."""

    fraction: Fraction | None = None  # The fraction that is drawn at random, by the seed.
    max_size: PositiveInt | None = None  # The maximum number of these: the first ones are used.
    labelled: PositiveInt | None = None  # The number of training items with labels; those of all others are hidden.


SELECTION_KEYS = tuple(field.name for field in fields(SelectionSettings))


@dataclass(frozen=True)
class DataSettings:
    """The keys under ``data``."""

    dataset: dict[str, Any]  # ``mode`` and the keys of that data set's class.
    stream: dict[str, Any]  # Those of ``STREAM_KEYS`` that are given.
    selection: SelectionSettings
    cache: Cache

    @classmethod
    def split(cls, data: Mapping[str, Any]) -> DataSettings:
        """Split the keys and check all but those of the data set, whose class checks them when it is built."""
        hints = typing.get_type_hints(BatchStream.__init__, include_extras=True)
        parts: dict[str, dict[str, Any]] = {"dataset": {}, "stream": {}, "selection": {}, "cache": {}}
        owners = {"stream": STREAM_KEYS, "selection": SELECTION_KEYS, "cache": CACHE_KEYS}
        for key, value in data.items():
            owner = next((owner for owner, keys in owners.items() if key in keys), "dataset")
            parts[owner][key] = checked(value, hints[key], f"data.{key}") if owner == "stream" else value
        if parts["cache"].get("cache") is False:  # YAML reads `off` as false.
            parts["cache"]["cache"] = "off"
        if parts["stream"].get("decode_device") == "cuda":
            if parts["cache"].get("cache") in ("disk", "memory"):
                raise ConfigError(
                    f"data.cache={parts['cache']['cache']} stores images that the CPU decodes once, and "
                    "data.decode_device=cuda decodes them on the GPU in every epoch: leave one of them out"
                )
            parts["cache"]["encoded_only"] = True
        return cls(
            dataset=parts["dataset"],
            stream=parts["stream"],
            selection=construct(SelectionSettings, parts["selection"], key="data"),
            cache=construct(Cache, parts["cache"], key="data"),
        )

    def build(self, *, phase: str, seed: int = 0) -> ImageDataset:
        """The selected items of the data set of a phase: ``train``, ``test`` or any other that it has.

        Other usual names of a phase (``SPELLINGS``) mean the same.

        Raises:
            ConfigError: The data set can't be built, or ``data.labelled`` is given and it has no labels.
        """
        also = (*STREAM_KEYS, *SELECTION_KEYS, *CACHE_KEYS)
        phase = phase_of(phase)
        dataset: ImageDataset = DATASETS.build(self.dataset, also=also, phase=phase)
        for reader in getattr(dataset, "readers", {}).values():
            reader.source.keep(self.cache.bytes_of_files)
        selection = self.selection
        if selection.labelled is not None and dataset.labels is None:
            raise ConfigError(f"data.labelled={selection.labelled}: this data set has no labels{because(dataset)}")
        if selection.fraction is not None:
            dataset = dataset.sample(selection.fraction, seed)
        if selection.max_size is not None:
            dataset = dataset.first(selection.max_size)
        if selection.labelled is not None and phase == "train":
            assert dataset.labels is not None
            known = first_of_each_class(dataset.labels, selection.labelled)
            dataset = Selection(dataset, range(len(dataset)), known)
        return dataset

    def build_test_set(self, train_set: ImageDataset, *, seed: int = 0) -> ImageDataset | None:
        """The items of the test phase; None if they are those of the ``train_set``."""
        if not train_set.held_out:
            return None
        test_set = self.build(phase="test", seed=seed)
        if is_held_out(train_set, test_set):
            return test_set
        distributed.print_rank_zero(
            f"warning: data.mode={self.dataset.get('mode')} has the same images in the phases train and test, so no "
            "images are held out"
        )
        return None


def because(dataset: ImageDataset) -> str:
    """The end of a message that a data set has no labels: why, if that is known."""
    return f" ({dataset.unlabelled})" if dataset.unlabelled else ""


def build_dataset(data: Mapping[str, Any], *, phase: str, seed: int = 0) -> ImageDataset:
    """The data set of a phase from all keys under ``data``; those of the stream have no effect."""
    return DataSettings.split(data).build(phase=phase, seed=seed)
