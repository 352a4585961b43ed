"""The checkpoints of a run, written in the background."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch

from gantrain.checkpoints import file as checkpoint_file
from gantrain.checkpoints.file import CorruptCheckpointError
from gantrain.errors import ConfigError
from gantrain.runtime import distributed

Step: TypeAlias = int | Literal["best"]


def clone_to_cpu(state: Any) -> Any:
    """A nested state with copies of its tensors on the CPU, which share no memory with it."""
    if isinstance(state, torch.Tensor):
        return state.detach().to("cpu", copy=True)
    if isinstance(state, dict):
        return {key: clone_to_cpu(value) for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        return type(state)([clone_to_cpu(value) for value in state])
    return state


@contextmanager
def explain_mismatch(state: Mapping[str, Any], folder: Path) -> Iterator[None]:
    """Report what a checkpoint lacks or has in other shapes than the run, as when a plug-in has changed since."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError) as error:
        lines = str(error).splitlines() or [type(error).__name__]  # The last line of torch's names a tensor.
        raise ConfigError(
            f"the checkpoint of step {state['step']} in {folder} does not fit this run ({lines[-1].strip()[:300]}): "
            "give another name=..., or resume=never to start over"
        ) from error


class Checkpoints:
    """The ``step_<n>.pt`` files of a run folder, and its ``best.pt``.

    Args:
        folder: The run folder.
        keep: How many of the newest to keep; 0 for all.
        keep_every: Also keep those of steps that are multiples of this; None for no others.
        claim: Called before anything is written; raises ``ConfigError`` if another run has taken over the folder.
    """

    def __init__(
        self, folder: Path, *, keep: int = 0, keep_every: int | None = None, claim: Callable[[], None] = lambda: None
    ) -> None:
        self.folder = folder
        self._keep = keep
        self._keep_every = keep_every
        self._claim = claim
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None

    def steps(self) -> list[int]:
        """The steps that have a checkpoint, ascending."""
        names = (re.fullmatch(r"step_(0|[1-9][0-9]*)\.pt", path.name) for path in self.folder.glob("step_*.pt"))
        return sorted(int(name[1]) for name in names if name)

    def path(self, step: Step) -> Path:
        """The file of a step."""
        return self.folder / ("best.pt" if step == "best" else f"step_{step}.pt")

    def paths(self) -> list[Path]:
        """All files, newest first, and the best one last (the same file as one of them, or an older one)."""
        best = self.path("best")
        return [*map(self.path, reversed(self.steps())), *([best] if best.exists() else [])]

    def save(self, state: dict[str, Any], *, best: bool = False) -> None:
        """Copy ``state``, write it under its ``step`` in the background, then delete checkpoints that are not kept.

        Waits first if the previous one is still being written. ``best`` is also written as ``best.pt``.

        Raises:
            ConfigError: As for ``raise_pending``.
        """
        self.wait()
        self._claim()
        self._writing = self._pool.submit(self._write, clone_to_cpu(state), best)

    def wait(self) -> None:
        """Wait until the last one is on the disk.

        Raises:
            ConfigError: It could not be written; earlier ones are unchanged.
        """
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def raise_pending(self) -> None:
        """Raise the error of the last one without waiting for it.

        Raises:
            ConfigError: It could not be written, or another run has taken over the folder.
        """
        self._claim()
        if self._writing is not None and self._writing.done():
            self.wait()

    def close(self) -> None:
        """Wait until the last one is written, ignoring its errors."""
        self._pool.shutdown()

    def _write(self, state: dict[str, Any], best: bool) -> None:
        step: int = state["step"]
        # After a power cut no checkpoint may exist without the log lines before it, or without its folder.
        for path in (*self.folder.glob("*.jsonl"), self.folder.parent):
            checkpoint_file.fsync_path(path)
        # The best one first: a run killed in between resumes from before both and reaches this step again.
        checkpoint_file.write(state, *([self.path("best")] if best else []), self.path(step))
        steps = self.steps()
        past = [other for other in steps if other <= step]
        surplus = past[: -self._keep] if self._keep else []
        # Later ones were found corrupt, or the run would have resumed from them.
        later = steps[len(past) :]
        for other in (*(other for other in surplus if not self._keep_every or other % self._keep_every), *later):
            with suppress(OSError):  # Tried again after the next save.
                self.path(other).unlink(missing_ok=True)

    def load(self, step: Step | None = None) -> dict[str, Any]:
        """The state of a step, on the CPU; by default of the newest checkpoint that is not corrupt.

        Raises:
            ConfigError: There is none, or it is corrupt, not a checkpoint, or from a newer gantrain.
        """
        if step is not None and self.path(step).exists():
            return checkpoint_file.read(self.path(step))
        paths = self.paths()
        if step is not None or not paths:
            missing = "checkpoint" if step is None else f"{step}.pt" if step == "best" else f"step {step}"
            found = ", ".join(path.stem for path in reversed(paths))
            raise ConfigError(f"no {missing} in {self.folder} (found: {found or 'none'})")
        for path in paths:
            try:
                return checkpoint_file.read(path)
            except CorruptCheckpointError as error:
                distributed.print_rank_zero(f"warning: {error}; trying the previous checkpoint")
        raise ConfigError(f"all checkpoints in {self.folder} are corrupt; give resume=never to start over")

    def remove_all(self) -> None:
        """Delete every checkpoint of the folder."""
        for path in self.paths():
            path.unlink(missing_ok=True)

    def tidy(self) -> None:
        """Delete the temporary files of a process that was killed while writing."""
        for path in self.folder.glob("*.tmp"):
            if re.fullmatch(r"(step_[0-9]+|best)\.tmp", path.name):
                path.unlink(missing_ok=True)
