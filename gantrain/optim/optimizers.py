"""The optimizers."""

from __future__ import annotations

import inspect
from typing import TypeVar

import torch
from torch import nn

from gantrain.config.schema import NonNegativeFloat, UnitFloat
from gantrain.registry import OPTIMIZERS

Class = TypeVar("Class", bound=type[torch.optim.Optimizer])


def _eager(optimizer: Class) -> Class:
    """Undo torch's decorators of methods, which import its compiler (two seconds) to exclude optimizers from graphs.

    They are never part of one here: ``trainer.compile`` compiles networks.
    """
    for name in ("add_param_group", "zero_grad", "state_dict", "load_state_dict"):
        setattr(optimizer, name, inspect.unwrap(getattr(optimizer, name)))
    optimizer.step = torch.no_grad()(inspect.unwrap(optimizer.step))  # type: ignore[method-assign]
    return optimizer


class _AdamArguments:
    """The constructor of both forms of Adam, which come after it in the order of their bases.

    Args:
        params: What is optimized.
        fused: Whether a step is one kernel.
        lr: Learning rate.
        betas: Decay of the running averages of the gradient and of its square.
        weight_decay: Weight of the L2 penalty; in ``adamw``, the decay of weights per step relative to the learning
            rate. 0 is off.
    """

    def __init__(
        self,
        *,
        params: list[nn.Parameter],
        fused: bool,
        lr: NonNegativeFloat,
        betas: tuple[UnitFloat, UnitFloat],
        weight_decay: NonNegativeFloat,
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, weight_decay=weight_decay, fused=fused)  # type: ignore[call-arg]


@OPTIMIZERS.register("adam")
@_eager
class Adam(_AdamArguments, torch.optim.Adam):
    """Kingma and Ba 2015 (arXiv:1412.6980)."""


@OPTIMIZERS.register("adamw")
@_eager
class AdamW(_AdamArguments, torch.optim.AdamW):
    """Adam with decoupled weight decay: Loshchilov and Hutter 2019 (arXiv:1711.05101)."""


@OPTIMIZERS.register("rmsprop")
@_eager
class RMSprop(torch.optim.RMSprop):
    """Gradients divided by their running root mean square (Hinton's lecture; the optimizer of WGAN).

    Args:
        params: What is optimized.
        lr: Learning rate.
        alpha: Decay of the running average of squared gradients.
        momentum: Of the updates; 0 is off.
    """

    def __init__(
        self, *, params: list[nn.Parameter], lr: NonNegativeFloat, alpha: UnitFloat, momentum: UnitFloat
    ) -> None:
        super().__init__(params, lr=lr, alpha=alpha, momentum=momentum)


@OPTIMIZERS.register("sgd")
@_eager
class SGD(torch.optim.SGD):
    """Stochastic gradient descent, with momentum or without.

    Args:
        params: What is optimized.
        fused: Whether a step is one kernel.
        lr: Learning rate.
        momentum: Of the updates; 0 is off.
        weight_decay: Weight of the L2 penalty; 0 is off.
    """

    def __init__(
        self,
        *,
        params: list[nn.Parameter],
        fused: bool,
        lr: NonNegativeFloat,
        momentum: UnitFloat,
        weight_decay: NonNegativeFloat,
    ) -> None:
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay, fused=fused)
