"""What a logger is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from PIL import Image

from gantrain.errors import ConfigError
from gantrain.registry import LOGGERS
from gantrain.report.lines import Line


class Logger:
    """Takes what a run logs. Each method does nothing unless a logger overrides it.

    They are called one at a time and in order, from a thread that is not the run's: they may take their time, and what
    they raise costs a warning, once. The constructor is called before there is a run folder, and on every rank: it
    looks whether all is there that the logger needs, and does nothing else. Beside the keys of its YAML file it may
    take ``run`` (the name of the run) and ``folder`` (its path).
    """

    def begin(self, step: int, settings: Mapping[str, Any], lines: Sequence[Line]) -> None:
        """The run begins, or goes on or back: first of all calls, and may come again.

        Args:
            step: Steps already made. What the logger has been sent of later ones is going to be sent anew.
            settings: The configuration, flat: ``{"optimizer.lr": 0.0002, ...}``.
            lines: All scalars up to ``step``: ``{"step": 50, "g": 0.7, ...}``.
        """

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Values by name; a step may come twice, with other names."""

    def image(self, step: int, name: str, image: Image.Image) -> None:
        """A grid of images."""

    def end(self, status: str) -> None:
        """The run is over: ``done``, ``stopped: <why>``, or ``crashed: <why>``."""


def build_loggers(configs: Mapping[str, Any], *, run: str, folder: Path) -> dict[str, Logger]:
    """The loggers of a configuration.

    Args:
        configs: What stands under ``logger``: by what each is called, its name and keys.
        run: The name of the run.
        folder: Its folder.

    Raises:
        ConfigError: There is no such logger, it has no such key, its package is not installed, or it can't be made.
    """
    for called, config in configs.items():
        if not isinstance(config, Mapping):
            raise ConfigError(
                f"logger.{called}={config}: a logger is chosen by logger=NAME, several by logger=[NAME,NAME]; "
                f"there are: none, {', '.join(LOGGERS)}"
            )
    loggers = {}
    for called, config in configs.items():
        try:
            loggers[called] = LOGGERS.build(config, key=f"logger.{called}", run=run, folder=folder)
        except ConfigError:
            raise
        except Exception as error:  # whatever it is: it may be anybody's class
            raise ConfigError(f"logger.{called} can't be made: {type(error).__name__}: {error}") from error
    return loggers


def step_kept(path: Path, *, otherwise: int) -> int:
    """The last step that a logger has kept as being there, so that what was logged without it can be sent later."""
    try:
        return int(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return otherwise


def require(package: str, *, hint: str = "") -> None:
    """Raise a ConfigError with the command that installs ``package``, and a hint on it, if it is missing."""
    if find_spec(package) is None:
        raise ConfigError(f"logger={package} needs the package {package}: pip install 'gantrain[{package}]'{hint}")
