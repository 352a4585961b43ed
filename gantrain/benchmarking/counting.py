"""What a training step asks of torch: operations, floating-point operations, and values read by the host."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

READS = (torch.ops.aten._local_scalar_dense, torch.ops.aten.nonzero)  # The host waits for the device for their results.
COPIES = (torch.ops.aten._to_copy, torch.ops.aten.copy_)


class Counting(TorchDispatchMode):
    """Counts the operations that are dispatched inside, in this thread and in the backward passes of this thread.

    Attributes:
        operations: Their numbers by name, such as ``aten.convolution``; views and copies are operations, too.
        flops: Floating-point operations of matrix products and convolutions by the formulas of
            ``torch.utils.flop_counter``; a multiplication and an addition are two.
        reads: How often the host reads a value of a tensor, for which it waits until the device has computed it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations: Counter[str] = Counter()
        self.flops = 0
        self.reads = 0

    def __add__(self, other: Counting) -> Counting:
        both = Counting()
        both.operations = self.operations + other.operations
        both.flops, both.reads = self.flops + other.flops, self.reads + other.reads
        return both

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: tuple[Any, ...] = (), keywords: dict[str, Any] | None = None
    ) -> Any:
        keywords = keywords or {}
        output = function(*arguments, **keywords)
        packet = function.overloadpacket
        self.operations[str(packet)] += 1
        if packet in flop_registry:
            self.flops += flop_registry[packet](*arguments, **keywords, out_val=output)
        self.reads += packet in READS or (packet in COPIES and _waits(arguments, keywords, output))
        return output


def _waits(arguments: tuple[Any, ...], keywords: dict[str, Any], output: Tensor) -> bool:
    """Whether the host waits for a copy: one from another device to its memory."""
    non_blocking = keywords.get("non_blocking") or arguments[2:3] == (True,)  # The third argument of copy_.
    if output.device.type != "cpu" or non_blocking:
        return False
    return any(isinstance(value, Tensor) and value.device.type != "cpu" for value in arguments)
