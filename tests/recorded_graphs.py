"""Graphs as those of CUDA, on the CPU: the operations of a function, which are repeated on the tensors they had."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

aten = torch.ops.aten
WAITS = [aten._local_scalar_dense, aten.nonzero, aten.lift_fresh]  # In a capture, the host must not wait for the GPU.


class Recording(TorchDispatchMode):
    """Records operations, with the values of tensors from before that they change."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, tuple[Any, ...], dict[str, Any], list[Tensor]]] = []
        self.before: dict[int, tuple[Tensor, Tensor]] = {}
        self._made: set[int] = set()

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), keywords: Any = None) -> Any:
        keywords = keywords or {}
        if function.overloadpacket in WAITS:
            raise RuntimeError(f"operation not permitted when stream is capturing: {function}")
        given = _addresses((arguments, keywords))
        for tensor in _changed(function, arguments, keywords):
            address = tensor.untyped_storage().data_ptr()
            if address not in self._made and address not in self.before:
                whole = tensor.detach().as_strided((tensor.untyped_storage().nbytes() // tensor.itemsize,), (1,), 0)
                self.before[address] = (whole, whole.clone())
        output = function(*arguments, **keywords)
        new = [each.detach() for each in _tensors(output) if each.untyped_storage().data_ptr() not in given]
        self._made |= _addresses(new)
        if new or function._schema.is_mutable:
            self.operations.append((function, arguments, keywords, new))
        return output


class RecordedGraphs:
    """Takes the place of ``CudaGraphs``."""

    rate_dtype = torch.float64

    def __init__(self, *generators: torch.Generator) -> None:
        self._generators = [torch.default_generator, *generators]
        self.waits: list[str] = []
        self.captures = self.replays = 0

    @contextmanager
    def warm_up(self) -> Iterator[list[str]]:
        yield self.waits

    def capture(self, function: Callable[[], None]) -> Callable[[], None]:
        self.captures += 1
        states = [generator.get_state() for generator in self._generators]
        recording = Recording()
        try:
            with recording:
                function()
        finally:
            with torch.no_grad():
                for tensor, value in recording.before.values():
                    tensor.copy_(value)
        for generator, state in zip(self._generators, states, strict=True):  # Not after an error, as on a GPU.
            generator.set_state(state)
        with torch.no_grad():
            for *_, made in recording.operations:
                for tensor in made:
                    tensor.fill_(77)  # No value of the capture may be in use.

        def replay() -> None:
            self.replays += 1
            with torch.no_grad():
                for operation, arguments, keywords, made in recording.operations:
                    given = _addresses((arguments, keywords))
                    new = [each for each in _tensors(operation(*arguments, **keywords)) if not _addresses(each) & given]
                    for tensor, value in zip(made, new, strict=True):
                        tensor.copy_(value)

        return replay


def _tensors(values: Any) -> list[Tensor]:
    return [each for each in tree_flatten(values)[0] if isinstance(each, Tensor)]


def _addresses(values: Any) -> set[int]:
    return {tensor.untyped_storage().data_ptr() for tensor in _tensors(values)}


def _changed(function: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> list[Tensor]:
    """The arguments that the operation writes to."""
    changed = []
    for place, argument in enumerate(function._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = arguments[place] if place < len(arguments) else keywords.get(argument.name)
            changed += _tensors(value)
    return changed
