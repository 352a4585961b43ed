"""A visdom server."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from gantrain.registry import LOGGERS
from gantrain.report.lines import Line
from gantrain.report.loggers.base import Logger, require

BUILD = " (below Python 3.12 it builds only with a PIP_BUILD_CONSTRAINT file that says setuptools<81)"
ANSWER = 10.0  # seconds in which the server must answer


@LOGGERS.register("visdom")
class VisdomLogger(Logger):
    """A visdom server that is already running: curves and samples in an environment named after the run.

    It is never started. While it is away it is asked for from time to time, and then gets all that it has missed.

    Args:
        server: Address with its protocol.
        port: Of the server.
        retry_seconds: Between attempts to find it, while it is away.
        run: Name of the run.
    """

    def __init__(self, *, server: str, port: int, retry_seconds: float, run: str) -> None:
        require("visdom", hint=BUILD if sys.version_info < (3, 12) else "")
        self._address: dict[str, Any] = {"server": server, "port": port, "env": run}
        self._retry_seconds = retry_seconds
        self._client: Any = None
        self._away_until = 0.0
        self._curves: dict[str, list[tuple[int, float]]] = {}
        self._shown: dict[str, int] = {}  # how many points of a curve the server has
        self._images: dict[str, tuple[int, Image.Image]] = {}  # those that it lacks

    def begin(self, step: int, settings: Mapping[str, Any], lines: Sequence[Line]) -> None:
        """Show the curves up to ``step``, in place of what is shown."""
        self._curves, self._shown = {}, {}
        for line in lines:
            self._add(int(line["step"]), {name: value for name, value in line.items() if name != "step"})
        self._send()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """A point on each curve."""
        self._add(step, values)
        self._send()

    def image(self, step: int, name: str, image: Image.Image) -> None:
        """The newest grid, in one window per name."""
        self._images[name] = step, image
        self._send()

    def end(self, status: str) -> None:
        """Try once more, if anything is left."""
        self._away_until = 0.0
        self._send()

    def _add(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._curves.setdefault(name, []).append((step, value))

    def _send(self) -> None:
        """Bring the server up to date.

        Raises:
            ServerAwayError: It is away.
        """
        missing = [name for name, points in self._curves.items() if self._shown.get(name) != len(points)]
        if time.monotonic() < self._away_until or not (missing or self._images):
            return
        try:
            if self._client is None:
                self._client = connected(self._address)
            for name in missing:
                self._draw(name)
            for name, (step, image) in list(self._images.items()):
                pixels = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
                self._client.image(pixels, win=name, opts={"title": f"{name}, step {step}"})
                del self._images[name]
        except OSError:
            self._client = None
            self._shown = {}  # nobody knows what it will have when it is back
            self._away_until = time.monotonic() + self._retry_seconds
            raise

    def _draw(self, name: str) -> None:
        """Add to a curve what it lacks; draw it anew if the window is gone, or was not drawn by this run."""
        points, shown = self._curves[name], self._shown.get(name, 0)
        if shown and not self._client.win_exists(name):
            shown = 0
        steps, values = (np.array(side) for side in zip(*points[shown:], strict=True))
        options = {"title": name, "xlabel": "step"}
        self._client.line(X=steps, Y=values, win=name, update="append" if shown else None, opts=options)
        self._shown[name] = len(points)


class ServerAwayError(OSError):
    """The server is not there, does not answer, or not as it should."""


def connected(address: Mapping[str, Any]) -> Any:
    """A client that tells by a ``ServerAwayError`` that the server is away, and prints nothing.

    Args:
        address: ``server``, ``port`` and ``env``.
    """
    import logging

    import requests
    import visdom

    logging.getLogger("visdom").setLevel(logging.ERROR)
    client: Any = visdom.Visdom(**address, send=False, raise_exceptions=True, use_incoming_socket=False)

    def post(url: str, data: Any = None) -> str:
        try:
            answer = client.session.post(url, data=data, timeout=ANSWER)
            answer.raise_for_status()
        except requests.HTTPError as error:
            raise ServerAwayError(f"{place} answers {error.response.status_code}") from None
        except requests.Timeout:
            raise ServerAwayError(f"{place} does not answer") from None
        except requests.RequestException:
            raise ServerAwayError(f"{place} is not there") from None
        return str(answer.text)

    place = f"{address['server']}:{address['port']}"
    client._handle_post = post  # the place for it, says visdom, whose own waits for ever and prints what fails
    client.send = True
    return client
