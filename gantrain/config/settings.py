"""The parts of a configuration that are not a registered class: how a run runs, and on what."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import torch

from gantrain.config.schema import NonNegativeInt, PositiveInt, Range, UnitFloat
from gantrain.errors import ConfigError

PositiveFloat: TypeAlias = Annotated[float, Range(above=0, at_most=1e12)]

CHECKPOINTS = Path("checkpoints")
RESERVED = ("index.html", "index_files", "sweeps")  # which stand beside the runs
LONGEST_NAME = 200  # bytes; most file systems take 255, and endings are added
HALF = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, kw_only=True)
class TrainerSettings:
    """The keys under ``trainer``: where and how precisely a run runs, how long, and what it leaves when.

    Attributes:
        accelerator: ``auto`` takes the first there is of cuda, mps and cpu.
        devices: ProcessCount, one device each; ``auto`` is every GPU of the machine.
        precision: ``bfloat16`` and ``float16`` are autocast in the networks alone.
        deterministic: Refuse GPU kernels whose results vary.
        compile: Run networks through ``torch.compile``.
        channels_last: Memory layout of images and convolutions.
        steps: Generator updates; of ``steps``, ``epochs`` and ``kimg`` (thousand images) exactly one is given.
        epochs: See ``steps``.
        kimg: See ``steps``.
        log_every: In steps, as the next two.
        image_every: Images, page and held-out figures.
        save_every: Checkpoints.
        save_minutes: Minutes between checkpoints, besides; None for no others.
        keep: How many of the newest checkpoints stay; 0 keeps all.
        keep_every: Checkpoints of steps that this divides stay too.
        max_minutes: After so many the run saves and stops.
        on_divergence: What a loss or gradient that is not finite does: ``stop`` ends the run, ``rollback`` goes back to
            the newest checkpoint, or further where that was in vain, and on with the images in another order.
        rollbacks: How often, at most, in the whole run.
    """

    accelerator: Literal["auto", "cpu", "cuda", "mps"]
    devices: PositiveInt | Literal["auto"]
    precision: Literal["float32", "bfloat16", "float16", "float64"]
    deterministic: bool
    compile: bool
    channels_last: bool
    steps: PositiveInt | None
    epochs: PositiveFloat | None
    kimg: PositiveFloat | None
    log_every: PositiveInt
    image_every: PositiveInt
    save_every: PositiveInt
    save_minutes: PositiveFloat | None
    keep: NonNegativeInt
    keep_every: PositiveInt | None
    max_minutes: PositiveFloat | None
    on_divergence: Literal["stop", "rollback"]
    rollbacks: NonNegativeInt

    def __post_init__(self) -> None:
        given = {key: value for key, value in self.length.items() if value is not None}
        if len(given) != 1:
            raise ConfigError(
                "exactly one of trainer.steps, trainer.epochs and trainer.kimg says how long to train; given: "
                + (", ".join(f"{key}={value}" for key, value in given.items()) or "none")
            )

    @property
    def length(self) -> dict[str, float | None]:
        """The three ways to say how long, two of them None."""
        return {"trainer.steps": self.steps, "trainer.epochs": self.epochs, "trainer.kimg": self.kimg}

    @property
    def dtype(self) -> torch.dtype:
        """Of weights and images."""
        return torch.float64 if self.precision == "float64" else torch.float32

    @property
    def autocast(self) -> torch.dtype | None:
        """Of the networks' insides, where it differs."""
        return HALF.get(self.precision)


@dataclass(frozen=True, kw_only=True)
class NetworkSettings:
    """The keys under ``network``.

    Attributes:
        generator: Its name and keys.
        discriminator: Its name and keys.
        width: What convolutional networks take as theirs unless told otherwise, as the next two; the YAML files of the
            networks refer to these three.
        norm: See above.
        dropout: See above.
    """

    generator: dict[str, Any]
    discriminator: dict[str, Any]
    width: PositiveInt
    norm: str
    dropout: UnitFloat


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """The top level of a training configuration. The dictionaries are read by those that they configure.

    Attributes:
        name: Of the run folder below ``checkpoints``.
        seed: Decides everything.
        resume: ``auto`` goes on where the folder's newest checkpoint stands, ``never`` starts over.
        init_from: A run folder whose networks to start from.
        plugins: Modules that register classes.
        dry_run: Print sizes and stop.
        objective: The logged value that the best checkpoint has.
    """

    name: str
    seed: int
    resume: Literal["auto", "never"]
    init_from: str | None
    plugins: list[str]
    dry_run: bool
    objective: dict[str, Any]
    trainer: dict[str, Any]
    model: dict[str, Any]
    network: dict[str, Any]
    data: dict[str, Any]
    optimizer: dict[str, Any]
    schedule: dict[str, Any]
    logger: dict[str, Any]

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w+-][\w.+-]*", self.name):
            raise ConfigError(f"name={self.name}: must be of letters, digits and . _ + - alone, the first no dot")
        if self.name.lower() in RESERVED:
            raise ConfigError(f"name={self.name}: is what gantrain keeps beside the runs; give another")
        if (length := len(self.name.encode())) > LONGEST_NAME:
            raise ConfigError(f"name={self.name}: has {length} bytes, and file systems take {LONGEST_NAME} with safety")


def choose_device(accelerator: str, index: int = 0) -> torch.device:
    """The device that the configuration names.

    Raises:
        ConfigError: This machine has no such device.
    """
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if accelerator == "auto":
        accelerator = next(name for name, is_there in present.items() if is_there)
    if not present[accelerator]:
        there = ", ".join(name for name, is_there in present.items() if is_there)
        raise ConfigError(f"trainer.accelerator={accelerator}: this machine has none (it has: {there})")
    if accelerator == "cuda" and index >= torch.cuda.device_count():
        raise ConfigError(f"trainer.devices: GPU number {index} asked for, {torch.cuda.device_count()} there")
    return torch.device(accelerator, index) if accelerator == "cuda" else torch.device(accelerator)


def count_processes(settings: TrainerSettings) -> int:
    """How many processes ``trainer.devices`` asks for on this machine.

    Raises:
        ConfigError: That many devices are not there.
    """
    device = choose_device(settings.accelerator)
    gpus = torch.cuda.device_count() if device.type == "cuda" else 1
    count = gpus if settings.devices == "auto" else settings.devices
    if device.type == "cuda" and count > gpus:
        raise ConfigError(f"trainer.devices ({count}): this machine has {gpus} GPU{'s' * (gpus > 1)}")
    if device.type == "mps" and count > 1:
        raise ConfigError(f"trainer.devices ({count}): mps is one device")
    return count


def set_up_torch(settings: TrainerSettings, device: torch.device) -> None:
    """The global switches: TF32 and cuDNN's search on a GPU, or deterministic kernels."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it, deterministic matrix products are refused
    torch.use_deterministic_algorithms(settings.deterministic)
    if device.type == "cuda":
        torch.cuda.set_device(device)
        torch.backends.cudnn.deterministic = settings.deterministic
        torch.backends.cudnn.benchmark = not settings.deterministic
        torch.set_float32_matmul_precision("highest" if settings.deterministic else "high")
