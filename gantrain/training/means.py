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
        for name, value in scalars.items():
            total = self._sums.get(name)  # On the CPU after loading.
            self._sums[name] = value.clone() if total is None else total.to(value.device) + value
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
