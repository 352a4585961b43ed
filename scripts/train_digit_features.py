#!/usr/bin/env python3
"""Train the classifier of digits whose features are part of gantrain.

    python scripts/train_digit_features.py gantrain/metrics/features/digits.safetensors

It is trained on the 4,500 training digits that come with gantrain, each rotated, scaled and shifted a little at random,
by cross entropy (a minute on two cores). Prints its accuracy on the 500 others, and writes its weights, but not if that
is below 97 %.
"""

from __future__ import annotations

import math
import sys
from typing import Literal

import safetensors.torch
import torch
from torch import Tensor
from torch.nn import functional as F

from gantrain.data.base import to_signed_range
from gantrain.data.sets.digits import Digits
from gantrain.metrics.features.digits import SIZE, DigitClassifier

BATCH = 100
EPOCHS = 20
MIN_ACCURACY = 0.97


def digits(phase: Literal["train", "test"]) -> tuple[Tensor, Tensor]:
    """Images (N, 1, 32, 32) in [-1, 1] and labels (N,) of a phase."""
    data = Digits(load_size=SIZE, phase=phase)
    images = torch.stack([data.item(index, seed=0)["image"] for index in range(len(data))])
    return to_signed_range(images, torch.float32), torch.tensor(data.labels)


def moved(images: Tensor) -> Tensor:
    """The images, each rotated by up to 10 degrees, scaled by up to 10 % and shifted by up to 2 pixels, at random."""
    angle, scale, x, y = (torch.rand(4, len(images)) * 2 - 1).unbind()
    angle, scale = angle * math.radians(10), 1 + 0.1 * scale
    cos, sin = scale * angle.cos(), scale * angle.sin()
    shift = 2 * 2 / SIZE  # In the coordinates of the grid, an image is 2 wide.
    matrices = torch.stack([cos, -sin, shift * x, sin, cos, shift * y], dim=1).view(-1, 2, 3)
    grid = F.affine_grid(matrices, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)  # The border is background.


def main(path: str) -> str | int:
    """Train, and write the weights to a path; a message if the accuracy is too low, or else 0."""
    torch.manual_seed(0)
    network = DigitClassifier()
    images, labels = digits("train")
    optimizer = torch.optim.Adam(network.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=EPOCHS * len(images) // BATCH)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(images)).split(BATCH):
            _, logits = network(moved(images[batch]))
            optimizer.zero_grad()
            F.cross_entropy(logits, labels[batch]).backward()
            optimizer.step()
            schedule.step()
    images, labels = digits("test")
    with torch.no_grad():
        _, logits = network.eval()(images)
    accuracy = (logits.argmax(dim=1) == labels).double().mean().item()
    print(f"accuracy {accuracy:.4f} on {len(images)} held-out digits")
    if accuracy < MIN_ACCURACY:
        return f"less than {MIN_ACCURACY}: not written"
    safetensors.torch.save_file(network.state_dict(), path)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]) if len(sys.argv) == 2 else __doc__)
