"""Learning rate schedules: functions of a run's progress in [0, 1), so that no rate depends on how steps are counted.

Progress never reaches 1: the last step of a run that decays to zero still learns.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

import torch
from torch import Tensor

from gantrain.config.schema import NonNegativeFloat, NonNegativeInt, PositiveInt, Range, UnitFloat
from gantrain.errors import ConfigError
from gantrain.registry import SCHEDULES
from gantrain.runtime import distributed

Between: TypeAlias = Annotated[float, Range(above=0, below=1)]


class Schedule(ABC):
    """What the base learning rates are multiplied by.

    Attributes:
        depends_on_length: Whether the factor at a step changes when the run is made longer.
    """

    depends_on_length: ClassVar[bool] = True

    @abstractmethod
    def factor(self, progress: float) -> float:
        """The multiplier at ``progress`` in [0, 1)."""

    def observe(self, losses: dict[str, Tensor]) -> None:
        """See the losses of one step (scalars on the device)."""

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state_dict``."""


@SCHEDULES.register("constant")
class Constant(Schedule):
    """The base rate, always."""

    depends_on_length = False

    def factor(self, progress: float) -> float:
        """1."""
        return 1.0


@SCHEDULES.register("linear")
class Linear(Schedule):
    """The base rate until ``start``, then straight down toward zero at the end (Zhu et al. 2017, arXiv:1703.10593).

    Args:
        start: Share of the run at which the decay begins, in [0, 1).
    """

    def __init__(self, *, start: UnitFloat) -> None:
        self.start = start

    def factor(self, progress: float) -> float:
        """1 until ``start``, then linear to 0 at progress 1."""
        return min(1.0, (1 - progress) / (1 - self.start))


@SCHEDULES.register("step")
class Step(Schedule):
    """Multiplied by ``gamma`` at each milestone.

    Args:
        milestones: Shares of the run, in (0, 1).
        gamma: What the rate is multiplied by at each.
    """

    def __init__(self, *, milestones: list[Between], gamma: NonNegativeFloat) -> None:
        self.milestones = milestones
        self.gamma = gamma

    def factor(self, progress: float) -> float:
        """``gamma`` to the number of milestones passed."""
        return self.gamma ** sum(progress >= milestone for milestone in self.milestones)


@SCHEDULES.register("cosine")
class Cosine(Schedule):
    """Half a cosine from the base rate down to ``final`` of it (Loshchilov and Hutter 2017, arXiv:1608.03983).

    Args:
        final: What is left at the end, as a share of the base rate, in [0, 1].
    """

    def __init__(self, *, final: Annotated[float, Range(at_least=0, at_most=1)]) -> None:
        self.final = final

    def factor(self, progress: float) -> float:
        """From 1 to ``final``, falling all the way."""
        return self.final + (1 - self.final) * (1 + math.cos(math.pi * progress)) / 2


@SCHEDULES.register("plateau")
class Plateau(Schedule):
    """Multiplied by ``gamma`` whenever a loss has stopped getting better.

    Every ``interval`` steps the loss's mean over them (and over all ranks) is read from the device and compared.

    Args:
        metric: Name of a logged loss.
        mode: Whether better means smaller (``min``) or larger (``max``).
        interval: Steps over which the mean is taken.
        patience: Intervals without improvement that are borne.
        threshold: Least change that counts as better.
        gamma: What the rate is multiplied by.
    """

    depends_on_length = False

    def __init__(
        self,
        *,
        metric: str,
        mode: Literal["min", "max"],
        interval: PositiveInt,
        patience: NonNegativeInt,
        threshold: NonNegativeFloat,
        gamma: NonNegativeFloat,
    ) -> None:
        self.metric = metric
        self.sign = 1 if mode == "min" else -1
        self.interval = interval
        self.patience = patience
        self.threshold = threshold
        self.gamma = gamma
        self._best = math.inf
        self._bad = 0
        self._factor = 1.0
        self._sum = torch.zeros(())
        self._count = 0

    def factor(self, progress: float) -> float:
        """``gamma`` to the number of plateaus so far."""
        return self._factor

    def observe(self, losses: dict[str, Tensor]) -> None:
        """Add one step's loss; at the end of an interval, compare.

        Raises:
            ConfigError: The model has no loss of that name.
        """
        if self.metric not in losses:
            raise ConfigError(f"schedule.metric: no loss '{self.metric}'; there are: {', '.join(sorted(losses))}")
        self._sum = self._sum.to(losses[self.metric]) + losses[self.metric]
        self._count += 1
        if self._count < self.interval:
            return
        distributed.average([self._sum])
        mean = self.sign * self._sum.item() / self._count
        self._sum, self._count = torch.zeros(()), 0
        if mean < self._best - self.threshold:
            self._best, self._bad = mean, 0
        else:
            self._bad += 1
        if self._bad > self.patience:
            self._factor *= self.gamma
            self._bad = 0

    def state_dict(self) -> dict[str, Any]:
        """The best mean, the patience used, the factor, and the interval under way."""
        return {
            "best": self._best,
            "bad": self._bad,
            "factor": self._factor,
            "sum": self._sum,
            "count": self._count,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state_dict``."""
        self._best, self._bad, self._factor = state["best"], state["bad"], state["factor"]
        self._sum, self._count = state["sum"], state["count"]
