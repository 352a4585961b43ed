"""Typed keys that would have no effect on a run, which are refused: their runs would be equal."""

from __future__ import annotations

from collections.abc import Sequence

from gantrain.config.overrides import split_override
from gantrain.config.schema import takes
from gantrain.data.base import ImageDataset
from gantrain.errors import ConfigError
from gantrain.models.base import GAN


def refuse_without_effect(overrides: Sequence[str], model: GAN, dataset: ImageDataset) -> None:
    """Refuse an override of a key that the parts of a run list in ``without_effect``; see ``Network``.

    A key directly under ``network`` is refused if no network that takes it uses it.
    """
    readers: dict[str, list[object]] = {
        "model": [model],
        "network.generator": [*model.generators()],
        "network.discriminator": [*model.discriminators()],
        "data": [getattr(dataset, "preprocess", None)],
    }
    networks = readers["network.generator"] + readers["network.discriminator"]
    for override in overrides:
        group, _, key = split_override(override)[0].rpartition(".")
        found = networks if group == "network" else readers.get(group, [])
        found = [each for each in found if each is not None and takes(type(each), key)]
        reasons = [getattr(reader, "without_effect", {}).get(key) for reader in found]
        if reasons and None not in reasons:
            raise ConfigError(f"{override} has no effect: {reasons[0]}")
