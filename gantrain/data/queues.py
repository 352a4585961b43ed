"""Queues of worker processes that send short messages at once, instead of waking a thread for each."""

from __future__ import annotations

import copy
import multiprocessing
import sys
from functools import partial
from multiprocessing.context import BaseContext
from multiprocessing.queues import Queue
from multiprocessing.reduction import ForkingPickler
from typing import Any

SHORT = 1024  # Bytes; a message that describes a small batch, whose tensors are in shared memory.
MAX_SHORT = 16  # So many fit into the smallest buffer of a pipe, 16 KiB on macOS: sending one never waits.


def context(messages: int) -> BaseContext | None:
    """The context for a ``DataLoader`` with at most so many unread messages; None for the default one."""
    if messages > MAX_SHORT or sys.platform == "win32":
        return None
    prompt = copy.copy(multiprocessing.get_context())
    prompt.Queue = partial(PromptQueue, ctx=prompt)  # type: ignore[method-assign]
    return prompt


class PromptQueue(Queue):  # type: ignore[type-arg]  # It is generic for type checkers alone.
    """Writes short messages to the pipe in ``put``; only longer ones are written by a thread, as by its base class."""

    def put(self, obj: Any, block: bool = True, timeout: float | None = None) -> None:
        """Send an object; on return, a short one is in the pipe. ``block`` and ``timeout`` are for longer ones."""
        # Pickled only once: tensors that are not in shared memory yet are moved there by it.
        content = bytes(ForkingPickler.dumps(obj))
        if len(content) > SHORT:
            super().put(_Pickled(content), block, timeout)
            return
        queue: Any = self  # Its attributes are not in typeshed.
        queue._sem.acquire()  # ``get`` releases it.
        with queue._wlock:
            queue._writer.send_bytes(content)


class _Pickled:
    """Is unpickled as the object that was pickled."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def __reduce__(self) -> tuple[Any, tuple[bytes]]:
        return ForkingPickler.loads, (self._content,)
