"""Exponential moving averages of networks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class EMA:
    """Exponential moving averages of networks, kept beside them: parameters are averaged, buffers copied.

    Args:
        modules: The networks to follow.
        decay: Weight of the past at each update, in (0, 1).
    """

    def __init__(self, modules: Iterable[nn.Module], decay: float) -> None:
        self._modules = nn.ModuleList(modules)
        self._average = get_ema_multi_avg_fn(decay)
        self._kept: dict[str, Tensor] = {}
        self.restart()

    def restart(self) -> None:
        """Forget the past: the averages are the networks as they are now."""
        self._kept = {key: value.detach().clone() for key, value in self._live().items()}

    def _live(self) -> dict[str, Tensor]:
        return {**dict(self._modules.named_parameters()), **dict(self._modules.named_buffers())}

    @torch.no_grad()
    def update(self) -> None:
        """Take one step toward the networks as they are now."""
        parameters = dict(self._modules.named_parameters())
        self._average([self._kept[key] for key in parameters], list(parameters.values()), torch.zeros(()))
        for key, buffer in self._modules.named_buffers():
            self._kept[key].copy_(buffer)

    @contextmanager
    def swapped_in(self) -> Iterator[None]:
        """The networks hold their averages inside, and their own values again after."""
        self.swap()
        try:
            yield
        finally:
            self.swap()

    def swap(self) -> None:
        """Exchange the averages and the networks' own values."""
        for key, live in self._live().items():
            live.data, self._kept[key].data = self._kept[key].data, live.data

    def state_dict(self) -> dict[str, Tensor]:
        """The averages, by the networks' number and key."""
        return dict(self._kept)

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from ``state_dict``."""
        for key, kept in self._kept.items():
            kept.copy_(state[key])
