"""Networks on images that do not fit in memory: layer by layer, in strips of rows, with the same result.

Cutting an image into tiles changes it, because instance norm takes its statistics from the whole image. Here, every
layer is computed for all strips before the next one needs its statistics, and a strip of a layer reads as many rows of
the one before as it depends on. Layers that take long to compute are stored in temporary files meanwhile; the others,
mostly the widest ones at the full resolution, are computed anew where they are needed.
"""

from __future__ import annotations

import inspect
import operator
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor, fx, nn

from gantrain.errors import ConfigError
from gantrain.inference.strip_layers import Add, Concatenation, Layer, Normalisation, Pointwise, kind_of
from gantrain.runtime.storage import storage_errors

CHEAP = 1000  # Multiplications per value; a layer that takes more to compute anew is stored.
WORKING = 1 << 29  # Bytes of all layers that are computed for a strip, about.
ReadRows: TypeAlias = Callable[[int, int], Tensor]  # (1, C, last - first, W) of the rows from first to last - 1.


class RowFile:
    """A layer (channels, height, width) in a temporary file without a name, row after row."""

    def __init__(self, channels: int, height: int, width: int, dtype: torch.dtype) -> None:
        self._shape, self._dtype = (channels, width), dtype
        self._row = channels * width * dtype.itemsize
        self._action = f"store {height * self._row / 1e9:.1f} GB in {tempfile.gettempdir()} (TMPDIR is another folder)"
        with storage_errors(self._action):
            self._file = tempfile.TemporaryFile(prefix="gantrain-", buffering=0)  # noqa: SIM115 - see close

    def write(self, first: int, rows: Tensor) -> None:
        """Write rows (1, C, rows, W)."""
        values = rows[0].permute(1, 0, 2).to("cpu", self._dtype).contiguous()
        left = memoryview(values.numpy().data).cast("B")
        with storage_errors(self._action):
            self._file.seek(first * self._row)
            while left:
                left = left[self._file.write(left) :]

    def read(self, first: int, last: int) -> Tensor:
        """The rows from ``first`` to ``last - 1``: (1, C, last - first, W)."""
        channels, width = self._shape
        values = torch.empty(last - first, channels, width, dtype=self._dtype)
        left = memoryview(values.numpy().data).cast("B")
        with storage_errors(self._action):
            self._file.seek(first * self._row)
            while left:
                left = left[self._file.readinto(left) or len(left) :]
        return values.permute(1, 0, 2)[None].contiguous()

    def close(self) -> None:
        """Remove the file."""
        self._file.close()


@dataclass(eq=False)
class _Node:
    """A layer, or the image if it has none: its output has the shape (channels, height, width)."""

    layer: Layer | None
    inputs: list[_Node]
    channels: int
    height: int
    width: int
    is_stored: bool = False  # Once it is computed completely.
    file: RowFile | None = None  # Where it is stored, from then on until the last layer that reads it.
    norms: list[Normalisation] = field(default_factory=list)  # The layers that need its statistics.
    work: float = 0.0  # Multiplications to compute it from stored layers, or from the image.

    @property
    def values(self) -> int:
        return self.channels * self.height * self.width

    @classmethod
    def after(cls, layer: Layer, inputs: list[_Node]) -> _Node:
        before = inputs[0]
        layer.height = before.height
        channels = layer.channels([source.channels for source in inputs])
        node = cls(layer, inputs, channels, *layer.sides(before.height, before.width))
        node.work = layer.work * node.values + sum(0.0 if source.is_stored else source.work for source in inputs)
        node.is_stored = isinstance(layer, Add) or (layer.work > 0 and node.work > CHEAP * node.values)
        if isinstance(layer, Normalisation) and layer.of_image:
            before.norms.append(layer)
        return node


