"""Training steps that are captured and replayed, where that is possible, and computed as usual elsewhere."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor

from gantrain.data.base import Batch
from gantrain.errors import ConfigError
from gantrain.models.base import GAN
from gantrain.models.pool import ImagePool
from gantrain.optim.accumulation import Losses, TrainStep
from gantrain.optim.monitor import Update
from gantrain.optim.updates import Updates
from gantrain.runtime import distributed

WARM_UP = 3  # Steps before the first capture, in which torch chooses kernels and allocates what it needs.


class Graphs(Protocol):
    """What captures functions; see ``CudaGraphs``."""

    rate_dtype: torch.dtype

    def warm_up(self) -> AbstractContextManager[list[str]]:
        """Inside, work prepares for a capture; the list then has the places where the host has waited."""

    def capture(self, function: Callable[[], None]) -> Callable[[], None]:
        """What replays the work of the function, which is not done yet."""


@dataclass
class _Kind:
    """Steps that dispatch the same operations."""

    batches: int = 0  # Drawn in a step.
    exchanges: list[tuple[ImagePool, int]] = field(default_factory=list)  # Calls of pools, each with its images.
    warm_ups: int = 0
    waits: list[str] = field(default_factory=list)  # Where the host has waited in the last of them.
    captured: _Captured | None = None


@dataclass
class _Captured:
    """A captured step: the memory that it reads and writes, and what its Python code did besides."""

    batches: list[Batch]
    places: Tensor  # (images, 2): those of ``ImagePool.choose`` for all calls.
    replay: Callable[[], None] = lambda: None
    names: list[str] = field(default_factory=list)  # Of the losses.
    updates: list[Update] = field(default_factory=list)  # What the monitor has recorded of them.
    sizes: list[int] = field(default_factory=list)  # Of what ``record`` contains.
    record: Tensor | None = None  # The norms and messages of the updates, and the losses.
    averaged: int = 0  # Updates of the moving averages.


class GraphedSteps:
    """A model's ``train_step``, replayed from a graph once a step of the same kind has been captured.

    The first steps are computed as usual, as are those of another kind or with batches of other shapes. The results are
    the same: a replay uses the step's own batches, random numbers, learning rates and weights of the averages, which
    are copied to the memory that it reads.

    Args:
        model: The model.
        update: Its updates; loading a state into them discards all graphs.
        graphs: What captures a step; None if none can be captured.
        obstacle: Why not.
        otherwise: What computes the steps that are not captured, by default ``model.train_step``.
    """

    def __init__(
        self,
        model: GAN,
        update: Updates,
        graphs: Graphs | None,
        *,
        obstacle: str = "",
        otherwise: TrainStep | None = None,
    ) -> None:
        self._model, self._update, self._graphs = model, update, graphs
        self._otherwise = otherwise or model.train_step
        self._notes: set[str] = set()
        self._pools = [module for module in model.modules() if isinstance(module, ImagePool) and module.size]
        self._reset()
        if graphs is None:
            self._obstacle = obstacle
            return
        for side in update.sides:
            side.make_capturable(graphs.rate_dtype)
        if update.ema is not None:
            parameter = update.sides[0].parameters[0]
            self._weight = torch.zeros((), dtype=parameter.dtype, device=parameter.device)

    def _reset(self) -> None:
        """Discard all graphs: the tensors that they read are no longer those of the model and its updates."""
        self._kinds: dict[Hashable, _Kind] = {}
        self._taken, self._loads, self._obstacle = 0, self._update.loads, ""
        for pool in self._pools:
            pool.free()

    def __call__(self, batches: Iterator[Batch], update: Updates) -> Losses:
        """One step on the next batches, called like ``train_step``."""
        graphs = self._graphs
        if graphs is not None and self._loads != update.loads:
            self._reset()
        if graphs is None or self._obstacle:
            self._note(f"{self._obstacle}; steps are computed one operation after another")
            return self._otherwise(batches, update)
        number = self._model.step_kind(update.step)
        if number is None:
            with graphs.warm_up():
                return self._otherwise(batches, update)
        kind = self._kinds.setdefault(number, _Kind())
        if kind.captured is not None:
            return self._replay(kind.captured, kind, batches)
        if self._taken < WARM_UP or not kind.warm_ups or (kind.waits and kind.warm_ups < WARM_UP):
            return self._warm_up(graphs, kind, batches)
        if kind.waits:
            self._obstacle = f"a step waits for the GPU ({kind.waits[0]})"
            return self(batches, update)
        return self._capture(graphs, kind, batches)

    def _warm_up(self, graphs: Graphs, kind: _Kind, batches: Iterator[Batch]) -> Losses:
        """A step as usual, in which what it needs is recorded."""
        drawn = _Drawn(batches)
        kind.exchanges = []
        hooks = [
            pool.register_forward_pre_hook(lambda pool, given: kind.exchanges.append((pool, len(given[0]))))
            for pool in self._pools
        ]
        with graphs.warm_up() as kind.waits:
            losses = self._otherwise(drawn, self._update)
        for hook in hooks:
            hook.remove()
        kind.batches, kind.warm_ups, self._taken = drawn.count, kind.warm_ups + 1, self._taken + 1
        return losses

    def _capture(self, graphs: Graphs, kind: _Kind, batches: Iterator[Batch]) -> Losses:
        """Capture a step, and replay it for the first time; or else compute it as usual."""
        device = self._update.sides[0].parameters[0].device
        own = [_copied(next(batches)) for _ in range(kind.batches)]
        images = sum(count for _, count in kind.exchanges)
        captured = _Captured(own, torch.zeros(images, 2, dtype=torch.long, device=device))
        ema = self._update.ema
        updates = ema.updates if ema is not None else 0
        try:
            self._set_up(kind, captured, device)
            captured.replay = graphs.capture(lambda: self._run(captured))
            if ema is not None:
                captured.averaged = ema.updates - updates
            if captured.averaged > 1:
                raise RuntimeError("it updates the moving averages more than once")
        except ConfigError:
            raise
        except Exception as error:  # What torch raises depends on the operation.
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            self._obstacle = f"a step can't be captured: {reason}"
            self._update.monitor.take_record()
            self._update.restart()
        finally:
            for pool in self._pools:
                pool.places = None
            if ema is not None:
                ema.weight, ema.updates = None, updates
        if self._obstacle:
            return self(itertools.chain(own, batches), self._update)
        kind.captured = captured
        return self._replayed(captured, kind)

    def _set_up(self, kind: _Kind, captured: _Captured, device: torch.device) -> None:
        """Let the code of the model read the memory of a captured step."""
        places = captured.places.split([count for _, count in kind.exchanges])
        for pool in self._pools:
            pool.use_fixed_memory(device)
            pool.places = iter([own.T for own, (other, _) in zip(places, kind.exchanges, strict=True) if other is pool])
        if self._update.ema is not None:
            self._update.ema.weight = self._weight

    def _run(self, captured: _Captured) -> None:
        """The work that is captured."""
        monitor = self._update.monitor
        monitor.begin(self._update.step)
        losses = self._model.train_step(iter(captured.batches), self._update)
        captured.updates = monitor.take_record()
        captured.names = list(losses)
        record = [number for update in captured.updates for number in (update.norm, update.message)]
        record += losses.values()
        captured.sizes = [value.numel() for value in record]
        captured.record = torch.cat([value.flatten() for value in record])

    def _replay(self, captured: _Captured, kind: _Kind, batches: Iterator[Batch]) -> Losses:
        for place, own in enumerate(captured.batches):
            batch = next(batches)
            if not _fits(batch, own):
                self._note("batches of other shapes are not captured")
                rest = itertools.chain(captured.batches[:place], [batch], batches)
                assert self._graphs is not None
                with self._graphs.warm_up():
                    return self._otherwise(rest, self._update)
            for key, value in _tensors(own).items():
                value.copy_(batch[key], non_blocking=True)
        return self._replayed(captured, kind)

    def _replayed(self, captured: _Captured, kind: _Kind) -> Losses:
        """The losses of a replay on the batches that are in the memory of a captured step."""
        chosen: list[tuple[int, int]] = []
        for pool, count in kind.exchanges:
            pool.use_fixed_memory(captured.places.device)
            chosen += zip(*pool.choose(count), strict=True)
        if chosen:
            places = torch.tensor(chosen)
            if captured.places.is_cuda:
                places = places.pin_memory()
            captured.places.copy_(places, non_blocking=True)
        ema, monitor = self._update.ema, self._update.monitor
        if ema is not None:
            self._weight.fill_(1 - ema.decay())
        captured.replay()
        if ema is not None:
            ema.updates += captured.averaged
        assert captured.record is not None
        record = iter(captured.record.clone().split(captured.sizes))  # The next replay changes it.
        monitor.record_step(replace(update, norm=next(record), message=next(record)) for update in captured.updates)
        return {name: loss[0] for name, loss in zip(captured.names, record, strict=True)}

    def _note(self, text: str) -> None:
        """Print a line once."""
        if text not in self._notes:
            self._notes.add(text)
            distributed.print_rank_zero(f"trainer.cuda_graphs=true: {text}")


class _Drawn(Iterator[Batch]):
    """Batches that are counted."""

    def __init__(self, batches: Iterator[Batch]) -> None:
        self._batches, self.count = batches, 0

    def __next__(self) -> Batch:
        self.count += 1
        return next(self._batches)


def _tensors(batch: Batch) -> dict[str, Tensor]:
    return {key: value for key, value in batch.items() if isinstance(value, Tensor)}


def _copied(batch: Batch) -> Batch:
    return {**batch, **{key: value.clone() for key, value in _tensors(batch).items()}}


def _fits(batch: Batch, own: Batch) -> bool:
    """Whether the tensors of a batch have the keys, shapes and types of another one."""
    first, second = (
        {key: (value.shape, value.dtype) for key, value in _tensors(each).items()} for each in (batch, own)
    )
    return first == second
