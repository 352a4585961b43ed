"""Weights & Biases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from gantrain.registry import LOGGERS
from gantrain.report.log import Line
from gantrain.report.loggers.base import Logger, read_identity, read_step, require
from gantrain.runtime.atomic import write_file


@LOGGERS.register("wandb")
class WandbLogger(Logger):
    """A run of a Weights & Biases project; log in with ``wandb login`` first.

    Its id is stored in the run folder, so that a resumed run continues it. Steps that are computed again after an
    interruption are dropped by wandb, which accepts only increasing steps.

    Args:
        project: The name of the project.
        entity: The user or team; None for the default one.
        mode: ``offline`` stores everything in the run folder, for ``wandb sync``.
        run: The name of the run.
        folder: The run folder.
    """

    def __init__(
        self, *, project: str, entity: str | None, mode: Literal["online", "offline"], run: str, folder: Path
    ) -> None:
        require("wandb")
        self._options = {"project": project, "entity": entity, "mode": mode, "name": run, "dir": str(folder)}
        self._folder = folder
        self._step_file = folder / "wandb_step.txt"
        self._last = -1  # The last step that was sent.
        self._run: Any = None

    def begin(self, step: int, settings: Mapping[str, Any], lines: Sequence[Line]) -> None:
        if self._run is None:
            import wandb

            identity = self._folder / "wandb_id.txt"
            known = read_identity(identity) if step > 0 else None
            run_id = known or wandb.util.generate_id()
            write_file(identity, run_id)
            self._run = wandb.init(**self._options, id=run_id, resume="allow", config=dict(settings))
            self._last = read_step(self._step_file, default=step) if known else -1
        self._log_lines(lines, after=self._last)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)
        self._last = max(self._last, step)
        write_file(self._step_file, str(self._last))

    def image(self, step: int, name: str, image: Image.Image) -> None:
        import wandb

        self._run.log({name: wandb.Image(image, caption=f"step {step}")}, step=step)

    def end(self, status: str) -> None:
        self._run.finish(exit_code=1 if status.startswith("crashed") else 0)
