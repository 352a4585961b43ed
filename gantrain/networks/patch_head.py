"""The network that turns features of patches into the vectors that a contrastive loss compares."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from gantrain.networks.common import init_weights


class PatchHead(nn.Module):
    """One perceptron of two layers per layer of features: Park et al. 2020 (arXiv:2007.15651), where it is H.

    The keys and shapes of its state are those of CUT's ``netF``.

    Args:
        channels: Of each layer of features.
        outputs: Length of the vectors.
        gain: Of the Xavier initialisation.
    """

    def __init__(self, *, channels: Sequence[int], outputs: int, gain: float) -> None:
        super().__init__()
        for number, inputs in enumerate(channels):
            perceptron = nn.Sequential(nn.Linear(inputs, outputs), nn.ReLU(), nn.Linear(outputs, outputs))
            self.add_module(f"mlp_{number}", perceptron)
        init_weights(self, norm="none", init="xavier", init_gain=gain)

    def forward(self, patches: Tensor, number: int) -> Tensor:
        """(M, C) of the layer of that number to (M, outputs)."""
        return self.get_submodule(f"mlp_{number}")(patches)
