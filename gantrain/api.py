"""gantrain in Python: what the commands do, as functions that return objects and raise exceptions."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from gantrain.checkpoints.store import Step
from gantrain.cli.arguments import is_sweep, split
from gantrain.cli.compose import compose_once, compose_training, restored_hydra
from gantrain.cli.quoting import quote
from gantrain.cli.resume import resume
from gantrain.errors import ConfigError
from gantrain.inference.load import load
from gantrain.inference.model import Model
from gantrain.report.log import EVALUATIONS, read_lines
from gantrain.report.pages.page import PAGE

PLAIN = re.compile(r"[A-Za-z_][\w./-]*")  # Text that needs no quotation marks.
SPECIAL = {"null", "true", "false", "nan", "inf"}  # Words that are no text without them.

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Run:
    """A run and its folder."""

    folder: Path  # Absolute.

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", Path(self.folder).expanduser().absolute())
        if not self.folder.is_dir():
            raise ConfigError(f"{self.folder}: there is no such folder")

    @property
    def page(self) -> Path:
        """The HTML page of the run."""
        return self.folder / PAGE

    def metrics(self) -> list[dict[str, Any]] | pandas.DataFrame:
        """What was measured in training, one row per step; a data frame where pandas is installed."""
        return _table(self.folder / "metrics.jsonl")

    def losses(self) -> list[dict[str, Any]] | pandas.DataFrame:
        """What was logged in training, one row per logged step; a data frame where pandas is installed."""
        return _table(self.folder / "losses.jsonl")

    def model(self, step: Step | None = None, **options: Any) -> Model:
        """The trained model; for the options see ``gantrain.load``.

        Args:
            step: The step of a checkpoint, or ``best``; None for the newest.
        """
        return load(self.folder, step=step, **options)

    def resume(self, overrides: Sequence[str] = (), /, **settings: Any) -> Run:
        """Resume the run with everything as recorded, or with other settings: ``trainer={"steps": 5000}``."""
        with _undisturbed():
            _check(resume(str(self.folder), [], [*overrides, *as_overrides(settings)]))
        return self

    def test(self, overrides: Sequence[str] = (), /, **settings: Any) -> Path:
        """Make images with the model, as ``gantrain test`` does; returns the folder of the results."""
        from gantrain.test import make_results

        with _undisturbed():
            composed = compose_once("test", [], [*self._words(overrides, settings)])
            page = make_results(composed.config, composed.overrides, data_name=composed.choices.get("data"))
        return page.parent

    def evaluate(self, overrides: Sequence[str] = (), /, **settings: Any) -> list[dict[str, Any]]:
        """Measure the model, as ``gantrain evaluate`` does; returns a dictionary for each checkpoint."""
        from gantrain.evaluate import evaluate

        before = len(read_lines(self.folder / EVALUATIONS))
        with _undisturbed():
            composed = compose_once("evaluate", [], [*self._words(overrides, settings)])
            _check(evaluate(composed.config, composed.overrides))
        return [dict(line) for line in read_lines(self.folder / EVALUATIONS)[before:]]

    def export(self, overrides: Sequence[str] = (), /, **settings: Any) -> list[Path]:
        """Write the model in another format (``format="onnx"``), as ``gantrain export`` does; returns the files."""
        from gantrain.export import export_model

        with _undisturbed():
            composed = compose_once("export", [], [*self._words(overrides, settings)])
            return export_model(composed.config, composed.overrides)

    def predict(self, overrides: Sequence[str] = (), /, **settings: Any) -> None:
        """Apply the model to images (``source="photos", out="results"``), as ``gantrain predict`` does.

        Raises:
            RuntimeError: Some images could not be read; they are listed.
        """
        from gantrain.predict import predict

        with _undisturbed():
            _check(predict(compose_once("predict", [], [*self._words(overrides, settings)]).config))

    def _words(self, overrides: Sequence[str], settings: Mapping[str, Any]) -> Iterator[str]:
        yield f"run={quote(str(self.folder))}"
        yield from overrides
        yield from as_overrides(settings)

    def _repr_png_(self) -> bytes | None:
        """The newest images of the training page, which a notebook shows."""
        images = sorted((self.folder / "images").glob("step_*.png"), key=lambda path: path.stat().st_mtime)
        return images[-1].read_bytes() if images else None


def train(overrides: Sequence[str] = (), /, **settings: Any) -> Run:
    """Train a model, exactly as ``gantrain train`` with the same settings does.

    >>> run = gantrain.train(model="dcgan", data="digits", trainer={"steps": 100})
    >>> run = gantrain.train(["model=dcgan", "trainer.steps=100"])

    A repeated call resumes the run. Ctrl-C (or the stop button of a notebook) saves it.

    Args:
        overrides: As on the command line.
        settings: The same as keywords; dictionaries for the keys of a group.

    Returns:
        The run, which is finished, or was stopped by ``trainer.max_minutes`` or ``objective.patience``.

    Raises:
        ConfigError: The configuration is wrong, or the run can't continue.
        KeyboardInterrupt: The run was interrupted, after it has been saved.
        RuntimeError: A process of the run has failed.
    """
    flags, typed = split([*overrides, *as_overrides(settings)])
    if is_sweep(flags, typed):
        raise ConfigError("gantrain.train trains one run: call it in a loop, or type gantrain train -m")
    from gantrain.train import train as train_run

    with _undisturbed():
        config, recorded, defaults = compose_training(flags, typed)
        _check(train_run(config, recorded, defaults))
    return Run(Path(config["checkpoints_dir"], config["name"]))


def as_overrides(settings: Mapping[str, Any], group: str = "") -> Iterator[str]:
    """The words of a command line for keyword arguments: ``trainer.steps=100`` for ``trainer={"steps": 100}``."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from as_overrides(value, f"{group}{key}.")
        else:
            yield f"{group}{key}={_as_text(value)}"


def _as_text(value: Any) -> str:
    """A value in the grammar of overrides."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(_as_text, value))}]"
    text = str(value)
    plain = isinstance(value, (int, float)) or (PLAIN.fullmatch(text) and text.lower() not in SPECIAL)
    return text if plain else quote(text)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Restore the global state of Hydra, OmegaConf and torch at the end, which belongs to the caller."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    cudnn = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    precision = torch.get_float32_matmul_precision()
    try:
        with restored_hydra(), torch.random.fork_rng(), torch.autograd.set_multithreading_enabled(True):
            yield
    finally:
        torch.use_deterministic_algorithms(deterministic)
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = cudnn
        torch.set_float32_matmul_precision(precision)


def _check(status: int) -> None:
    """Raise what an exit status stands for."""
    if status == 128 + signal.SIGINT:
        raise KeyboardInterrupt
    if status:
        raise RuntimeError(f"gantrain ended with exit status {status}; its messages are above")


def _table(path: Path) -> list[dict[str, Any]] | pandas.DataFrame:
    lines = [dict(line) for line in read_lines(path)]
    try:
        import pandas
    except ImportError:
        return lines
    return pandas.DataFrame(lines)
