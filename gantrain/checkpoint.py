"""Checkpoints: written whole or not at all, read without trust."""

from __future__ import annotations

import os
import pickle
import re
from pathlib import Path
from typing import Any

import torch

from gantrain.registry import ConfigError
from gantrain.upgrades import FORMAT, upgraded


def on_cpu(state: Any) -> Any:
    """A nested state with its tensors on the CPU."""
    if isinstance(state, torch.Tensor):
        return state.cpu()
    if isinstance(state, dict):
        return {key: on_cpu(value) for key, value in state.items()}
    return [on_cpu(value) for value in state] if isinstance(state, list) else state


class Checkpoints:
    """The ``step_<n>.pt`` files of a run folder.

    Args:
        folder: The run folder.
        keep: How many of the newest stay; 0 keeps all.
    """

    def __init__(self, folder: Path, *, keep: int = 0) -> None:
        self.folder = folder
        self._keep = keep

    def steps(self) -> list[int]:
        """The steps that are there, rising."""
        names = (re.fullmatch(r"step_(\d+)\.pt", path.name) for path in self.folder.glob("step_*.pt"))
        return sorted(int(name[1]) for name in names if name)

    def path(self, step: int) -> Path:
        """The file of a step."""
        return self.folder / f"step_{step}.pt"

    def save(self, state: dict[str, Any]) -> Path:
        """Write ``state`` under its ``step``, then remove what is not to be kept.

        The file appears under its name only when it is complete and on the disk, so the newest is always whole.
        """
        path = self.path(state["step"])
        temporary = path.with_suffix(".tmp")
        with temporary.open("wb") as file:
            torch.save({"format": FORMAT, **state}, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        for step in self.steps()[: -self._keep] if self._keep else []:
            self.path(step).unlink()
        return path

    def load(self, step: int | None = None) -> dict[str, Any]:
        """The state of a step, or of the newest, on the CPU.

        Raises:
            ConfigError: There is none, or the file is damaged, foreign or of a newer gantrain.
        """
        steps = self.steps()
        if step is None and steps:
            step = steps[-1]
        if step is None or step not in steps:
            wanted = "checkpoint" if step is None else f"step {step}"
            found = ", ".join(self.path(there).stem for there in steps) or "none"
            raise ConfigError(f"no {wanted} in {self.folder} (found: {found})")
        path = self.path(step)
        try:
            # never pickled code: a checkpoint may come from anywhere
            state = torch.load(path, map_location="cpu", weights_only=True)
        except (RuntimeError, pickle.UnpicklingError, EOFError, OSError, ValueError) as error:
            raise ConfigError(f"can't read {path}: {str(error).splitlines()[0]}") from None
        if not isinstance(state, dict) or "format" not in state:
            raise ConfigError(f"{path} is not a checkpoint of gantrain")
        if state["format"] > FORMAT:
            raise ConfigError(
                f"{path} was written by a newer gantrain (format {state['format']}, this one reads {FORMAT}): upgrade"
            )
        return upgraded(state)

    def remove_all(self) -> None:
        """Delete every checkpoint of the folder."""
        for step in self.steps():
            self.path(step).unlink()
