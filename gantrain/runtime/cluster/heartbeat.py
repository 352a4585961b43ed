"""Noticing within a minute that a rank on another machine is gone.

If a machine or its network fails, no message says so, and a collective operation waits for half an hour. So the ranks
of a run on several machines count in torch's key-value store, and a rank whose count stands still is lost.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

from torch._C._distributed_c10d import PrefixStore, TCPStore

POLL = 2.0  # Seconds.
MISSED = 15  # Polls without an answer after which a rank is lost. Counted, as this process may have been suspended.
PATIENCE = timedelta(seconds=20)  # For an answer of the store.
GOODBYES = 3  # Polls during which rank 0 waits for the others at its end.
GONE = -(2**40)  # What is added to the count of a rank that has ended: it is negative.


def of_this_attempt(store: Any) -> Any:
    """The store without what ranks wrote into it before torchrun restarted them."""
    return PrefixStore(f"gantrain/attempt_{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)


def connect() -> Any:
    """Another connection to the key-value store of this process group."""
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return of_this_attempt(TCPStore(address, port, is_master=False, timeout=PATIENCE))


class Heartbeat:
    """Two threads: one counts and reads the counts of the others, which may block; the other notices that it does.

    Args:
        store: Shared by all ranks; ``add`` returns the sum.
        rank: This rank.
        world_size: The number of ranks.
        lost: Called from a thread, once, with a description of what does not answer; it should end the process.
    """

    def __init__(self, store: Any, *, rank: int, world_size: int, lost: Callable[[str], None]) -> None:
        self._store, self._rank, self._lost = store, rank, lost
        self._counts = dict.fromkeys((number for number in range(world_size) if number != rank), 0)
        self._missed = dict.fromkeys([*self._counts, rank], 0)  # That of this rank is of its own connection.
        self._over = threading.Event()
        self._beating = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._watching = threading.Thread(target=self._watch, name="heartbeat watch", daemon=True)

    def start(self) -> None:
        """Begin to count and to watch."""
        self._beating.start()
        self._watching.start()

    def stop(self) -> None:
        """Say goodbye: the others no longer wait for this rank. Rank 0 waits until they know, as its store ends."""
        self._over.set()
        self._beating.join((1 + GOODBYES) * POLL)

    def _beat(self) -> None:
        with suppress(RuntimeError):  # The store has ended, with rank 0's machine or because the run is over.
            while not self._over.is_set():
                self._store.add(_key(self._rank), 1)
                for rank, before in self._counts.items():
                    count = self._store.add(_key(rank), 0)
                    if count != before or count < 0:
                        self._counts[rank], self._missed[rank] = count, 0
                self._missed[self._rank] = 0
                if self._counts.get(0, 0) < 0:  # The run is over, and so is the store soon.
                    self._over.set()
                self._over.wait(POLL)
            self._store.add(_key(self._rank), GONE)
            for _ in range(GOODBYES if self._rank == 0 else 0):
                if all(self._store.add(_key(rank), 0) < 0 for rank in self._counts):
                    break
                time.sleep(POLL)

    def _watch(self) -> None:
        while not self._over.wait(POLL):
            for rank in self._missed:
                self._missed[rank] += 1
            silent = [rank for rank, missed in self._missed.items() if missed > MISSED]
            if silent:
                seconds = MISSED * POLL
                others = " and ".join(f"rank {rank}" for rank in sorted(silent) if rank != self._rank)
                if self._rank in silent:
                    others = f"the process at {os.environ.get('MASTER_ADDR')}, where ranks meet,"
                self._lost(f"{others} did not answer for {seconds:.0f} seconds")
                return


def _key(rank: int) -> str:
    return f"gantrain/heartbeat/{rank}"
