"""A rank that no longer answers is noticed by the others, and one that has ended is not missed."""

from __future__ import annotations

import threading
from collections import Counter

import pytest

from gantrain.runtime.cluster import heartbeat
from gantrain.runtime.cluster.heartbeat import Heartbeat

LONG = 30.0  # Seconds after which a test fails.
PATIENT = 500  # Polls, while a thread may have to wait for a processor.


class Store:
    """Torch's key-value store: it answers until it is unplugged, and then blocks."""

    def __init__(self) -> None:
        self.counts = Counter[str]()
        self.plugged = threading.Event()
        self.plugged.set()
        self.answers = threading.Semaphore(0)

    def add(self, key: str, amount: int) -> int:
        self.plugged.wait()
        self.counts[key] += amount
        self.answers.release()
        return self.counts[key]


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "POLL", 0.001)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "MISSED", PATIENT)
    monkeypatch.setattr(heartbeat, "GOODBYES", round(LONG / 0.001))


def started(store: Store, rank: int) -> tuple[Heartbeat, threading.Event, list[str]]:
    lost, reasons = threading.Event(), list[str]()

    def end(reason: str) -> None:
        reasons.append(reason)
        lost.set()

    beat = Heartbeat(store, rank=rank, world_size=2, lost=end)
    beat.start()
    return beat, lost, reasons


def test_a_rank_that_stops_counting_is_lost() -> None:
    store = Store()
    _, lost, reasons = started(store, 0)
    assert lost.wait(LONG)
    assert "rank 1 did not answer" in reasons[0]


def test_a_store_that_does_not_answer_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASTER_ADDR", "gpu03")
    store = Store()
    store.plugged.clear()
    _, lost, reasons = started(store, 1)
    assert lost.wait(LONG)
    assert "at gpu03" in reasons[0]
    store.plugged.set()


@pytest.mark.usefixtures("patient")
def test_ranks_that_count_and_ranks_that_have_ended_are_not_lost() -> None:
    store = Store()
    (first, lost_first, _), (second, lost_second, _) = started(store, 0), started(store, 1)
    for _ in range(8 * PATIENT):
        assert store.answers.acquire(timeout=LONG)
    second.stop()
    assert store.counts["gantrain/heartbeat/1"] < 0
    for _ in range(8 * PATIENT):
        assert store.answers.acquire(timeout=LONG)
    assert not lost_first.is_set()
    assert not lost_second.is_set()
    first.stop()


@pytest.mark.usefixtures("patient")
def test_a_rank_that_ends_later_than_rank_0_is_not_ended_by_it() -> None:
    store = Store()
    (first, _, _), (second, lost, _) = started(store, 0), started(store, 1)
    for _ in range(PATIENT):
        assert store.answers.acquire(timeout=LONG)
    first.stop()
    store.plugged.clear()  # It was in rank 0's process.
    assert second._watching.join(LONG) is None
    assert not second._watching.is_alive()
    assert not lost.is_set()
    store.plugged.set()
