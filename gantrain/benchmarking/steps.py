"""The speed, memory and operations of a run's training steps."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from gantrain.benchmarking.clock import PARTS, Clock, MeasuredStream, PartClock
from gantrain.benchmarking.counting import Counting
from gantrain.runtime.memory import peak_memory, reset_peak_memory
from gantrain.training.build import Parts
from gantrain.training.graphs.steps import WARM_UP
from gantrain.training.trainer import Trainer

FIRST = 10**6  # The number of the first step: no model is still in its warm-up.


@dataclass(frozen=True)
class Measured:
    """What was measured; means over steps where nothing else is said."""

    seconds: float
    parts: dict[str, float]  # Seconds of each of ``PARTS``; those of the forward pass include all else.
    cpu: float  # Seconds of CPU time of the process.
    images: float  # Images drawn in a step.
    peak: int  # Bytes: of the process on the CPU, of torch's tensors on a GPU.
    flops: float  # Floating-point operations of matrix products and convolutions.
    operations: float  # Operations dispatched by torch.
    reads: float  # How often the host waits for the device to read a value.


class Steps:
    """Takes training steps as ``Trainer.fit`` does between what is logged, shown and saved, and measures them.

    Args:
        parts: The parts of a run.
        make_trainer: Makes the trainer for such parts.
        clock: That of the device.
    """

    def __init__(self, parts: Parts, make_trainer: Callable[[Parts], Trainer], clock: Clock) -> None:
        self._clock, self._device = clock, parts.context.device
        self._part_clock = PartClock(clock, parts.update)
        # There is no run folder. Training would take it for deleted and wait for the device at every step, to save.
        parts.update.monitor.wants_save = lambda: False
        self._counted: Counting | None = None
        if parts.context.trainer.micro_batch is not None:
            parts.model.__dict__["train_step"] = self._counted_in_its_thread(parts.model.train_step)
        stream: Any = MeasuredStream(parts.stream, self._part_clock)
        self.trainer = make_trainer(replace(parts, stream=stream))
        self.trainer.step = FIRST
        self.trainer.model.train()

    def measure(self, *, warmup: int, steps: int) -> Measured:
        """Take and measure steps, after others in which operations are counted, all but the first of them.

        Args:
            warmup: Steps that are not timed; at least 2. The first creates the state of the optimizers.
            steps: Steps that are timed.
        """
        self._take_step()
        self._counted = Counting()
        for _ in range(warmup - 1):
            with Counting() as counted:
                self._take_step()
            self._counted += counted
        counted, self._counted = self._counted, None
        if self.trainer.settings.cuda_graphs:  # A step is captured after some, and replayed from then on.
            for _ in range(WARM_UP):
                self._take_step()

        start, images = self._clock.idle(), self.trainer.stream.images
        self._part_clock.take()
        reset_peak_memory(self._device)
        cpu = time.process_time()
        for _ in range(steps):
            self._take_step()
        seconds, cpu = self._clock.idle() - start, time.process_time() - cpu
        parts = {name: value / steps for name, value in self._part_clock.take().items()}
        parts["forward"] = seconds / steps - sum(parts.values())
        return Measured(
            seconds=seconds / steps,
            parts={name: parts.get(name, 0.0) for name in PARTS},
            cpu=cpu / steps,
            images=(self.trainer.stream.images - images) / steps,
            peak=peak_memory(self._device),
            flops=counted.flops / (warmup - 1),
            operations=sum(counted.operations.values()) / (warmup - 1),
            reads=counted.reads / (warmup - 1),
        )

    def _take_step(self) -> None:
        trainer = self.trainer
        trainer.means.add(trainer.take_step())
        trainer.step += 1
        trainer.stream.take_names()
        trainer.update.monitor.poll(sync=False)

    def _counted_in_its_thread(self, train_step: Callable[..., Any]) -> Callable[..., Any]:
        """Operations are counted by thread, and each micro-batch has one, of which one runs at a time."""

        def call(*arguments: Any) -> Any:
            if self._counted is None:
                return train_step(*arguments)
            with Counting() as counted:
                losses = train_step(*arguments)
            self._counted += counted
            return losses

        return call
