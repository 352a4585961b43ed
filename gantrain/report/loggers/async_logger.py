"""Calls a logger in a separate thread, so that a slow or failing logger does not affect the run."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from PIL import Image

from gantrain.report.log import Line
from gantrain.report.loggers.base import Logger

MAX_CALLS = 1000  # The size of the queue of calls.
MAX_IMAGES = 8  # The maximum number of images in the queue, because they can be large.
END_TIMEOUT = 15.0  # Seconds to wait for the queue at the end of a run.


class AsyncLogger(Logger):
    """Queues the calls to a logger. Calls that do not fit are dropped; ``end`` waits for ``END_TIMEOUT`` seconds.

    The first problem of any kind is printed as a warning, by ``say``.
    """

    def __init__(self, name: str, logger: Logger, say: Callable[[Iterable[str]], None]) -> None:
        self._name = name
        self._logger = logger
        self._say = say
        self._calls: queue.Queue[tuple[str, tuple[Any, ...]] | None] = queue.Queue(MAX_CALLS)
        self._image_slots = threading.Semaphore(MAX_IMAGES)
        self._thread: threading.Thread | None = None
        self._warned = False

    def begin(self, step: int, settings: Mapping[str, Any], lines: Sequence[Line]) -> None:
        dropped = self._clear()  # ``lines`` contains their scalars; their images up to ``step`` are queued again.
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=f"logger {self._name}", daemon=True)
            self._thread.start()
        self._put("begin", step, settings, list(lines))
        for method, (call_step, *others) in dropped:
            if method == "image" and call_step <= step:
                self.image(call_step, *others)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._put("scalars", step, dict(values))

    def image(self, step: int, name: str, image: Image.Image) -> None:
        if not self._image_slots.acquire(blocking=False):
            self._warn("is too slow, some images are dropped")
        elif not self._put("image", step, name, image):
            self._image_slots.release()

    def end(self, status: str) -> None:
        thread, self._thread = self._thread, None
        if thread is None:
            return
        deadline = time.monotonic() + END_TIMEOUT
        try:
            for call in (("end", (status,)), None):
                self._calls.put(call, timeout=max(0.0, deadline - time.monotonic()))
        except queue.Full:
            self._clear()
            self._calls.put_nowait(None)
        thread.join(max(0.0, deadline - time.monotonic()))
        if thread.is_alive():
            self._warn(f"has not received everything {END_TIMEOUT:g} seconds after the end of the run", "is over")

    def _put(self, method: str, *arguments: Any) -> bool:
        try:
            self._calls.put_nowait((method, arguments))
        except queue.Full:
            self._warn("is too slow, some calls are dropped")
            return False
        return True

    def _clear(self) -> list[tuple[str, tuple[Any, ...]]]:
        """Empty the queue and return the calls that were in it."""
        dropped: list[tuple[str, tuple[Any, ...]]] = []
        while True:
            try:
                call = self._calls.get_nowait()
            except queue.Empty:
                return dropped
            if call is not None:
                dropped.append(call)
                if call[0] == "image":
                    self._image_slots.release()

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            method, arguments = call
            try:
                getattr(self._logger, method)(*arguments)
            except (Exception, SystemExit) as error:  # No error of a logger may end the thread silently.
                self._warn((str(error) or type(error).__name__).splitlines()[0])
            if method == "image":
                self._image_slots.release()

    def _warn(self, reason: str, training: str = "continues") -> None:
        if not self._warned:
            self._warned = True
            self._say([f"warning: logger {self._name}: {reason}; training {training}"])


def end_all(loggers: Sequence[AsyncLogger], status: str) -> None:
    """End all loggers at the same time, so that several slow ones cost one timeout."""
    with ThreadPoolExecutor(max(1, len(loggers))) as threads:
        list(threads.map(lambda logger: logger.end(status), loggers))
