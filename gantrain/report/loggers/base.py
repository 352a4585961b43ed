"""The base class of loggers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from PIL import Image

from gantrain.config.renamed import RenamedMethod, rename_overrides
from gantrain.config.side_files import read_text, report_damage
from gantrain.errors import ConfigError
from gantrain.registry import LOGGERS
from gantrain.report.log import Line


class Logger:
    """Receives what a run logs. Each method does nothing unless a logger overrides it.

    The methods are called one at a time and in order, in a separate thread: they may be slow, and an exception only
    causes a warning. The constructor is called before the run folder exists, and on every rank: it checks that the
    logger can be used, and does nothing else. Besides the keys of its YAML file it may take ``run`` (the name of the
    run) and ``folder`` (its path).
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        rename_overrides(cls)

    def begin(self, step: int, settings: Mapping[str, Any], lines: Sequence[Line]) -> None:
        """The run starts or resumes; always the first call, and called again if the run returns to an earlier step.

        Args:
            step: Steps completed so far. Later steps will be logged again.
            settings: The configuration, flat: ``{"optimizer.lr": 0.0002, ...}``.
            lines: All scalars up to ``step``: ``{"step": 50, "g": 0.7, ...}``.
        """

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Values by name; the same step may be logged twice, with different names."""

    picture = RenamedMethod("image")

    def image(self, step: int, name: str, image: Image.Image) -> None:
        """A grid of images."""

    def end(self, status: str) -> None:
        """The run has ended: ``done``, ``stopped: <reason>`` or ``crashed: <reason>``."""

    def _log_lines(self, lines: Sequence[Line], *, after: int = -1) -> None:
        """Pass the lines of steps after ``after`` to ``scalars``."""
        for line in lines:
            if line["step"] > after:
                self.scalars(int(line["step"]), {name: value for name, value in line.items() if name != "step"})


def build_loggers(configs: Mapping[str, Any], *, run: str, folder: Path) -> dict[str, Logger]:
    """The loggers of the group ``logger`` of a configuration, by name.

    Raises:
        ConfigError: A logger or key does not exist, its package is not installed, or its constructor fails.
    """
    loggers = {}
    for key, config in configs.items():
        if not isinstance(config, Mapping):
            raise ConfigError(
                f"logger.{key}={config}: choose a logger with logger=NAME, several with logger=[NAME,NAME]; "
                f"available: none, {', '.join(LOGGERS)}"
            )
        try:
            loggers[key] = LOGGERS.build(config, key=f"logger.{key}", run=run, folder=folder)
        except ConfigError:
            raise
        except Exception as error:  # A plug-in's constructor may raise anything.
            raise ConfigError(f"logger.{key} can't be created: {type(error).__name__}: {error}") from error
    return loggers


def read_step(path: Path, *, default: int) -> int:
    """The last step that a logger received, from a file in the run folder."""
    text = (read_text(path) or "").strip()
    return int(text) if re.fullmatch("[0-9]{1,18}", text) else default


def read_identity(path: Path) -> str | None:
    """The name that a service gave to a run, from a file in the run folder; None if missing or damaged."""
    text = (read_text(path) or "").strip()
    if text and not re.fullmatch("[A-Za-z0-9_-]{1,200}", text):
        report_damage(path, "no name of a run", remedy="the run starts again in this logger")
        return None
    return text or None


def require(package: str, *, hint: str = "") -> None:
    """Raise a ConfigError with the command that installs ``package``, and a hint, if it is missing."""
    if find_spec(package) is None:
        raise ConfigError(f"logger={package} needs the package {package}: pip install 'gantrain[{package}]'{hint}")
