"""Where else losses and pictures may go, beside the run folder."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from PIL import Image

from gantrain.registry import LOGGERS, ConfigError


class Logger(ABC):
    """Takes scalars and pictures; what it can't deliver must not stop the run."""

    @abstractmethod
    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Values by name at a step."""

    @abstractmethod
    def picture(self, step: int, name: str, picture: Image.Image) -> None:
        """A grid of images at a step."""


@LOGGERS.register("none")
class NoLogger(Logger):
    """Nowhere: the run folder has everything."""

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Nothing."""

    def picture(self, step: int, name: str, picture: Image.Image) -> None:
        """Nothing."""


@LOGGERS.register("visdom")
class VisdomLogger(Logger):
    """A visdom server that is already running: curves and samples in an environment named after the run.

    It is contacted when there is something to show, never started. One that is away costs one warning, and nothing more
    is sent.

    Args:
        server: Address with its protocol.
        port: Of the server.
        run: Name of the run.

    Raises:
        ConfigError: The package visdom is not installed.
    """

    def __init__(self, *, server: str, port: int, run: str) -> None:
        try:
            import visdom  # noqa: F401 - here to say early that it is missing
        except ImportError:
            raise ConfigError(
                "logger=visdom needs the package visdom: pip install 'gantrain[visdom]' (Python 3.11 and older: with a "
                "PIP_CONSTRAINT file that says setuptools<81)"
            ) from None
        self._address: dict[str, Any] = {"server": server, "port": port, "env": run}
        self._connection: Any = None
        self._away = False

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """One curve per value."""
        for name, value in values.items():
            self._send("line", X=[step], Y=[value], win=name, update="append", opts={"title": name, "xlabel": "step"})

    def picture(self, step: int, name: str, picture: Image.Image) -> None:
        """The newest grid, in one window per name."""
        pixels = np.asarray(picture.convert("RGB")).transpose(2, 0, 1)
        self._send("image", pixels, win=name, opts={"title": f"{name}, step {step}"})

    def _send(self, method: str, *arguments: Any, **options: Any) -> None:
        if self._away:
            return
        try:
            if self._connection is None:
                import visdom

                self._connection = visdom.Visdom(**self._address, raise_exceptions=True)
            getattr(self._connection, method)(*arguments, **options)
        except (OSError, ValueError) as error:
            self._away = True
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            print(
                f"warning: no visdom at {self._address['server']}:{self._address['port']} ({reason}); "
                "training goes on without it",
                file=sys.stderr,
            )
