"""Queues of workers: short messages are in the pipe after ``put``, long ones never block."""

from __future__ import annotations

import multiprocessing
import threading

import pytest
import torch

from gantrain.data.queues import MAX_SHORT, SHORT, context


@pytest.fixture
def queue():
    prompt = context(MAX_SHORT)
    assert prompt is not None
    made = prompt.Queue()
    yield made
    made.close()
    made.cancel_join_thread()


def test_a_short_message_can_be_read_without_a_thread(queue):
    before = threading.active_count()
    queue.put((3, {"name": ["a", "b"]}))
    assert threading.active_count() == before
    assert queue.get(timeout=0) == (3, {"name": ["a", "b"]})


def test_as_many_short_messages_as_allowed_do_not_block(queue):
    message = b"x" * (SHORT - 64)
    before = threading.active_count()
    for _ in range(MAX_SHORT):
        queue.put(message)
    assert threading.active_count() == before
    assert [queue.get(timeout=1) for _ in range(MAX_SHORT)] == [message] * MAX_SHORT


def test_long_messages_do_not_block(queue):
    """More than any pipe holds, and nobody reads."""
    message = "x" * 500_000
    for number in range(4):
        queue.put((number, message))
    assert [queue.get(timeout=10) for _ in range(4)] == [(number, message) for number in range(4)]


@pytest.mark.parametrize("size", [3, 100_000])
def test_tensors_arrive_from_another_process(queue, size):
    fork = multiprocessing.get_context("fork")
    received = fork.Event()

    def send() -> None:
        queue.put((0, torch.arange(size), "n" * size))
        received.wait(30)  # The memory of the tensor is handed over by its process.

    process = fork.Process(target=send)
    process.start()
    number, tensor, name = queue.get(timeout=30)
    received.set()
    process.join(30)
    assert (number, len(name)) == (0, size)
    torch.testing.assert_close(tensor, torch.arange(size))


def test_many_unread_messages_have_the_default_context():
    assert context(MAX_SHORT + 1) is None