class Strips:
    """A network for images of one size, in strips.

    Args:
        network: In evaluation mode.
        channels: Of the images.
        height: Of the images, in pixels, as the network takes them.
        width: See ``height``.
        alone: Whether batch norm takes its statistics from the image, instead of running ones.

    Raises:
        ConfigError: A layer can't be computed in strips.
    """

    def __init__(self, network: nn.Module, channels: int, height: int, width: int, *, alone: bool) -> None:
        self._nodes: list[_Node] = []
        first = next(network.parameters(), torch.empty(0))  # Without any, it can't be traced.
        self._device, self._dtype = first.device, first.dtype
        self._image = _Node(None, [], channels, height, width)
        self._output = self._build(network, self._image, alone)
        self._order = {node: number for number, node in enumerate(self._nodes)}

    def __call__(self, image: ReadRows) -> Iterator[tuple[int, Tensor]]:
        """Yield the result from top to bottom: the number of the first row of a strip, and (1, C', rows, width)."""
        self._read = image
        passes = self._passes()
        last_use = {leaf: node for node in (*passes, self._output) for leaf in self._leaves(node)}
        try:
            for node in passes:
                self._complete(node)
                for leaf in [leaf for leaf, last in last_use.items() if last is node]:
                    _close(leaf)
            yield from self._strips(self._output)
        finally:
            for node in self._nodes:
                _close(node)

    def bytes_of_whole(self) -> int:
        """An estimate of the memory that the whole image would take at once."""
        left = dict.fromkeys(self._nodes, 0)
        for node in self._nodes:
            for source in node.inputs:
                left[source] += 1
        live = peak = self._image.values
        for node in self._nodes[1:]:
            live += node.values
            peak = max(peak, live)
            for source in node.inputs:
                left[source] -= 1
                live -= source.values if not left[source] else 0
        return peak * self._dtype.itemsize

    # ---- the plan

    def _build(self, network: nn.Module, image: _Node, alone: bool) -> _Node:
        """Collect the layers of a network; returns the one with the result."""
        try:
            graph = _Tracer().trace(network, concrete_args=_optional(network.forward))
        except Exception as error:  # A network of a plug-in may compute anything.
            name = type(network).__name__
            raise ConfigError(f"{name} can't be computed in strips ({type(error).__name__} while tracing it)") from None
        modules = dict(network.named_modules())
        nodes: dict[fx.Node, _Node] = {}
        for each in graph.nodes:
            if each.op == "placeholder":
                nodes[each] = image
            elif each.op != "output":
                layer, sources = _layer_of(each, modules, alone)
                nodes[each] = _Node.after(layer, [nodes[source] for source in sources])
        self._nodes = list(dict.fromkeys(nodes.values()))
        (result,) = each.args
        if isinstance(result, list):  # Of a single one, if there were default values.
            (result,) = result
        if not isinstance(result, fx.Node):
            raise ConfigError(f"{type(network).__name__} can't be computed in strips: it has several results")
        return nodes[result]

    def _passes(self) -> list[_Node]:
        """The layers that are computed completely before the result."""
        last = self._output  # Nothing is gained by storing the layer of which the result is a function by pixel.
        while isinstance(last.layer, Pointwise):
            last = last.inputs[0]
        last.is_stored = self._output.is_stored = False
        return [node for node in self._nodes if node.norms or node.is_stored]

    def _leaves(self, target: _Node) -> set[_Node]:
        """The stored layers that a layer is computed from."""
        found: set[_Node] = set()
        left = list(target.inputs)
        while left:
            node = left.pop()
            if node.is_stored:
                found.add(node)
            else:
                left += node.inputs
        return found

    # ---- computation

    def _complete(self, node: _Node) -> None:
        """Compute a layer for all strips: its statistics are known afterwards, and it may be stored."""
        file = RowFile(node.channels, node.height, node.width, self._dtype) if node.is_stored else None
        for norm in node.norms:
            norm.reset()
        for first, rows in self._strips(node):
            for norm in node.norms:
                norm.add(rows)
            if file is not None:
                file.write(first, rows)
        node.file = file

    def _strips(self, target: _Node) -> Iterator[tuple[int, Tensor]]:
        needed = self._needed(target, 0, target.height)
        total = sum(node.values * self._dtype.itemsize for node in needed)
        count = max(1, min(target.height, WORKING * target.height // total))
        for first in range(0, target.height, count):
            yield first, self._rows(target, first, min(first + count, target.height))

    def _needed(self, target: _Node, first: int, last: int) -> dict[_Node, tuple[int, int]]:
        """The rows of each layer that rows of the target depend on, up to stored ones."""
        needed = {target: (first, last)}
        for node in reversed(self._nodes[: self._order[target] + 1]):
            if node.layer is None or node not in needed or (node.file is not None and node is not target):
                continue
            low, high = node.layer.needs(*needed[node])
            for source in node.inputs:
                rows = max(low, 0), min(high, source.height)
                before = needed.get(source, rows)
                needed[source] = min(rows[0], before[0]), max(rows[1], before[1])
        return needed

    def _rows(self, target: _Node, first: int, last: int) -> Tensor:
        needed = self._needed(target, first, last)
        order = sorted(needed, key=self._order.__getitem__)
        users = dict.fromkeys(order, 0)
        for node in order:
            if node.file is None or node is target:
                for source in node.inputs:
                    users[source] += 1
        values: dict[_Node, Tensor] = {}
        for node in order:
            rows = needed[node]
            if node.layer is None:
                values[node] = self._read(*rows)
            elif node.file is not None and node is not target:
                values[node] = node.file.read(*rows).to(self._device)
            else:
                inputs = [(values[source], needed[source][0]) for source in node.inputs]
                values[node] = node.layer.rows(inputs, *rows)
                del inputs
                for source in node.inputs:
                    users[source] -= 1
                    if not users[source]:
                        del values[source]
        return values[target]


def _close(node: _Node) -> None:
    if node.file is not None:
        node.file.close()
        node.file = None


def _layer_of(each: fx.Node, modules: dict[str, nn.Module], alone: bool) -> tuple[Layer, Sequence[Any]]:
    """The layer of a step of a network, and the steps that it reads."""
    sources: Any = each.args
    name, layer = str(each.target), None
    if each.op == "call_module":
        module = modules[str(each.target)]
        name, kind = type(module).__name__, kind_of(module)
        layer = kind(module, alone) if kind is not None else None
    elif each.target in (operator.add, torch.add) and not each.kwargs:
        layer = Add()
    elif each.target is torch.cat and (*each.args[1:], *each.kwargs.values()) == (1,):
        layer, sources = Concatenation(), each.args[0]
    if layer is None or not all(isinstance(source, fx.Node) for source in sources):
        raise ConfigError(f"{name} (layer {each.name}) can't be computed in strips")
    return layer, sources


def _optional(forward: Callable[..., Any]) -> dict[str, Any]:
    """The default values of further arguments, such as ``layers`` of the residual generator."""
    _, *others = inspect.signature(forward).parameters.values()
    return {other.name: other.default for other in others if other.default is not other.empty}


class _Tracer(fx.Tracer):
    """Traces a network down to layers of torch."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return kind_of(m) is not None or super().is_leaf_module(m, module_qualified_name)
