"""The keys of ``gantrain test`` and of ``gantrain predict``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from gantrain.config.schema import BatchSize, NonNegativeInt, PositiveInt, UnitFloat
from gantrain.config.settings import PositiveFloat
from gantrain.errors import ConfigError
from gantrain.inference.load import NetworkWeights
from gantrain.inference.memory import Memory
from gantrain.models.translation import Direction, NetworkMode


@dataclass(frozen=True, kw_only=True)
class TestSettings:
    """The keys of ``gantrain test``."""

    __test__ = False  # pytest must not collect it.

    run: str | None  # A run folder, or the name of a run in ``checkpoints_dir``.
    checkpoints_dir: str  # The folder that contains the run folders.
    weights: str | None  # Instead of a run, a generator file of pytorch-CycleGAN-and-pix2pix.
    # The step of one of the run's checkpoints, or ``best``; None for the newest.
    step: NonNegativeInt | Literal["best"] | None
    # Folder for the results; None for ``results/<phase>_<step>`` in the run folder, or ``results/<file stem>``.
    out: str | None
    # Number of samples, rounded up to equally many of each class; or number of images to translate, None for all.
    num: PositiveInt | None
    # The classes to generate, by number or by name; None for all.
    labels: NonNegativeInt | str | list[NonNegativeInt | str] | None
    seed: NonNegativeInt  # The seed of the noise.
    direction: Direction | None  # The direction to translate in; None for every direction of the model.
    phase: str  # The phase of the data that is translated.
    batch_size: PositiveInt  # Images translated at a time in ``network_mode=eval``, where it only affects rounding.
    # ``train``: dropout, and batch norm by the statistics of each image if the run was trained on single images, else
    # by its running statistics. ``per_image``: always by those of each image.
    network_mode: NetworkMode
    # The dropout rate of a U-Net given as ``weights``, whose file does not contain it; None for that of pix2pix.
    dropout: UnitFloat | None
    # ``average`` are the moving averages, ``last`` the trained weights; ``auto`` takes the averages if the run has any.
    network_weights: NetworkWeights
    accelerator: Literal["auto", "cpu", "cuda", "mps"]  # As in training.
    plugins: list[str]  # Modules that register classes.
    trust_plugins: bool  # Also import the modules that the run's checkpoint names.
    data: dict[str, Any] | None  # Other data than the run's; None for the run's data.


@dataclass(frozen=True, kw_only=True)
class PredictSettings:
    """The keys of ``gantrain predict``."""

    run: str | None  # A run folder, or the name of a run in ``checkpoints_dir``.
    checkpoints_dir: str  # The folder that contains the run folders.
    weights: str | None  # Instead of a run, a generator file of pytorch-CycleGAN-and-pix2pix.
    step: NonNegativeInt | Literal["best"] | None  # Of the checkpoint; None for the newest.
    out: str | None  # The folder for the results, a file for a single one, or ``-``; see ``results_of``.
    overwrite: bool  # Whether results that are there already are replaced.
    # Of models that translate.
    source: str | None  # What is translated; see ``find_source``.
    direction: Direction | None  # None for the first direction of the model.
    batch_size: BatchSize  # Images of one size translated at a time; it only affects rounding.
    network_mode: NetworkMode  # As in ``gantrain test``.
    dropout: UnitFloat | None  # As in ``gantrain test``.
    memory: Memory  # Whether images are translated whole or in strips.
    devices: PositiveInt | Literal["auto"]  # That translate batches in turns; ``auto`` is every GPU of the machine.
    # Of models that generate from noise.
    num: PositiveInt | None  # As in ``gantrain test``.
    labels: NonNegativeInt | str | list[NonNegativeInt | str] | None  # As in ``gantrain test``.
    seed: NonNegativeInt  # The seed of the noise.
    truncation: PositiveFloat | None  # The largest absolute value of normal noise; None for any.
    interpolate: PositiveInt | None  # Frames from one sample to the next; None for no animation.
    animation: Literal["gif", "mp4"]  # Its format.
    # Of all.
    network_weights: NetworkWeights  # As in ``gantrain test``.
    precision: Literal["float32", "bfloat16", "float16"]  # The last two are autocast.
    accelerator: Literal["auto", "cpu", "cuda", "mps"]  # As in training.
    plugins: list[str]  # Modules that register classes.
    trust_plugins: bool  # Also import the modules that the run's checkpoint names.

    def __post_init__(self) -> None:
        if (self.run is None) == (self.weights is None):
            problem = "run is missing" if self.run is None else "run and weights exclude each other"
            raise ConfigError(f"{problem}: give run={self.checkpoints_dir}/NAME or weights=FILE.pth")
        if self.run is not None and self.dropout is not None:
            raise ConfigError(f"dropout={self.dropout} is for weights=FILE.pth: a run has its own")
        if self.out is None:
            raise ConfigError("out is missing: give out=FOLDER")

    def refuse(self, keys: Sequence[str], reason: str) -> None:
        """Refuse keys that would have no effect."""
        for key in keys:
            if (value := getattr(self, key)) is not None:
                raise ConfigError(f"{key}={value}: {reason}")
