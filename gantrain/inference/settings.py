"""The keys of ``gantrain test``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from gantrain.config.schema import NonNegativeInt, PositiveInt, UnitFloat
from gantrain.inference.load import NetworkWeights
from gantrain.models.translation import Direction, NetworkMode


@dataclass(frozen=True, kw_only=True)
class TestSettings:
    """The keys of ``gantrain test``.

    Attributes:
        run: A run folder, or the name of a run in ``checkpoints_dir``.
        checkpoints_dir: The folder that holds the run folders.
        weights: Instead of a run, a generator file of pytorch-CycleGAN-and-pix2pix.
        step: The step of one of the run's checkpoints, or ``best``; None for the newest.
        out: Folder for the results; None for ``results/<phase>_<step>`` in the run folder, or ``results/<file stem>``.
            Results of an earlier call are replaced once the new ones are complete.
        num: How many samples, rounded up so that every class gets as many; or how many images to translate, None for
            all.
        labels: The class numbers to generate; None for all.
        seed: Of the noise.
        direction: In which to translate; None for every direction of the model.
        phase: The phase of the data that is translated.
        batch_size: Images translated at a time in ``network_mode=eval``, where results depend on it by rounding only;
            with ``train`` they are translated one by one.
        network_mode: ``train`` keeps dropout and takes batch norm's statistics from each image, as pix2pix does.
        dropout: Of a U-Net given as ``weights``, whose file does not contain it; None for that of pix2pix.
        network_weights: ``average`` are the moving averages, ``last`` the trained weights; ``auto`` takes the averages
            if the run has any.
        accelerator: As in training.
        plugins: Modules that register classes.
        trust_plugins: Also import those that the run's checkpoint names.
        data: Other data than the run's; None for the run's own.
    """

    __test__ = False  # pytest must not collect it.

    run: str | None
    checkpoints_dir: str
    weights: str | None
    step: NonNegativeInt | Literal["best"] | None
    out: str | None
    num: PositiveInt | None
    labels: list[NonNegativeInt] | None
    seed: NonNegativeInt
    direction: Direction | None
    phase: str
    batch_size: PositiveInt
    network_mode: NetworkMode
    dropout: UnitFloat | None
    network_weights: NetworkWeights
    accelerator: Literal["auto", "cpu", "cuda", "mps"]
    plugins: list[str]
    trust_plugins: bool
    data: dict[str, Any] | None
