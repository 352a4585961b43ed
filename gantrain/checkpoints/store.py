"""The checkpoints of a run: the newest, the best and those to be kept, written while training goes on."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch

from gantrain.checkpoints import file as checkpoint_file
from gantrain.checkpoints.file import DamagedError
from gantrain.errors import ConfigError
from gantrain.runtime import distributed

Step: TypeAlias = int | Literal["best"]


def clone_to_cpu(state: Any) -> Any:
    """A nested state with copies of its tensors on the CPU, which nobody changes any more."""
    if isinstance(state, torch.Tensor):
        return state.detach().to("cpu", copy=True)
    if isinstance(state, dict):
        return {key: clone_to_cpu(value) for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        return type(state)([clone_to_cpu(value) for value in state])
    return state


@contextmanager
def explain_mismatch(state: Mapping[str, Any], folder: Path) -> Iterator[None]:
    """Tells what a checkpoint lacks, or has in other shapes than the run: a plug-in may have changed since."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError) as error:
        lines = str(error).splitlines() or [type(error).__name__]  # of torch's, the last names a tensor
        raise ConfigError(
            f"the checkpoint of step {state['step']} in {folder} does not fit this run ({lines[-1].strip()[:300]}): "
            "give another name=..., or resume=never to start over"
        ) from error


class Checkpoints:
    """The ``step_<n>.pt`` files of a run folder, and its ``best.pt``.

    Args:
        folder: The run folder.
        keep: How many of the newest stay; 0 keeps all.
        keep_every: Those of steps that this divides stay too; None for no others.
        claim: Raises ``ConfigError`` if the folder has become another run's; asked before anything is written.
    """

    def __init__(
        self,
        folder: Path,
        *,
        keep: int = 0,
        keep_every: int | None = None,
        claim: Callable[[], None] = lambda: None,
    ) -> None:
        self.folder = folder
        self._keep = keep
        self._keep_every = keep_every
        self._claim = claim
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None

    def steps(self) -> list[int]:
        """The steps that are there, rising."""
        names = (re.fullmatch(r"step_(0|[1-9][0-9]*)\.pt", path.name) for path in self.folder.glob("step_*.pt"))
        return sorted(int(name[1]) for name in names if name)

    def path(self, step: Step) -> Path:
        """The file of a step."""
        return self.folder / ("best.pt" if step == "best" else f"step_{step}.pt")

    def paths(self) -> list[Path]:
        """All files, the newest first, and last the best, which is one of them or older."""
        best = self.path("best")
        return [*map(self.path, reversed(self.steps())), *([best] if best.exists() else [])]

    def save(self, state: dict[str, Any], *, best: bool = False) -> None:
        """Copy ``state`` and write it under its ``step`` in the background, then remove what is not to be kept.

        Where the one before is still being written, that is waited for.

        Args:
            state: May change as soon as this returns.
            best: Whether it becomes ``best.pt`` too.

        Raises:
            ConfigError: The folder has become another run's, or as for ``wait``.
        """
        self.wait()
        self._claim()
        self._writing = self._pool.submit(self._write, clone_to_cpu(state), best)

    def wait(self) -> None:
        """Until the last one is on the disk.

        Raises:
            ConfigError: It could not be written; those before are untouched.
        """
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def raise_pending(self) -> None:
        """Raise what ``wait`` would, if the last one is done with already, and what ``claim`` does."""
        self._claim()
        if self._writing is not None and self._writing.done():
            self.wait()

    def close(self) -> None:
        """Let the last one be written, whatever comes of it."""
        self._pool.shutdown()

    def _write(self, state: dict[str, Any], best: bool) -> None:
        step: int = state["step"]
        # a power cut must not leave a checkpoint without what was logged before it, or without its folder
        for place in (*self.folder.glob("*.jsonl"), self.folder.parent):
            checkpoint_file.fsync_path(place)
        # the best first: who is killed between the two goes on from before both, and finds it again
        checkpoint_file.write(state, *([self.path("best")] if best else []), self.path(step))
        steps = self.steps()
        past = [there for there in steps if there <= step]
        gone = past[: -self._keep] if self._keep else []
        for there in gone:
            if not self._keep_every or there % self._keep_every:
                self._remove(there)
        for there in steps:
            if there > step:  # it was found damaged, else the run would have gone on from it
                self._remove(there)

    def _remove(self, step: int) -> None:
        with suppress(OSError):  # is tried again with the next
            self.path(step).unlink(missing_ok=True)

    def load(self, step: Step | None = None) -> dict[str, Any]:
        """The state of a step, on the CPU; by default of the newest that is whole.

        Raises:
            ConfigError: There is none, or the file is damaged, foreign or of a newer gantrain.
        """
        if step is not None and self.path(step).exists():
            return checkpoint_file.read(self.path(step))
        paths = self.paths()
        if step is not None or not paths:
            wanted = "checkpoint" if step is None else f"{step}.pt" if step == "best" else f"step {step}"
            found = ", ".join(path.stem for path in reversed(paths))
            raise ConfigError(f"no {wanted} in {self.folder} (found: {found or 'none'})")
        for path in paths:
            try:
                return checkpoint_file.read(path)
            except DamagedError as error:
                distributed.say(f"warning: {error}; looking for the one before it")
        raise ConfigError(f"none of the checkpoints in {self.folder} is whole; to train anew takes resume=never")

    def remove_all(self) -> None:
        """Delete every checkpoint of the folder."""
        for path in self.paths():
            path.unlink(missing_ok=True)

    def tidy(self) -> None:
        """Delete what a process left that was killed while it wrote."""
        for path in self.folder.glob("*.tmp"):
            if re.fullmatch(r"(step_[0-9]+|best)\.tmp", path.name):
                path.unlink(missing_ok=True)
