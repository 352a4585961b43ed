"""Visdom."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from gantrain.registry import LOGGERS
from gantrain.report.log import Line
from gantrain.report.loggers.base import Logger, require

BUILD_HINT = " (below Python 3.12 it builds only with a PIP_BUILD_CONSTRAINT file that contains setuptools<81)"
TIMEOUT = 10.0  # Seconds to wait for a response of the server.


@LOGGERS.register("visdom")
class VisdomLogger(Logger):
    """Curves and samples on a running visdom server, in an environment named after the run.

    While the server can't be reached, the logger retries from time to time and then sends everything that is missing.

    Args:
        server: The address with its protocol.
        port: The port of the server.
        retry_seconds: Seconds between attempts to reach the server.
        run: The name of the run.
    """

    def __init__(self, *, server: str, port: int, retry_seconds: float, run: str) -> None:
        require("visdom", hint=BUILD_HINT if sys.version_info < (3, 12) else "")
        self._address: dict[str, Any] = {"server": server, "port": port, "env": run}
        self._retry_seconds = retry_seconds
        self._client: Any = None
        self._retry_at = 0.0
        self._curves: dict[str, list[tuple[int, float]]] = {}
        self._sent: dict[str, int] = {}  # The number of points of each curve that were sent.
        self._images: dict[str, tuple[int, Image.Image]] = {}  # Images that were not sent yet.

    def begin(self, step: int, settings: Mapping[str, Any], lines: Sequence[Line]) -> None:
        self._curves, self._sent = {}, {}
        for line in lines:
            self._add(int(line["step"]), {name: value for name, value in line.items() if name != "step"})
        self._send()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._add(step, values)
        self._send()

    def image(self, step: int, name: str, image: Image.Image) -> None:
        self._images[name] = step, image
        self._send()

    def end(self, status: str) -> None:
        self._retry_at = 0.0
        self._send()

    def _add(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._curves.setdefault(name, []).append((step, value))

    def _send(self) -> None:
        """Send all new points and images; raises a ServerUnavailableError if the server can't be reached."""
        missing = [name for name, points in self._curves.items() if self._sent.get(name) != len(points)]
        if time.monotonic() < self._retry_at or not (missing or self._images):
            return
        try:
            if self._client is None:
                self._client = connect(self._address)
            for name in missing:
                self._draw(name)
            for name, (step, image) in list(self._images.items()):
                pixels = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
                self._client.image(pixels, win=name, opts={"title": f"{name}, step {step}"})
                del self._images[name]
        except OSError:
            self._client = None
            self._sent = {}  # The server may have received or lost any points.
            self._retry_at = time.monotonic() + self._retry_seconds
            raise

    def _draw(self, name: str) -> None:
        """Append the missing points to a curve, or draw it again if its window was closed or shows another run."""
        points, sent = self._curves[name], self._sent.get(name, 0)
        if sent and not self._client.win_exists(name):
            sent = 0
        steps, values = (np.array(side) for side in zip(*points[sent:], strict=True))
        options = {"title": name, "xlabel": "step"}
        self._client.line(X=steps, Y=values, win=name, update="append" if sent else None, opts=options)
        self._sent[name] = len(points)


class ServerUnavailableError(OSError):
    """The server is not running, does not respond, or responds with an error."""


def connect(address: Mapping[str, Any]) -> Any:
    """A client that raises a ``ServerUnavailableError``, while visdom's own would print it or wait without a limit."""
    import logging

    import requests
    import visdom

    logging.getLogger("visdom").setLevel(logging.ERROR)
    client: Any = visdom.Visdom(**address, send=False, raise_exceptions=True, use_incoming_socket=False)
    server = f"{address['server']}:{address['port']}"

    def post(url: str, data: Any = None) -> str:
        try:
            response = client.session.post(url, data=data, timeout=TIMEOUT)
            response.raise_for_status()
        except requests.HTTPError as error:
            raise ServerUnavailableError(f"{server} answers with status {error.response.status_code}") from None
        except requests.Timeout:
            raise ServerUnavailableError(f"{server} does not answer") from None
        except requests.RequestException:
            raise ServerUnavailableError(f"{server} can't be reached") from None
        return str(response.text)

    client._handle_post = post  # Visdom marks it as the method to replace.
    client.send = True
    return client
