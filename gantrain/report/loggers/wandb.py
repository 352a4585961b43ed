"""Weights and Biases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from gantrain.registry import LOGGERS
from gantrain.report.lines import Line
from gantrain.report.loggers.base import Logger, require, step_kept
from gantrain.runtime.atomic import write_file


@LOGGERS.register("wandb")
class WandbLogger(Logger):
    """A run of a Weights and Biases project, by its own package; ``wandb login`` comes first.

    The run folder keeps the run's identity there, so that it goes on in one run. What was sent once, and is computed
    again after an interruption, is dropped by wandb, which takes no step twice.

    Args:
        project: Its name.
        entity: User or team; None for one's own.
        mode: ``offline`` keeps everything below the run folder, for ``wandb sync``.
        run: Name of the run.
        folder: The run folder.
    """

    def __init__(
        self, *, project: str, entity: str | None, mode: Literal["online", "offline"], run: str, folder: Path
    ) -> None:
        require("wandb")
        self._options: dict[str, Any] = {"project": project, "entity": entity, "mode": mode, "name": run}
        self._folder = folder
        self._kept = folder / "wandb_step.txt"
        self._last = -1  # the last step that it was sent
        self._run: Any = None

    def begin(self, step: int, settings: Mapping[str, Any], lines: Sequence[Line]) -> None:
        """Open the run, or open it again, and send what it lacks."""
        if self._run is None:
            self._open(step, settings)
        last = self._last  # losses and figures of one step are two lines
        for line in lines:
            if line["step"] > last:
                self.scalars(int(line["step"]), {name: value for name, value in line.items() if name != "step"})

    def _open(self, step: int, settings: Mapping[str, Any]) -> None:
        import wandb

        identity = self._folder / "wandb_id.txt"
        known = step > 0 and identity.exists()
        if not known:
            identity.write_text(wandb.util.generate_id(), encoding="utf-8")
        self._run = wandb.init(
            **self._options,
            id=identity.read_text(encoding="utf-8").strip(),
            resume="allow",
            config=dict(settings),
            dir=str(self._folder),
        )
        self._last = step_kept(self._kept, otherwise=step) if known else -1

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """A point on each curve."""
        self._run.log(dict(values), step=step)
        self._last = max(self._last, step)
        write_file(self._kept, str(self._last))

    def image(self, step: int, name: str, image: Image.Image) -> None:
        """One image."""
        import wandb

        self._run.log({name: wandb.Image(image, caption=f"step {step}")}, step=step)

    def end(self, status: str) -> None:
        """Close the run; one that has crashed is marked so."""
        self._run.finish(exit_code=1 if status.startswith("crashed") else 0)
