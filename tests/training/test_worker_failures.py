"""Data workers and items that fail: the message, and that no worker is left running."""

from __future__ import annotations

import multiprocessing
import multiprocessing.process
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from failing_runs import RUN, assert_crashed, last_line
from PIL import Image

from gantrain.cli.main import main
from gantrain.data.base import Batch, ImageDataset
from gantrain.data.images import reader
from gantrain.data.sets.digits import Digits
from gantrain.optim.updates import Updates


@pytest.fixture(autouse=True)
def earlier_children() -> list[multiprocessing.process.BaseProcess]:
    """The processes that earlier tests left running."""
    EARLIER[:] = multiprocessing.active_children()
    return EARLIER


EARLIER: list[multiprocessing.process.BaseProcess] = []


def new_children() -> list[multiprocessing.process.BaseProcess]:
    """The processes that this test has started."""
    return [child for child in multiprocessing.active_children() if child not in EARLIER]


WORKERS = [*RUN, "trainer.steps=200", "trainer.save_every=100", "data.num_workers=2"]


def in_a_worker(monkeypatch: pytest.MonkeyPatch, action: Callable[[], None]) -> None:
    """Run ``action`` in a worker when it makes its 20th item of the training data."""
    this, item = os.getpid(), Digits.item
    count = [0]

    def bad(self: Digits, index: int, seed: int) -> Batch:
        count[0] += os.getpid() != this
        if count[0] == 20:
            action()
        return item(self, index, seed)

    monkeypatch.setattr(Digits, "items", ImageDataset.items)
    monkeypatch.setattr(Digits, "item", bad)


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGKILL), ["killed", "memory"]),
        (lambda: os.kill(os.getpid(), signal.SIGSEGV), ["SIGSEGV", "decoder"]),
        (lambda: os._exit(7), []),
    ],
)
def test_a_killed_worker_is_reported_in_one_line_with_the_cause(
    action: Callable[[], None], words: list[str], monkeypatch, capfd
) -> None:
    in_a_worker(monkeypatch, action)
    assert main(WORKERS) == 2
    line = capfd.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("gantrain: a data worker ")
    assert all(word in line for word in words)
    assert_crashed(line.removeprefix("gantrain: "))
    assert new_children() == []


def broken() -> None:
    raise ValueError("a strange\nthing")


@pytest.mark.parametrize("workers", [0, 2])
def test_a_failed_item_is_reported_in_one_line_with_its_number_and_place(workers: int, monkeypatch, capsys) -> None:
    item = Digits.item

    def bad(self: Digits, index: int, seed: int) -> Batch:
        if index == 17:
            broken()
        return item(self, index, seed)

    monkeypatch.setattr(Digits, "items", ImageDataset.items)
    monkeypatch.setattr(Digits, "item", bad)
    assert main([*RUN, "trainer.steps=2000", "data.max_size=40", f"data.num_workers={workers}"]) == 2
    line = broken.__code__.co_firstlineno + 1
    message = last_line(capsys)
    assert message.startswith("gantrain: ")
    assert "item 17 " in message
    assert f": ValueError: a strange ({__file__}:{line}); " in message
    assert message.count("data.on_error=skip") == 1
    assert new_children() == []
    monkeypatch.undo()


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_whose_decoder_fails_is_reported_by_its_path(workers: int, monkeypatch, capsys) -> None:
    Path("images").mkdir()
    for number in range(4):
        Image.new("RGB", (20, 20)).save(f"images/{number}.png")
    decode = reader.decode
    monkeypatch.setattr(
        reader, "decode", lambda source, *rest: broken() if "2" in str(source) else decode(source, *rest)
    )
    single = ["data=single", "data.root=images", "model=gan", "trainer.steps=9", f"data.num_workers={workers}"]
    line = broken.__code__.co_firstlineno + 1
    message = f"images/2.png: ValueError: a strange ({__file__}:{line})"
    assert main([*RUN, *single, "data.cache=off"]) == 2
    assert message in (line := last_line(capsys))
    assert line.count("data.on_error=skip") == 1
    assert main([*RUN, *single, "data.cache=memory"]) == 2  # In the threads that decode for the cache.
    assert message in last_line(capsys)
    assert main([*RUN, *single, "data.cache=off", "data.on_error=skip"]) == 0
    warnings = [line for line in capsys.readouterr().err.splitlines() if message in line]
    assert warnings
    assert "warning: " in warnings[0]


def test_a_batch_that_cannot_be_collated_is_reported_in_one_line(monkeypatch, capsys) -> None:
    monkeypatch.setattr(Digits, "items", lambda self, indices, seeds: broken())
    assert main([*RUN, "trainer.steps=2"]) == 2
    message = last_line(capsys)
    assert message.startswith("gantrain: ")
    assert "batch" in message
    assert ": ValueError: a strange (" in message


def test_an_unexpected_error_while_training_leaves_no_worker(monkeypatch) -> None:
    """Its traceback, which refers to the workers, may be stored by the code that catches it."""
    begin = Updates.begin

    def bad(self: Updates, number: int, progress: float) -> None:
        begin(self, number, progress)
        if number == 3:
            assert len(new_children()) == 2
            raise AssertionError("a bug")

    monkeypatch.setattr(Updates, "begin", bad)
    with pytest.raises(AssertionError, match="a bug"):
        main(WORKERS)
    assert new_children() == []


def test_an_error_while_waiting_for_a_batch_leaves_no_worker(monkeypatch) -> None:
    def bad(self: Any) -> Any:
        raise AssertionError("a bug")

    monkeypatch.setattr(torch.utils.data.dataloader._MultiProcessingDataLoaderIter, "_get_data", bad)
    with pytest.raises(AssertionError, match="a bug"):
        main(WORKERS)
    assert new_children() == []
