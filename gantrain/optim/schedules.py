"""Learning rate schedules: functions of a run's progress in [0, 1), whether its length is in steps or in images.

Progress never reaches 1, so that the last step of a decay to zero still learns.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor

from gantrain.config.schema import NonNegativeFloat, NonNegativeInt, PositiveInt, Range, UnitFloat
from gantrain.errors import ConfigError
from gantrain.registry import SCHEDULES
from gantrain.runtime import distributed

GENERATOR = "g"
# What is compared of generators that log their loss in parts: reconstructions, which go down as they learn, while their
# adversarial losses need not.
PARTS = (("g_l1",), ("cycle_a", "cycle_b"))


class Schedule(ABC):
    """A factor for the base learning rates.

    A run that is lengthened keeps the factor of the last step that was planned, or with ``extend`` runs through the
    schedule again in what is added: see ``training.segments``.
    """

    depends_on_length: ClassVar[bool] = True  # Whether the factor at a step changes when the run becomes longer.

    @abstractmethod
    def factor(self, progress: float) -> float:
        """The multiplier at ``progress`` in [0, 1)."""

    def observe(self, losses: dict[str, Tensor]) -> None:
        """Take the losses of one step (scalars on the device)."""

    def state_dict(self) -> dict[str, Any]:
        """What has to be saved to resume."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore ``state_dict``."""


@SCHEDULES.register("constant")
class Constant(Schedule):
    """The base rate."""

    depends_on_length = False

    def factor(self, progress: float) -> float:
        return 1.0


@SCHEDULES.register("linear")
@dataclass(kw_only=True)
class Linear(Schedule):
    """The base rate until ``start``, then linear decay to zero at the end (Zhu et al. 2017, arXiv:1703.10593)."""

    start: UnitFloat  # Fraction of the run after which the decay begins.
    extend: bool  # Whether a run that is lengthened decays anew instead of keeping its last rate.

    def factor(self, progress: float) -> float:
        return min(1.0, (1 - progress) / (1 - self.start))


@SCHEDULES.register("step")
@dataclass(kw_only=True)
class MultiStep(Schedule):
    """Multiplied by ``gamma`` at each milestone."""

    milestones: list[Annotated[float, Range(above=0, below=1)]]  # Fractions of the run.
    gamma: NonNegativeFloat  # Factor of the learning rate, each time.
    extend: bool  # Whether a run that is lengthened decays anew instead of keeping its last rate.

    def factor(self, progress: float) -> float:
        return self.gamma ** sum(progress >= milestone for milestone in self.milestones)


@SCHEDULES.register("cosine")
@dataclass(kw_only=True)
class Cosine(Schedule):
    """Half a cosine from the base rate down to ``final`` of it (Loshchilov and Hutter 2017, arXiv:1608.03983)."""

    final: Annotated[float, Range(at_least=0, at_most=1)]  # The rate at the end as a fraction of the base rate.
    extend: bool  # Whether a run that is lengthened decays anew instead of keeping its last rate.

    def factor(self, progress: float) -> float:
        return self.final + (1 - self.final) * (1 + math.cos(math.pi * progress)) / 2


@SCHEDULES.register("plateau")
@dataclass(kw_only=True)
class Plateau(Schedule):
    """Multiplied by ``gamma`` whenever a loss has stopped improving.

    Every ``interval`` steps, the mean of the loss over them and over all ranks is read from the device and compared.
    """

    depends_on_length = False
    _STATE = ("best", "bad", "factor", "sum", "count")

    # Name of a logged loss; ``g`` is the generator's, and the reconstruction in models that log it in parts.
    metric: str
    mode: Literal["min", "max"]  # Whether lower or higher values are better.
    interval: PositiveInt  # Steps over which the loss is averaged before it is compared.
    patience: NonNegativeInt  # Intervals without improvement that are tolerated.
    threshold: NonNegativeFloat  # Least change that counts as an improvement.
    gamma: NonNegativeFloat  # Factor of the learning rate, each time.

    def __post_init__(self) -> None:
        self._best = math.inf
        self._bad = 0
        self._factor = 1.0
        self._sum = torch.zeros(())
        self._count = 0
        self._named = False

    def factor(self, progress: float) -> float:
        return self._factor

    def observe(self, losses: dict[str, Tensor]) -> None:
        names = self._names(losses)
        value = torch.stack([losses[name] for name in names]).sum()
        self._sum = self._sum.to(value) + value
        self._count += 1
        if self._count < self.interval:
            return
        distributed.average([self._sum])
        mean = self._sum.item() / self._count * (1 if self.mode == "min" else -1)
        self._sum, self._count = torch.zeros(()), 0
        if mean < self._best - self.threshold:
            self._best, self._bad = mean, 0
        else:
            self._bad += 1
        if self._bad > self.patience:
            self._factor *= self.gamma
            self._bad = 0

    def _names(self, losses: dict[str, Tensor]) -> tuple[str, ...]:
        """The losses whose sum is compared; those that are not called as in the configuration are printed once."""
        if self.metric in losses:
            return (self.metric,)
        parts = next((names for names in PARTS if self.metric == GENERATOR and losses.keys() >= {*names}), None)
        if parts is None:
            raise ConfigError(f"schedule.metric={self.metric}: no such loss; there are: {', '.join(sorted(losses))}")
        if not self._named:
            distributed.print_rank_zero(f"Note: schedule=plateau watches {' + '.join(parts)}")
        self._named = True
        return parts

    def state_dict(self) -> dict[str, Any]:
        return {key: getattr(self, f"_{key}") for key in self._STATE}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for key in self._STATE:
            setattr(self, f"_{key}", state[key])
