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
    weights: str | None  # Instead of a run, a generator of pytorch-CycleGAN-and-pix2pix: latest_net_G.pth.
    step: NonNegativeInt | Literal["best"] | None  # The step of the checkpoint, or ``best``; null for the newest.
    # Folder for the results; null for ``results/<phase>_<step>`` in the run folder, or ``results/<file>`` with weights.
    out: str | None
    # Samples (null for 64), rounded up to equally many of each class; or images to translate, null for all.
    num: PositiveInt | None
    # The classes to generate, by number or by name, as in [3,cat]; null for all.
    labels: NonNegativeInt | str | list[NonNegativeInt | str] | None
    seed: NonNegativeInt  # The seed of the noise.
    direction: Direction | None  # The direction to translate in; null for every direction of the model.
    phase: str  # The phase of the data that is translated.
    batch_size: PositiveInt  # Images translated at a time in ``network_mode=eval``, where it only affects rounding.
    # ``train``: dropout, and batch norm by the statistics of each image if the run was trained on single images, else
    # by its running statistics. ``per_image``: dropout, and always the statistics of each image. ``eval``: no dropout,
    # and running statistics.
    network_mode: NetworkMode
    # The dropout rate of a U-Net given as ``weights``, whose file does not contain it; null for 0.5, that of pix2pix.
    dropout: UnitFloat | None
    network_weights: NetworkWeights  # ``average`` (EMA), ``last``, or ``auto``: the average if the run has one.
    accelerator: Literal["auto", "cpu", "cuda", "mps"]  # The device; ``auto`` is the first available.
    plugins: list[str]  # Modules that register classes; required again for a run that was trained with plugins.
    trust_plugins: bool  # true imports every module that the run's checkpoint names, and so runs its code.
    data: dict[str, Any] | None  # Other data than the run's; None for the run's data.


@dataclass(frozen=True, kw_only=True)
class PredictSettings:
    """The keys of ``gantrain predict``."""

    run: str | None  # A run folder, or the name of a run in ``checkpoints_dir``.
    checkpoints_dir: str  # The folder that contains the run folders.
    weights: str | None  # Instead of a run, a generator of pytorch-CycleGAN-and-pix2pix: latest_net_G.pth.
    step: NonNegativeInt | Literal["best"] | None  # The step of the checkpoint, or ``best``; null for the newest.
    # Folder for the results; a file for a single image, stack, video or animation; or ``-`` for standard output.
    out: str | None
    overwrite: bool  # Whether results that are there already are replaced.
    # Of models that translate.
    # An image, a folder, a pattern ('photos/**/*.jpg'), a video, a stack (.npy), or ``-`` for standard input.
    source: str | None
    direction: Direction | None  # The direction to translate in; null for the first that the model has.
    batch_size: BatchSize  # Images of one size translated at a time; it only affects rounding.
    # ``train``: dropout, and batch norm by the statistics of each image if the run was trained on single images, else
    # by its running statistics. ``per_image``: dropout, and always the statistics of each image. ``eval``: no dropout,
    # and running statistics.
    network_mode: NetworkMode
    # The dropout rate of a U-Net given as ``weights``, whose file does not contain it; null for 0.5, that of pix2pix.
    dropout: UnitFloat | None
    # ``whole``, ``strips`` (the same result in little memory), or ``auto``: strips if the whole does not fit.
    memory: Memory
    # GPUs that translate batches in turns; ``auto`` is every one of the machine.
    devices: PositiveInt | Literal["auto"]
    # Of models that generate from noise.
    num: PositiveInt | None  # Samples; null for 64.
    # The classes to generate, by number or by name, as in [3,cat]; null for all.
    labels: NonNegativeInt | str | list[NonNegativeInt | str] | None
    seed: NonNegativeInt  # The seed of the noise.
    truncation: (
        PositiveFloat | None
    )  # Largest absolute value of normal noise, as 0.7: less variety, often better images.
    interpolate: PositiveInt | None  # Frames from one sample to the next in an animation; null for none.
    animation: Literal["gif", "mp4"]  # Its format; ``mp4`` needs pip install 'gantrain[video]'.
    # Of all.
    network_weights: NetworkWeights  # ``average`` (EMA), ``last``, or ``auto``: the average if the run has one.
    precision: Literal["float32", "bfloat16", "float16"]  # The last two are faster on most GPUs, and less exact.
    accelerator: Literal["auto", "cpu", "cuda", "mps"]  # The device; ``auto`` is the first available.
    plugins: list[str]  # Modules that register classes; required again for a run that was trained with plugins.
    trust_plugins: bool  # true imports every module that the run's checkpoint names, and so runs its code.

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
