"""The configuration of a run before any object is built."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
import torch
from conftest import TINY

from gantrain.cli.compose import complete, compose_once
from gantrain.config.settings import set_up_torch
from gantrain.training.context import RunContext

TYPED = [*TINY, "trainer.steps=1", "name=run", "checkpoints_dir=runs"]


@pytest.fixture
def context() -> RunContext:
    return RunContext.create(complete(compose_once("train", [], TYPED)), TYPED)


@pytest.fixture
def _switches() -> Iterator[None]:
    yield
    torch.use_deterministic_algorithms(False)
    torch.autograd.set_multithreading_enabled(True)


def test_a_context_is_frozen_and_knows_its_folder_and_command(context: RunContext) -> None:
    assert context.folder == Path("runs/run")
    assert context.command("resume=never").startswith("gantrain train data.load_size=16")
    assert context.command("name=other").endswith("checkpoints_dir=runs name=other")
    with pytest.raises(FrozenInstanceError):
        context.device = torch.device("meta")


def test_data_is_split_by_what_reads_it(context: RunContext) -> None:
    expected = {"batch_size": 4, "num_workers": None, "on_error": "raise", "decode_device": "cpu", "balance": False}
    assert context.data.stream == expected
    assert context.data.dataset["mode"] == "digits"
    assert not {"batch_size", "fraction", "cache"} & context.data.dataset.keys()


@pytest.mark.usefixtures("_switches")
@pytest.mark.parametrize("deterministic", [True, False])
def test_deterministic_runs_sum_gradients_in_one_thread(deterministic: bool) -> None:
    # On a GPU, the order in which gradients are summed depends on the number of threads.
    typed = [*TYPED, f"trainer.deterministic={str(deterministic).lower()}"]
    context = RunContext.create(complete(compose_once("train", [], typed)))
    set_up_torch(context.trainer, context.device)
    assert torch._C._is_multithreading_enabled() is not deterministic
