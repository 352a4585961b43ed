"""The checkpoints of a run, written in the background."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch

from gantrain.checkpoints import file as checkpoint_file
from gantrain.checkpoints.file import CorruptCheckpointError
from gantrain.checkpoints.mirror import Mirror
from gantrain.errors import ConfigError, listed
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
    """Explain an error while a checkpoint is loaded that does not fit the run, as when a plug-in has changed since."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError) as error:
        lines = str(error).splitlines() or [type(error).__name__]  # The last line of torch's message names a tensor.
        raise ConfigError(
            f"the checkpoint of step {state['step']} in {folder} does not fit this run ({lines[-1].strip()[:300]}): "
            "give another name=..., or resume=never to start over"
        ) from error


class Checkpoints:
    """The ``step_<n>.pt`` files of a run folder, and its ``best.pt``.

    Args:
        folder: The run folder.
        keep: The number of newest checkpoints that are not deleted; 0 for all.
        keep_every: Checkpoints at multiples of this step are not deleted either; None for no others.
        claim: Called before anything is written; raises ``ConfigError`` if another run has taken over the folder.
        mirror: Where checkpoints are copied to as well.
    """

    def __init__(
        self,
        folder: Path,
        *,
        keep: int = 0,
        keep_every: int | None = None,
        claim: Callable[[], None] = lambda: None,
        mirror: Mirror | None = None,
    ) -> None:
        self.folder = folder
        self._keep, self._keep_every = keep, keep_every
        self._claim = claim
        self._mirror = mirror
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
        """All files, newest first, then ``best.pt``, which is a link to one of them or an older checkpoint."""
        best = self.path("best")
        return [*map(self.path, reversed(self.steps())), *([best] if best.exists() else [])]

    def save(self, state: dict[str, Any], *, best: bool = False, remove: Sequence[int] = ()) -> None:
        """Copy ``state``, write it in the background (also to ``best.pt``, if ``best``), then delete old checkpoints.

        Those of the steps ``remove`` are deleted too, and displace no others.

        Waits until the previous one is written, and raises its error as ``raise_pending`` does.
        """
        self.wait()
        self._claim()
        self._writing = self._pool.submit(self._write, clone_to_cpu(state), best, remove)

    def wait(self) -> None:
        """Wait until the last checkpoint is on the disk; raise ``ConfigError`` if it could not be written."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def raise_pending(self) -> None:
        """Raise ``ConfigError`` if writing has failed by now, or if another run has taken over the folder."""
        self._claim()
        if self._writing is not None and self._writing.done():
            self.wait()

    def close(self) -> None:
        """Wait until the last checkpoint is written, and copied to the mirror, ignoring errors."""
        self._pool.shutdown()
        if self._mirror is not None:
            self._mirror.close()

    def claimed(self) -> AbstractContextManager[None]:
        """On rank 0, claims the run at its mirror, if there is one, while the context is open; see ``Claim``."""
        return nullcontext() if self._mirror is None or distributed.rank() else self._mirror.claim

    def fetch(self) -> str | None:
        """Copy the run from its mirror if that has a newer checkpoint; returns a line about it."""
        if self._mirror is None or not self._mirror.fetch(after=max(self.steps(), default=-1)):
            return None
        return f"Copied the run from {self._mirror.url}"

    def _write(self, state: dict[str, Any], best: bool, remove: Sequence[int]) -> None:
        step: int = state["step"]
        # After a power cut no checkpoint may exist without the log lines before it, or without its folder.
        for path in (*self.folder.glob("*.jsonl"), self.folder.parent):
            checkpoint_file.fsync_path(path)
        # best.pt is written first: a run that is killed in between resumes from an earlier step and writes both again.
        checkpoint_file.write(state, *([self.path("best")] if best else []), self.path(step))
        steps = self.steps()
        past = [other for other in steps if other <= step and other not in remove]
        # One that was saved because the run stops displaces none: a rollback would otherwise depend on it.
        past = [other for other in past if other not in state.get("irregular", ())]
        surplus = past[: -self._keep] if self._keep else []
        later = [
            other for other in steps if other > step
        ]  # These are corrupt, or the run would have resumed from them.
        for other in (
            *(other for other in surplus if not self._keep_every or other % self._keep_every),
            *later,
            *remove,
        ):
            with suppress(OSError):  # The next save tries again.
                self.path(other).unlink(missing_ok=True)
        if self._mirror is not None:
            self._mirror.send()

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
            found = listed([path.stem for path in reversed(paths)])
            raise ConfigError(f"no {missing} in {self.folder} (found: {found or 'none'})")
        tried: list[Path] = []
        while left := [path for path in paths if path not in tried]:
            tried.append(left[0])
            try:
                return checkpoint_file.read(left[0])
            except CorruptCheckpointError as error:
                if os.path.lexists(left[0]):
                    distributed.print_rank_zero(f"warning: {error}; trying the previous checkpoint")
                else:  # A run that trains meanwhile has replaced it.
                    paths = self.paths()
        raise ConfigError(
            f"all checkpoints in {self.folder} are corrupt or unreadable; give resume=never to start over"
        )

    def complete_mirror(self) -> None:
        """Copy what the mirror lacks of a run that is finished; on rank 0."""
        if self._mirror is not None and distributed.rank() == 0:
            self._mirror.complete()

    def clear_mirror(self) -> None:
        """Delete what the mirror has of an earlier run."""
        if self._mirror is not None:
            self._mirror.clear()

    def remove_all(self) -> None:
        """Delete every checkpoint of the folder."""
        for path in self.paths():
            path.unlink(missing_ok=True)

    def tidy(self) -> None:
        """Delete the temporary files of a process that was killed while writing."""
        for path in self.folder.glob("*.tmp"):
            if re.fullmatch(r"(step_[0-9]+|best)\.tmp", path.name):
                path.unlink(missing_ok=True)
