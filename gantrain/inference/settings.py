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
    checkpoints_dir: str  # The folder that holds the run folders.
    weights: str | None  # Instead of a run, a generator file of pytorch-CycleGAN-and-pix2pix.
    # The step of one of the run's checkpoints, or ``best``; None for the newest.
    step: NonNegativeInt | Literal["best"] | None
    # Folder for the results; None for ``results/<phase>_<step>`` in the run folder, or ``results/<file stem>``. Results
    # of an earlier call are replaced once the new ones are complete.
    out: str | None
    # How many samples, rounded up so that every class gets as many; or how many images to translate, None for all.
    num: PositiveInt | None
    labels: list[NonNegativeInt] | None  # The class numbers to generate; None for all.
    seed: NonNegativeInt  # Of the noise.
    direction: Direction | None  # In which to translate; None for every direction of the model.
    phase: str  # The phase of the data that is translated.
    # Images translated at a time in ``network_mode=eval``, where results depend on it by rounding only; with ``train``
    # they are translated one by one.
    batch_size: PositiveInt
    # ``train`` keeps dropout and takes batch norm's statistics from each image, as pix2pix does.
    network_mode: NetworkMode
    # Of a U-Net given as ``weights``, whose file does not contain it; None for that of pix2pix.
    dropout: UnitFloat | None
    # ``average`` are the moving averages, ``last`` the trained weights; ``auto`` takes the averages if the run has any.
    network_weights: NetworkWeights
    accelerator: Literal["auto", "cpu", "cuda", "mps"]  # As in training.
    plugins: list[str]  # Modules that register classes.
    trust_plugins: bool  # Also import those that the run's checkpoint names.
    data: dict[str, Any] | None  # Other data than the run's; None for the run's own.
