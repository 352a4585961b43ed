"""The checkpoints of a run: the newest, the best and those to be kept, written while training goes on."""

from __future__ import annotations

import os
import re
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import torch

from gantrain import checkpoint_file, distributed
from gantrain.checkpoint_file import DamagedError
from gantrain.registry import ConfigError


def copied(state: Any) -> Any:
    """A nested state with copies of its tensors on the CPU, which nobody changes any more."""
    if isinstance(state, torch.Tensor):
        return state.detach().to("cpu", copy=True)
    if isinstance(state, dict):
        return {key: copied(value) for key, value in state.items()}
    return [copied(value) for value in state] if isinstance(state, list) else state


class Checkpoints:
    """The ``step_<n>.pt`` files of a run folder, and its ``best.pt``.

    Args:
        folder: The run folder.
        keep: How many of the newest stay; 0 keeps all.
        keep_every: Those of steps that this divides stay too; None for no others.
    """

    def __init__(self, folder: Path, *, keep: int = 0, keep_every: int | None = None) -> None:
        self.folder = folder
        self._keep = keep
        self._keep_every = keep_every
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None

    def steps(self) -> list[int]:
        """The steps that are there, rising."""
        names = (re.fullmatch(r"step_(\d+)\.pt", path.name) for path in self.folder.glob("step_*.pt"))
        return sorted(int(name[1]) for name in names if name)

    def path(self, step: int | Literal["best"]) -> Path:
        """The file of a step."""
        return self.folder / ("best.pt" if step == "best" else f"step_{step}.pt")

    def save(self, state: dict[str, Any], *, best: bool = False) -> None:
        """Copy ``state`` and write it under its ``step`` in the background, then remove what is not to be kept.

        Args:
            state: May change as soon as this returns.
            best: Whether it becomes ``best.pt`` too.

        Raises:
            ConfigError: As for ``wait``.
        """
        self.wait()
        self._writing = self._pool.submit(self._write, copied(state), best)

    def wait(self) -> None:
        """Until the last one is on the disk.

        Raises:
            ConfigError: It could not be written; those before are untouched.
        """
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def look(self) -> None:
        """Raise what ``wait`` would, if the last one is done with already."""
        if self._writing is not None and self._writing.done():
            self.wait()

    def _write(self, state: dict[str, Any], best: bool) -> None:
        step: int = state["step"]
        path = self.path(step)
        checkpoint_file.write(path, state)
        if best:
            scratch = self.path("best").with_suffix(".tmp")
            scratch.unlink(missing_ok=True)
            try:
                os.link(path, scratch)  # one file under two names
            except OSError:  # not every disk can
                shutil.copyfile(path, scratch)
            scratch.replace(self.path("best"))
        steps = self.steps()
        past = [there for there in steps if there <= step]
        # later ones were found damaged, else the run would have gone on from them
        gone = [there for there in steps if there > step] + (past[: -self._keep] if self._keep else [])
        for there in gone:
            if there > step or not self._keep_every or there % self._keep_every:
                self.path(there).unlink(missing_ok=True)

    def load(self, step: int | Literal["best"] | None = None) -> dict[str, Any]:
        """The state of a step, on the CPU; by default of the newest that is whole.

        Raises:
            ConfigError: There is none, or the file is damaged, foreign or of a newer gantrain.
        """
        steps = self.steps()
        if step is not None and self.path(step).exists():
            return checkpoint_file.read(self.path(step))
        if step is not None or not steps:
            wanted = "checkpoint" if step is None else step if step == "best" else f"step {step}"
            found = ", ".join(path.stem for path in [*map(self.path, steps), self.path("best")] if path.exists())
            raise ConfigError(f"no {wanted} in {self.folder} (found: {found or 'none'})")
        for newest in reversed(steps):
            try:
                return checkpoint_file.read(self.path(newest))
            except DamagedError as error:
                damage = error
                distributed.say(f"warning: {error}; looking for the one before it")
        raise ConfigError(f"no checkpoint in {self.folder} is whole; the last: {damage}")

    def remove_all(self) -> None:
        """Delete every checkpoint of the folder."""
        for path in [*map(self.path, self.steps()), self.path("best")]:
            path.unlink(missing_ok=True)

    def tidy(self) -> None:
        """Delete what a process left that was killed while it wrote."""
        for path in self.folder.glob("*.tmp"):
            path.unlink(missing_ok=True)
