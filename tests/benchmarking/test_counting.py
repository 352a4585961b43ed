"""Operations, floating-point operations and host reads are counted; how many a step of CycleGAN needs."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from conftest import MODELS, TRANSLATORS, sized
from measured_steps import tiny_steps
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from gantrain.benchmarking.counting import Counting, _waits


def test_floating_point_operations_are_those_counted_by_hand() -> None:
    image, kernel = torch.randn(2, 3, 8, 8), torch.randn(4, 3, 3, 3, requires_grad=True)
    with Counting() as counted:
        output = F.conv2d(image, kernel, padding=1)
        forward = counted.flops
        output.sum().backward()
    assert forward == 2 * (2 * 4 * 8 * 8) * (3 * 3 * 3)
    assert counted.flops == 2 * forward  # The image needs no gradient.
    assert counted.operations["aten.convolution"] == counted.operations["aten.convolution_backward"] == 1
    assert counted.reads == 0


def test_values_that_the_host_reads_are_counted() -> None:
    with Counting() as counted:
        torch.ones(()).item()
        bool(torch.zeros(()))
        torch.ones(3).nonzero()
    assert counted.reads == 3


def test_a_copy_that_does_not_block_is_no_host_read() -> None:
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    class Recorded(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
            output = function(*arguments, **(keywords or {}))
            calls.append((arguments, keywords or {}))
            return output

    source, target = torch.ones(2), torch.zeros(2)
    with Recorded():
        for non_blocking in (True, False):
            target.copy_(source, non_blocking=non_blocking)
            source.to(torch.float64, non_blocking=non_blocking)
    elsewhere = torch.ones(2, device="meta")  # As if the source were on a GPU.
    found = [
        _waits(tuple(elsewhere if value is source else value for value in arguments), keywords, target)
        for arguments, keywords in calls
    ]
    assert found == [False, False, True, True]


@pytest.mark.parametrize(("batch", "most"), [(1, 2300), (4, 2800)])
def test_a_step_of_cyclegan_dispatches_few_operations(batch: int, most: int) -> None:
    """The authors' PyTorch code dispatches 4,622 for one image; widths and sizes do not change the number."""
    steps = tiny_steps("model=cyclegan", "data.load_size=32", f"data.batch_size={batch}")
    assert sum(1 for name, _ in steps.trainer.model.generator_ab.named_modules() if "conv_block." in name) == 9 * 7
    assert steps.measure(warmup=2, steps=1).operations <= most


HOST = ("cpu", "item", "tolist", "numpy", "__bool__", "__float__", "__int__")


class HostReads(TorchFunctionMode):
    """Collects the calls that copy a tensor to the host, which on the CPU dispatch no operation."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_function__(self, function, types, arguments=(), options=None):
        if (name := getattr(function, "__name__", "")) in HOST:
            self.names.append(name)
        return function(*arguments, **(options or {}))


@pytest.mark.parametrize("model", [*MODELS, *TRANSLATORS])
def test_a_step_reads_nothing_back_from_the_device(model: str) -> None:
    augment = "ada" if model in ("dcgan", "cgan") else "[translation,cutout]"
    size = ["data.load_size=32"] if model in TRANSLATORS else sized(model)
    penalties = ["model.gradient_penalty=1", "model.r1=1", "model.r2=1", "network.discriminator.norm=none"]
    size += ["model.warmup_critic_steps=0"] if model == "wgan" else []
    steps = tiny_steps(f"model={model}", *size, "model.ema=0.9", f"model.augment={augment}", *penalties)
    trainer = steps.trainer
    batch = next(trainer.stream)
    with HostReads() as reads:
        trainer.model.train_step(itertools.repeat(batch), trainer.update)
    assert reads.names == []
    assert steps.measure(warmup=2, steps=1).reads == 0


def test_a_read_by_a_method_is_counted() -> None:
    with HostReads() as reads:
        torch.ones(2).cpu()
        torch.ones(2).tolist()
    assert reads.names == ["cpu", "tolist"]
