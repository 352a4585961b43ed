"""The parts of a configuration that belong to no registered class, and the device and torch's switches."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from gantrain.config.expected import expected_values
from gantrain.config.naming import JOBS, SWEEPS, home_of
from gantrain.config.schema import NonNegativeInt, PositiveInt, Range, UnitFloat
from gantrain.errors import ConfigError

if TYPE_CHECKING:
    import torch  # Where it is needed, it is imported late, so that wrong values are refused without it.

PositiveFloat: TypeAlias = Annotated[float, Range(above=0, at_most=1e12)]

RESERVED = (  # Files and folders beside the runs.
    *("index.html", "index_files", "runs.csv", "runs.json", "reproductions.csv", "reproductions.html", SWEEPS, JOBS),
)
LONGEST_NAME = 200  # In bytes; most file systems allow 255, and suffixes are added.


@dataclass(frozen=True, kw_only=True)
class TrainerSettings:
    """The keys under ``trainer``: where, how precisely and how long a run trains, and when it logs and saves."""

    accelerator: Literal["auto", "cpu", "cuda", "mps"]  # ``auto`` is the first available of cuda, mps and cpu.
    devices: PositiveInt | Literal["auto"]  # Processes, one device each; ``auto`` is every GPU of the machine.
    # Threads of torch on the CPU; ``auto`` measures whether several are faster, unless OMP_NUM_THREADS is set.
    threads: PositiveInt | Literal["auto"]
    # ``bfloat16`` and ``float16`` are autocast, in the networks only; ``auto`` measures whether bfloat16 is faster than
    # float32 here.
    precision: Literal["auto", "float32", "bfloat16", "float16", "float64"]
    deterministic: bool  # Use deterministic GPU kernels only, so that a resumed run is bit-identical.
    compile: bool  # Run networks through ``torch.compile``.
    # Capture steps as CUDA graphs and replay them, which is faster where kernels are small: a step is then one launch.
    # Steps that can't be captured are computed as usual, and a line says why.
    cuda_graphs: bool
    micro_batch: PositiveInt | None  # Images of a process at a time, whose gradients are accumulated; None for all.
    channels_last: bool  # Memory layout of images and convolutions.
    steps: PositiveInt | None  # Generator updates. Exactly one of ``steps``, ``epochs`` and ``kimg`` is given.
    epochs: PositiveFloat | None  # Passes over the training images.
    kimg: PositiveFloat | None  # Thousand images drawn.
    log_every: PositiveInt  # Steps between log lines.
    image_every: PositiveInt  # Steps between images, updates of the page and held-out metrics.
    save_every: PositiveInt  # Steps between checkpoints.
    save_minutes: PositiveFloat | None  # Minutes after which a checkpoint is saved in any case; None for never.
    keep: NonNegativeInt  # The number of newest checkpoints that are not deleted; 0 for all.
    keep_every: PositiveInt | None  # Checkpoints at multiples of this step are not deleted either.
    # A URL (s3://bucket/path, gs://...) or a folder to which the run is copied, and from which it resumes where its own
    # folder has no checkpoint or an older one.
    mirror: str | None
    max_minutes: PositiveFloat | None  # The run saves and stops after this time.
    # The response to a loss or gradient that is not finite: ``stop`` ends the run, ``rollback`` restores the newest
    # checkpoint, or an earlier one if that has failed, and changes the order of the images.
    on_divergence: Literal["stop", "rollback"]
    rollbacks: NonNegativeInt  # The maximum number of rollbacks of a run.

    def __post_init__(self) -> None:
        given = {key: value for key, value in self.length.items() if value is not None}
        if len(given) != 1:
            raise ConfigError(
                "exactly one of trainer.steps, trainer.epochs and trainer.kimg must give the length of the run; given: "
                + (", ".join(f"{key}={value}" for key, value in given.items()) or "none")
            )

    @property
    def length(self) -> dict[str, float | None]:
        """The three ways to give the length, two of which are None."""
        return {"trainer.steps": self.steps, "trainer.epochs": self.epochs, "trainer.kimg": self.kimg}

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of weights and images."""
        import torch

        return torch.float64 if self.precision == "float64" else torch.float32

    @property
    def autocast(self) -> torch.dtype | None:
        """The dtype of autocast in the networks; None for no autocast, and for ``auto``."""
        import torch

        return {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(self.precision)


@dataclass(frozen=True, kw_only=True)
class NetworkSettings:
    """The keys under ``network``."""

    generator: dict[str, Any]  # Its name and keys.
    discriminator: dict[str, Any]  # Its name and keys.
    width: PositiveInt  # Channels of the first layer of networks that have no other width of their own.
    norm: str  # Normalization of networks that have no other of their own; see their key ``norm``.
    dropout: UnitFloat  # Dropout probability of networks that have no other of their own.
    antialias: bool  # Whether networks that can resize without aliasing do so by default.


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """The top level of a training configuration. The dictionaries are checked by what they configure."""

    name: str  # The name of the run folder.
    # The folder with the run folders, the page of all runs and the sweeps; or a URL (``s3://bucket/runs``), whose runs
    # this machine works on in ``$GANTRAIN_CACHE/runs``.
    checkpoints_dir: str
    seed: int  # The seed of all random numbers.
    # ``auto`` resumes from the newest checkpoint of the run folder, ``never`` starts over. The run folder itself also
    # resumes, and other settings then begin a new segment of the run.
    resume: str
    init_from: str | None  # A run folder or ``.pth`` file whose networks to start from.
    plugins: list[str]  # Modules that register classes.
    dry_run: bool  # Print sizes and stop.
    objective: dict[str, Any]  # The logged value that selects the best checkpoint.
    trainer: dict[str, Any]  # Where, how precisely and how long a run trains.
    model: dict[str, Any]  # What a step computes.
    network: dict[str, Any]  # The generator and the discriminator.
    data: dict[str, Any]  # The images.
    optimizer: dict[str, Any]  # How a loss becomes an update.
    schedule: dict[str, Any]  # How the learning rates change.
    logger: dict[str, Any]  # Where values are logged besides the run folder, by name.
    metrics: dict[str, Any] = field(default_factory=dict)  # How good the images are.
    expected: list[Any] = field(default_factory=list)  # What the paper or other code has reached: ``Expected``.

    def __post_init__(self) -> None:
        expected_values(self.expected)
        if not re.fullmatch(r"[\w+-][\w.+-]*", self.name):
            raise ConfigError(
                f"name={self.name}: only letters, digits and . _ + - are allowed, and no dot at the start"
            )
        if self.name.lower() in RESERVED:
            raise ConfigError(f"name={self.name}: reserved for a file beside the runs; give another name")
        if (length := len(self.name.encode())) > LONGEST_NAME:
            raise ConfigError(f"name={self.name}: {length} bytes long; at most {LONGEST_NAME} are allowed")
        if not self.checkpoints_dir.strip():
            raise ConfigError("checkpoints_dir is empty; give a folder, such as checkpoints_dir=checkpoints")
        if self.resume not in ("auto", "never", str(self.folder)):
            raise ConfigError(
                f"resume={self.resume}: give auto, never or, on the command line, the folder of a run that resumes"
            )

    @property
    def runs_folder(self) -> Path:
        """The folder of all runs."""
        return Path(self.checkpoints_dir).expanduser()

    @property
    def home(self) -> Path | None:
        """The folder whose page lists this run: of a run of a sweep, the one above; None if the sweep is elsewhere."""
        return home_of(self.runs_folder)

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self.runs_folder / self.name


def choose_device(accelerator: str, index: int = 0) -> torch.device:
    """The configured device; raises ``ConfigError`` if this machine has no such device."""
    import torch

    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    available = [name for name, is_present in present.items() if is_present]
    if accelerator == "auto":
        accelerator = available[0]
    if accelerator not in available:
        names = ", ".join(available)
        raise ConfigError(f"trainer.accelerator={accelerator}: not available on this machine (available: {names})")
    if accelerator == "cuda" and index >= torch.cuda.device_count():
        raise ConfigError(
            f"trainer.devices: GPU number {index} is not available, there are {torch.cuda.device_count()}"
        )
    return torch.device(accelerator, index) if accelerator == "cuda" else torch.device(accelerator)


def count_processes(settings: TrainerSettings) -> int:
    """The number of processes that ``trainer.devices`` requests; raises ``ConfigError`` if there are fewer devices."""
    import torch

    device = choose_device(settings.accelerator)
    gpus = torch.cuda.device_count() if device.type == "cuda" else 1
    count = gpus if settings.devices == "auto" else settings.devices
    if device.type == "cuda" and count > gpus:
        raise ConfigError(f"trainer.devices ({count}): this machine has {gpus} GPU{'s' * (gpus > 1)}")
    if device.type == "mps" and count > 1:
        raise ConfigError(f"trainer.devices ({count}): mps is a single device")
    return count


def set_up_torch(settings: TrainerSettings, device: torch.device) -> None:
    """Set torch's global switches: TF32 and cuDNN's search on a GPU, or deterministic kernels."""
    import torch

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # Deterministic matrix products need it.
    if torch.are_deterministic_algorithms_enabled() != settings.deterministic:  # The call imports torch's compiler.
        torch.use_deterministic_algorithms(settings.deterministic)
    # On a GPU, backward passes run in another thread, and gradients are summed by its count of graph nodes.
    # A resumed run starts that count at 0, which would change the order after a gradient penalty.
    torch.autograd.set_multithreading_enabled(not settings.deterministic)
    if device.type == "cuda":
        torch.cuda.set_device(device)
        torch.backends.cudnn.deterministic = settings.deterministic
        torch.backends.cudnn.benchmark = not settings.deterministic
        torch.set_float32_matmul_precision("highest" if settings.deterministic else "high")
