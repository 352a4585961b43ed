"""Updates: the one place where a loss becomes an optimizer step."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from gantrain.optim.buckets import GradientMean
from gantrain.optim.ema import EMA
from gantrain.optim.monitor import RunMonitor
from gantrain.optim.schedules import Schedule
from gantrain.runtime.seeding import StepRandom, derive_seed, seed_default_generators

SIDES = ("generator", "discriminator")


class SideOptimizer:
    """The optimizer of one side (generators or discriminators) and, in float16, its gradient scaler.

    Args:
        optimizer: Over the parameters of this side only.
        scaled: Whether gradients are scaled against underflow (float16).
        statistics: Floating point buffers of the networks, such as batch norm's means and variances.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, device: torch.device, *, scaled: bool, statistics: Sequence[Tensor] = ()
    ) -> None:
        self.statistics = list(statistics)
        self.optimizer = optimizer
        self.scaler = torch.amp.GradScaler(device.type, enabled=scaled)
        self.parameters: list[nn.Parameter] = [p for group in optimizer.param_groups for p in group["params"]]
        self._mean = GradientMean(self.parameters)
        self._base_rates: list[float] = [group["lr"] for group in optimizer.param_groups]
        self._factor = 1.0

    def make_capturable(self, rate_dtype: torch.dtype) -> None:
        """Let steps be captured in a CUDA graph: with learning rates and counts of steps on the device."""
        for group, base in zip(self.optimizer.param_groups, self._base_rates, strict=True):
            group["lr"] = torch.full((), base, dtype=rate_dtype, device=self.parameters[0].device)
            if "capturable" in group:
                group["capturable"] = True

    def set_rate(self, factor: float) -> None:
        """Multiply the base learning rates by ``factor``."""
        self._factor = factor
        for group, base in zip(self.optimizer.param_groups, self._base_rates, strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(base * factor)
            else:
                group["lr"] = base * factor

    @property
    def rate(self) -> float:
        """The current learning rate."""
        return self._base_rates[0] * self._factor

    def update(self, loss: Tensor, monitor: RunMonitor, side: str) -> None:
        """Minimise ``loss`` by one step."""
        self.accumulate(loss, first=True, last=True)
        self.step(loss, monitor, side)

    def accumulate(self, loss: Tensor, *, first: bool, last: bool) -> None:
        """Add the gradients of a loss to those of this side's parameters, and only these, or replace them.

        Those of the ``last`` one are sent to the other ranks while it is computed.
        """
        if first:
            self.optimizer.zero_grad(set_to_none=True)
        if last:
            self._mean.begin()
        self.scaler.scale(loss).backward(inputs=self.parameters)

    def step(self, loss: Tensor, monitor: RunMonitor, side: str) -> None:
        """The optimizer's step by the gradients, which are averaged over all ranks; ``loss`` is what was minimised."""
        message = monitor.message(loss)
        self._mean.finish(message)
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        self.scaler.unscale_(self.optimizer)
        monitor.record_update(message, side, gradients, may_be_infinite=self.scaler.is_enabled())
        self.scaler.step(self.optimizer)
        self.scaler.update()

    @torch.no_grad()
    def is_finite(self) -> Tensor:
        """Whether all parameters, statistics and moments of the optimizer are finite, a scalar on the device."""
        state = [value for values in self.optimizer.state.values() for value in values.values()]
        # Scalars are step counts, which may be on another device.
        moments = [value for value in state if isinstance(value, Tensor) and value.dim() > 0]
        norms = torch._foreach_norm(
            [*self.parameters, *self.statistics, *moments], torch.inf
        )  # It is nan if any value is.
        return torch.stack([norm.isfinite() for norm in norms]).all()

    def state_dict(self) -> dict[str, Any]:
        """The states of the optimizer and of the scaler."""
        state = self.optimizer.state_dict()
        for group, base in zip(state["param_groups"], self._base_rates, strict=True):
            # As without CUDA graphs.
            group |= {"lr": base * self._factor, **({"capturable": False} if "capturable" in group else {})}
        return {"optimizer": state, "scaler": self.scaler.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore ``state_dict``, with this optimizer's own hyper-parameters: those of the run may have changed."""
        own = [{key: value for key, value in group.items() if key != "params"} for group in self.optimizer.param_groups]
        saved = state["optimizer"]
        # Where step counts are stored depends on the kind of optimizer, not on that of the run so far.
        groups = [
            {**group, **{key: value for key, value in options.items() if key != "lr"}}
            for group, options in zip(saved["param_groups"], own, strict=True)
        ]
        self.optimizer.load_state_dict({**saved, "param_groups": groups})
        for group, options in zip(self.optimizer.param_groups, own, strict=True):
            group.update(options)
        if state["scaler"]:  # It is empty unless the run has used float16 so far.
            self.scaler.load_state_dict(state["scaler"])


@dataclass(kw_only=True, eq=False)
class Updates:
    """What a model's ``train_step`` is given: the updates of both sides, the step, and its random numbers.

    Each update is a backward pass, one averaging of the gradients over all ranks, and the optimizer's step. Nothing is
    read back from the device (except by float16's scaler if the optimizer is not a fused one).
    """

    sides: tuple[SideOptimizer, SideOptimizer]  # The optimizers of the generators and of the discriminators.
    schedule: Schedule  # The learning rates of both sides.
    ema: EMA | None  # Moving averages of the generators.
    draws: StepRandom  # Random numbers, reset at every step and the same for any number of ranks.
    monitor: RunMonitor  # Collects whether the run is to stop or to save, and whether it has diverged.
    step: int = field(default=0, init=False)  # Generator updates before this one.
    loads: int = field(default=0, init=False)  # How often a state was loaded, which replaces tensors.

    def begin(self, step: int, progress: float) -> None:
        """Prepare for generator update number ``step`` (from 0), at ``progress`` in [0, 1) of the run."""
        self.step = step
        self.restart()
        factor = self.schedule.factor(progress)
        for side in self.sides:
            side.set_rate(factor)

    def restart(self) -> None:
        """Begin the present step again."""
        self.monitor.begin(self.step)
        self.draws.start(self.step)
        # The default generators of torch (dropout, pools) are seeded too, differently on each rank.
        seed = derive_seed(self.draws.seed, "step", self.step, self.draws.rank)
        seed_default_generators(seed, self.draws.generator.device)

    def rates(self) -> dict[str, float]:
        """The learning rates of the last step, for the log."""
        return {f"lr_{name}": side.rate for name, side in zip(SIDES, self.sides, strict=True)}

    def generator(self, loss: Tensor) -> None:
        """Update the generators to minimise ``loss``."""
        self.sides[0].update(loss, self.monitor, "generator")
        self._average()

    def discriminator(self, loss: Tensor) -> None:
        """Update the discriminators to minimise ``loss``."""
        self.sides[1].update(loss, self.monitor, "discriminator")

    def finish(self, side: int, loss: Tensor) -> None:
        """The update of the generators (0) or the discriminators (1) by accumulated gradients, those of ``loss``."""
        self.sides[side].step(loss, self.monitor, SIDES[side])
        if side == 0:
            self._average()

    def _average(self) -> None:
        if self.ema is not None:
            self.ema.update()

    def nonfinite_sides(self) -> list[str]:
        """The sides whose weights became infinite or nan by finite gradients; waits for the device."""
        return [name for name, side in zip(SIDES, self.sides, strict=True) if not side.is_finite()]

    def averaged(self) -> AbstractContextManager[None]:
        """A context in which the generators contain their moving averages, if there are any."""
        return nullcontext() if self.ema is None else self.ema.swapped_in()

    def state_dict(self) -> dict[str, Any]:
        """Optimizers, scalers and moving averages; the trainer saves the schedule, which differs by rank."""
        return {
            "players": [side.state_dict() for side in self.sides],
            "averages": self.ema.state_dict() if self.ema is not None else None,
            **({"averaged_updates": self.ema.updates} if self.ema is not None else {}),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore ``state_dict``."""
        self.loads += 1
        self.monitor.reset()
        for side, side_state in zip(self.sides, state["players"], strict=True):
            side.load_state_dict(side_state)
        if self.ema is not None and state["averages"] is not None:
            self.ema.load_state_dict(state["averages"])
            self.ema.updates = state["averaged_updates"]
        elif self.ema is not None:  # The run had none so far.
            self.ema.restart()
