"""Optimizers, averages, and Updates: the one place where a loss becomes an update."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from gantrain.optim.ema import EMA
from gantrain.optim.monitor import RunMonitor
from gantrain.optim.schedules import Schedule
from gantrain.runtime import distributed
from gantrain.runtime.seeding import StepRandom, derive_seed

SIDES = ("generator", "discriminator")


class SideOptimizer:
    """One side of the game: its optimizer, its parameters and, in float16, its gradient scaler.

    Args:
        optimizer: Over the parameters of this side alone.
        device: Where they are.
        scaled: Whether gradients are scaled against underflow (float16).
        statistics: What its networks keep beside their parameters, of floating point: batch norm's means and variances.

    Attributes:
        device: See above.
        statistics: See above.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        device: torch.device,
        *,
        scaled: bool,
        statistics: Sequence[Tensor] = (),
    ) -> None:
        self.device = device
        self.statistics = list(statistics)
        self.optimizer = optimizer
        self.scaler = torch.amp.GradScaler(device.type, enabled=scaled)
        self.parameters: list[nn.Parameter] = [p for group in optimizer.param_groups for p in group["params"]]
        self._base_rates = [group["lr"] for group in optimizer.param_groups]

    def set_rate(self, factor: float) -> None:
        """Multiply the base learning rates by ``factor``."""
        for group, base in zip(self.optimizer.param_groups, self._base_rates, strict=True):
            group["lr"] = base * factor

    @property
    def rate(self) -> float:
        """The learning rate now."""
        return float(self.optimizer.param_groups[0]["lr"])

    def update(self, loss: Tensor, watch: RunMonitor, side: str) -> None:
        """Minimise ``loss`` by one step; only this side's parameters receive gradients, which ``watch`` sees."""
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward(inputs=self.parameters)
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        message = watch.message(loss)
        distributed.average([*gradients, message])
        self.scaler.unscale_(self.optimizer)
        watch.record_update(message, side, gradients, may_be_infinite=self.scaler.is_enabled())
        self.scaler.step(self.optimizer)
        self.scaler.update()

    @torch.no_grad()
    def is_finite(self) -> Tensor:
        """Whether all parameters, statistics and what the optimizer remembers are, a scalar on the device."""
        kept = [value for state in self.optimizer.state.values() for value in state.values()]
        # but for its count of steps, which may be elsewhere
        moments = [value for value in kept if isinstance(value, Tensor) and value.dim() > 0]
        norms = torch._foreach_norm([*self.parameters, *self.statistics, *moments], torch.inf)  # of nan it is nan
        return torch.stack([norm.isfinite() for norm in norms]).all()

    def state_dict(self) -> dict[str, Any]:
        """Optimizer and scaler."""
        return {"optimizer": self.optimizer.state_dict(), "scaler": self.scaler.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state_dict``."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])


class Updates:
    """What a model's ``train_step`` is given to play with: the two updates, its step and its random numbers.

    Each update is backward, one averaging of the gradients over all ranks, and the optimizer's step. Nothing is read
    back from the device (but by float16's scaler, where the optimizer is not a fused one).

    Args:
        generator: The generators' side.
        discriminator: The discriminators' side.
        schedule: For the learning rates of both.
        averages: Moving averages of the generators, or None.
        draws: Random numbers, the same for any number of ranks.

    Attributes:
        step: Generator updates made before this one, on the host.
        draws: See above; reset at every step.
        players: The generators' side and the discriminators'.
        watch: Sees whether the run is to stop, or has diverged.
    """

    def __init__(
        self,
        *,
        generator: SideOptimizer,
        discriminator: SideOptimizer,
        schedule: Schedule,
        averages: EMA | None,
        draws: StepRandom,
    ) -> None:
        self.step = 0
        self.draws = draws
        self.schedule = schedule
        self.averages = averages
        self.players = (generator, discriminator)
        self.watch = RunMonitor(generator.device)

    def begin(self, step: int, progress: float) -> None:
        """Prepare for generator update number ``step`` (from 0), at ``progress`` in [0, 1) of the run."""
        self.step = step
        self.watch.begin(step)
        self.draws.start(step)
        # torch's own generators (dropout, pools) too, and each rank's differently
        torch.manual_seed(derive_seed(self.draws.seed, "step", step, self.draws.rank))
        factor = self.schedule.factor(progress)
        for player in self.players:
            player.set_rate(factor)

    def rates(self) -> dict[str, float]:
        """The learning rates of the last step, for the log."""
        return {f"lr_{side}": player.rate for side, player in zip(SIDES, self.players, strict=True)}

    def generator(self, loss: Tensor) -> None:
        """Update the generators to lower ``loss``."""
        self.players[0].update(loss, self.watch, "generator")
        if self.averages is not None:
            self.averages.update()

    def discriminator(self, loss: Tensor) -> None:
        """Update the discriminators to lower ``loss``."""
        self.players[1].update(loss, self.watch, "discriminator")

    def nonfinite_sides(self) -> list[str]:
        """The sides that finite gradients have made infinite or nan by too large a step; waits for the device."""
        return [side for side, player in zip(SIDES, self.players, strict=True) if not player.is_finite()]

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The generators hold their averages inside, where any are kept."""
        if self.averages is None:
            yield
        else:
            with self.averages.swapped_in():
                yield

    def state_dict(self) -> dict[str, Any]:
        """Optimizers, scalers and averages; the schedule is kept per rank, by the trainer."""
        return {
            "players": [player.state_dict() for player in self.players],
            "averages": self.averages.state_dict() if self.averages is not None else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state_dict``."""
        for player, kept in zip(self.players, state["players"], strict=True):
            player.load_state_dict(kept)
        if self.averages is not None:
            self.averages.load_state_dict(state["averages"])
