"""What a machine reaches in the operations that networks consist of."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch.nn import functional as F

from gantrain.benchmarking.clock import Clock
from gantrain.benchmarking.counting import Counting

ROUNDS = 20  # The fastest one counts: on a busy machine, few are undisturbed.
# On a CPU these take some 20 to 50 ms per core; a GPU needs larger ones.
SIZES = {"cpu": (1024, 1, 128), "cuda": (8192, 32, 256)}  # Rows of a matrix; images and channels of a convolution.
SIDE = 64  # Pixels of the images.


class Rates(NamedTuple):
    """Floating-point operations per second."""

    product: float  # Of the product of two square matrices.
    convolution: float  # Of a 3 x 3 convolution.


def measure_rates(device: torch.device, dtype: torch.dtype, clock: Clock) -> Rates:
    """The rates of a device in a type of numbers, with the present number of threads."""
    rows, images, channels = SIZES.get(device.type, SIZES["cuda"])
    matrix = torch.randn(rows, rows, device=device).to(dtype)
    layers = torch.randn(images, channels, SIDE, SIDE, device=device).to(dtype)
    kernel = torch.randn(channels, channels, 3, 3, device=device).to(dtype)
    works = (partial(torch.matmul, matrix, matrix), partial(F.conv2d, layers, kernel, padding=1))
    with torch.no_grad():
        return Rates(*(_rate(work, clock) for work in works))


def _rate(work: Callable[[], object], clock: Clock) -> float:
    with Counting() as counted:
        work()
    seconds = []
    for _ in range(ROUNDS):
        start = clock.idle()
        work()
        seconds.append(clock.idle() - start)
    return counted.flops / max(min(seconds), 1e-9)
