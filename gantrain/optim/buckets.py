"""Gradients averaged over all ranks while the backward pass computes those that are left."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from gantrain.runtime import distributed

BUCKET_BYTES = 4 * 2**20  # Of gradients in one message; more messages cost time, fewer overlap less.


class GradientMean:
    """The means over ranks of gradients, which are sent in buckets, each as soon as its gradients are there.

    The buckets are the parameters in reverse order, about that of the backward pass. All ranks send them in this order,
    whichever gradients are there first, and the last one with the message of the update, after the backward pass.
    ``DistributedDataParallel`` does this for a network with one forward pass per backward pass, all of whose gradients
    are wanted; a GAN's discriminator has several, whose gradients the generator's update must not touch.

    Args:
        parameters: Those of one optimizer. A gradient that only some ranks have is 0 on the others.
    """

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self._buckets = list(_divided(parameters[::-1]))
        self._missing: list[int] = []  # By bucket, the gradients that are not there yet; empty if none is to be sent.
        self._sent: list[tuple[Tensor, Callable[[], None]]] = []
        if distributed.world_size() > 1:
            arrived = weakref.WeakMethod(self._arrived)  # Python does not collect cycles through these hooks.
            for number, bucket in enumerate(self._buckets[:-1]):
                for parameter in bucket:
                    parameter.register_post_accumulate_grad_hook(partial(_call, arrived, number))

    def begin(self) -> None:
        """Send the gradients of the next backward pass, which is the last one of this update."""
        if distributed.is_joined():
            self._missing = [len(bucket) for bucket in self._buckets[:-1]]

    def finish(self, message: Tensor) -> None:
        """Replace the gradients, and ``message`` (n,), by their means over all ranks."""
        if not distributed.is_joined():
            return
        self._missing = []
        while len(self._sent) < len(self._buckets):
            self._send(message if len(self._sent) == len(self._buckets) - 1 else None)
        for bucket, (flat, wait) in zip(self._buckets, self._sent, strict=True):
            wait()
            flat /= distributed.world_size()
            *means, present, rest = flat.split(_sizes(bucket, flat))
            if any(parameter.grad is None for parameter in bucket):  # Only then does it wait for the device.
                for parameter, share in zip(bucket, present.tolist(), strict=True):
                    if parameter.grad is None and share > 0:
                        parameter.grad = torch.zeros_like(parameter)
            for parameter, mean in zip(bucket, means, strict=True):
                if parameter.grad is not None:
                    parameter.grad.copy_(mean.view_as(parameter))
            if len(rest):
                message.copy_(rest)
        self._sent = []

    def _arrived(self, number: int) -> None:
        """A gradient of this bucket is complete."""
        if not self._missing:
            return
        self._missing[number] -= 1
        while len(self._sent) < len(self._missing) and self._missing[len(self._sent)] == 0:
            self._send()

    def _send(self, message: Tensor | None = None) -> None:
        """Start to add up the next bucket: its gradients, for each whether it is there, and a message."""
        bucket = self._buckets[len(self._sent)]
        present = bucket[0].new_ones(len(bucket))
        for number, parameter in enumerate(bucket):
            if parameter.grad is None:
                present[number] = 0
        gradients = [torch.zeros_like(each) if each.grad is None else each.grad for each in bucket]
        rest = present[:0] if message is None else message.to(present)
        flat = torch.cat([part.detach().reshape(-1) for part in (*gradients, present, rest)])
        self._sent.append((flat, distributed.start_sum(flat)))


def _call(arrived: Callable[[], Callable[[int], None] | None], number: int, parameter: Tensor) -> None:
    if (act := arrived()) is not None:
        act(number)


def _sizes(bucket: Sequence[nn.Parameter], flat: Tensor) -> list[int]:
    """The lengths of the parts of a bucket's message."""
    sizes = [*(each.numel() for each in bucket), len(bucket)]
    return [*sizes, flat.numel() - sum(sizes)]


def _divided(parameters: Sequence[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """The parameters in buckets of one dtype."""
    bucket: list[nn.Parameter] = []
    for parameter in parameters:
        size = sum(each.numel() * each.element_size() for each in bucket)
        if bucket and (size >= BUCKET_BYTES or parameter.dtype != bucket[0].dtype):
            yield bucket
            bucket = []
        bucket.append(parameter)
    yield bucket
