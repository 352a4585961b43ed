"""The states of a model in which its images are shown and measured during training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from gantrain.models.base import GAN
from gantrain.optim.updates import Updates
from gantrain.runtime import distributed


@contextmanager
def evaluating(model: GAN, update: Updates) -> Iterator[None]:
    """The model in evaluation mode, with its averaged weights if there are any, without gradients."""
    was_training = model.training
    model.eval()
    try:
        with update.averaged(), torch.no_grad():
            yield
    finally:
        model.train(was_training)


@contextmanager
def shared_buffers(networks: Sequence[nn.Module]) -> Iterator[None]:
    """Inside, the buffers of the networks, such as the statistics of batch norm, are those of rank 0 on every rank."""
    buffers = [buffer for network in networks for buffer in network.buffers()]
    own = [buffer.clone() for buffer in buffers]
    distributed.broadcast(buffers)
    try:
        yield
    finally:
        for buffer, value in zip(buffers, own, strict=True):
            buffer.copy_(value)
