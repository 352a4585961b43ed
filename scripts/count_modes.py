#!/usr/bin/env python3
"""Count the modes that runs on stacked digits have learned: of 1,000 combinations of three digits, one in each channel.

    gantrain train model=dcgan data=stacked_digits
    python scripts/count_modes.py checkpoints/dcgan_stacked_digits

The classifier of digits that comes with gantrain reads each channel of the samples. One line for each run is printed:
how many of the 1,000 combinations are among them, and the Kullback-Leibler divergence of their frequencies from equal
ones, in nats (0 is best; real images have about 0.02 with 25,600 samples, by chance alone). The counting is that of
Metz et al. 2017, arXiv:1611.02163; numbers can't be compared with theirs, as the digits and the classifier are
others.
"""

from __future__ import annotations

import argparse
import math
import sys

import torch
from torch import Tensor

import gantrain
from gantrain.data.base import to_uint8
from gantrain.data.sets.digits import StackedDigits
from gantrain.errors import ConfigError
from gantrain.metrics.features.digits import DigitFeatures
from gantrain.models.base import LatentGAN

BATCH = 400
MODES = 1000


@torch.no_grad()
def modes_of(images: Tensor, classifier: DigitFeatures) -> Tensor:
    """The mode (N,), from 0 to 999, of images (N, 3, H, W) uint8: a digit for each channel."""
    _, logits = classifier(images.flatten(0, 1)[:, None])
    assert logits is not None
    digits = logits.argmax(dim=1).view(len(images), 3)
    return digits @ torch.tensor([100, 10, 1])


def row(name: str, modes: Tensor) -> str:
    """A line of the table: the number of modes, and the divergence."""
    shares = torch.bincount(modes, minlength=MODES).double() / len(modes)
    found = shares[shares > 0]
    divergence = float((found * (found * MODES).log()).sum())
    assert 0 <= divergence <= math.log(MODES) + 1e-9
    return f"{name:<50}  {len(found):>5}  {divergence:8.3f}"


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", help="folders of runs with data=stacked_digits")
    parser.add_argument("--samples", type=int, default=25_600, help="images of each run")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    classifier = DigitFeatures()
    data = StackedDigits(load_size=32, phase="train")
    print(f"{arguments.samples:,} images of each{'':<30}  modes  KL, nats")
    blocks = [range(start, min(start + BATCH, arguments.samples)) for start in range(0, arguments.samples, BATCH)]
    real = [modes_of(data.items([index % len(data) for index in block], [])["image"], classifier) for block in blocks]
    print(row("training images", torch.cat(real)))
    for run in arguments.runs:
        try:
            gan = gantrain.load(run, device="cpu")
        except ConfigError as error:
            print(f"count_modes: {error}", file=sys.stderr)
            return 2
        if not isinstance(gan.module, LatentGAN) or gan.module.spec.channels != {"image": 3}:
            print(f"count_modes: {run} does not generate images of three channels from noise", file=sys.stderr)
            return 2
        latents = gan.latents(arguments.samples, seed=0)
        parts = [modes_of(to_uint8(gan.sample(latents[block.start : block.stop])), classifier) for block in blocks]
        print(row(run, torch.cat(parts)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
