"""The keys of ``gantrain test``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from gantrain.config.schema import NonNegativeInt, PositiveInt, UnitFloat
from gantrain.inference.load import NetworkWeights
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
