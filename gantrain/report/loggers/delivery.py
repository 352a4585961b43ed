"""A thread between a run and a logger, so that neither has to wait for the other."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from PIL import Image

from gantrain.report.lines import Line
from gantrain.report.loggers.base import Logger

WAITING = 1000  # calls that may wait to be taken
IMAGES = 8  # of these with an image, which can be large
PATIENCE = 15.0  # seconds that the end of a run waits for what is left


class AsyncLogger:
    """Hands a logger what a run logs, from a thread of its own.

    The run neither waits nor fails: what is too much is dropped, what the logger raises is told, and of all that one
    warning is printed.

    Args:
        name: What the logger is called.
        logger: Takes it.
        say: Prints lines.
    """

    def __init__(self, name: str, logger: Logger, say: Callable[[Iterable[str]], None]) -> None:
        self._name = name
        self._logger = logger
        self._say = say
        self._calls: queue.Queue[tuple[str, tuple[Any, ...]] | None] = queue.Queue(WAITING)
        self._room = threading.Semaphore(IMAGES)
        self._thread: threading.Thread | None = None
        self._warned = False

    def begin(self, step: int, settings: Mapping[str, Any], lines: Sequence[Line]) -> None:
        """Pass on that the run begins, goes on or goes back, with all that it has logged so far."""
        waiting = self._forget()  # `lines` has what is true of it, but images come once
        if self._thread is None:
            self._thread = threading.Thread(target=self._deliver, name=f"logger {self._name}", daemon=True)
            self._thread.start()
        self._put("begin", step, settings, list(lines))
        for method, (made, *others) in waiting:
            if method == "image" and made <= step:
                self.image(made, *others)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Pass on values."""
        self._put("scalars", step, dict(values))

    def image(self, step: int, name: str, image: Image.Image) -> None:
        """Pass on an image."""
        if not self._room.acquire(blocking=False):
            self._warn("is too slow, not all images get there")
        elif not self._put("image", step, name, image):
            self._room.release()

    def end(self, status: str) -> None:
        """Pass on that the run is over, and wait for the logger to be done, but not for long."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        deadline = time.monotonic() + PATIENCE
        try:
            for call in (("end", (status,)), None):
                self._calls.put(call, timeout=max(0.0, deadline - time.monotonic()))
        except queue.Full:
            self._forget()
            self._calls.put_nowait(None)
        thread.join(max(0.0, deadline - time.monotonic()))
        if thread.is_alive():
            self._warn(f"has not taken everything {PATIENCE:g} seconds after the end of the run", training="is over")

    def _put(self, method: str, *arguments: Any) -> bool:
        try:
            self._calls.put_nowait((method, arguments))
        except queue.Full:
            self._warn("is too slow, not everything gets there")
            return False
        return True

    def _forget(self) -> list[tuple[str, tuple[Any, ...]]]:
        """What was waiting, and waits no more."""
        waiting: list[tuple[str, tuple[Any, ...]]] = []
        while True:
            try:
                call = self._calls.get_nowait()
            except queue.Empty:
                return waiting
            if call is not None:
                waiting.append(call)
                if call[0] == "image":
                    self._room.release()

    def _deliver(self) -> None:
        while (call := self._calls.get()) is not None:
            method, arguments = call
            try:
                getattr(self._logger, method)(*arguments)
            except (Exception, SystemExit) as error:  # whatever it is, it is no reason to stop a run, or to say nothing
                self._warn((str(error) or type(error).__name__).splitlines()[0])
            if method == "image":
                self._room.release()

    def _warn(self, reason: str, training: str = "goes on") -> None:
        if not self._warned:
            self._warned = True
            self._say([f"warning: logger {self._name}: {reason}; training {training}"])


def end_all(deliveries: Sequence[AsyncLogger], status: str) -> None:
    """Pass on to all loggers that the run is over; however many hang, the wait is that for one."""
    with ThreadPoolExecutor(max(1, len(deliveries))) as waits:
        list(waits.map(lambda delivery: delivery.end(status), deliveries))
