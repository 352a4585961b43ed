"""Means of losses between two log lines."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gantrain.runtime import distributed


class Means:
    """Sums of named scalars, accumulated on the device."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def add(self, scalars: dict[str, Tensor]) -> None:
        """Accumulate the scalars of one step."""
        known = [name for name in scalars if name in self._sums]
        if known:
            values = [scalars[name] for name in known]
            # Loaded sums are on the CPU.
            sums = [self._sums[name].to(value.device) for name, value in zip(known, values, strict=True)]
            self._sums |= zip(known, torch._foreach_add(sums, values), strict=True)
        self._sums |= {name: value.clone() for name, value in scalars.items() if name not in self._sums}
        for name in scalars:
            self._counts[name] = self._counts.get(name, 0) + 1

    def take(self) -> dict[str, float]:
        """The means over the steps since the last call and over all ranks; waits for the device."""
        if not self._sums:
            return {}
        names = sorted(self._sums)
        means = torch.stack([self._sums[name] / self._counts[name] for name in names])
        distributed.average([means])
        self._sums, self._counts = {}, {}
        return dict(zip(names, means.tolist(), strict=True))

    def state_dict(self) -> dict[str, Any]:
        """The current sums."""
        return {"sums": dict(self._sums), "counts": dict(self._counts)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore ``state_dict``."""
        self._sums, self._counts = dict(state["sums"]), dict(state["counts"])
