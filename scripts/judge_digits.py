#!/usr/bin/env python3
"""Judge a run that generates digits from noise: are they digits, all ten of them, and those that were asked for?

    python scripts/judge_digits.py checkpoints/cgan_digits
    python scripts/judge_digits.py checkpoints/cgan_digits --at-least-agreement 0.92

The classifier of digits that comes with gantrain is shown 1,000 samples of the run, 100 of each class where the model
takes labels. One line each is printed:

* accuracy: the share of 500 held-out digits that it classifies correctly, and its confidence in them;
* agreement: the share of samples that it assigns to the class that was asked for (models with labels only);
* counts and classes: the number of samples of each digit, and the number of digits among them;
* confidence: the mean over the samples of the largest class probability;
* variety: how much samples of one class differ from each other, as a share of how much real ones do (near 0: one
  image a class, which agreement and confidence do not notice).

Exit status: 1 if an ``--at-least-...`` is missed.
"""

from __future__ import annotations

import argparse
import sys
from typing import Literal

import torch
from torch import Tensor

import gantrain
from gantrain.data.base import to_uint8
from gantrain.data.sets.digits import Digits
from gantrain.errors import ConfigError
from gantrain.metrics.features.digits import DigitFeatures
from gantrain.models.base import LatentGAN

SIZE = 32  # pixels
CLASSES = 10
SAMPLES_PER_CLASS = 100
BATCH = 100


def digits(phase: Literal["train", "test"]) -> tuple[Tensor, Tensor]:
    """Images (N, 1, 32, 32) uint8 and labels (N,) of a phase."""
    data = Digits(load_size=SIZE, phase=phase)
    return torch.stack([data.item(index, seed=0)["image"] for index in range(len(data))]), torch.tensor(data.labels)


def _logits(classifier: DigitFeatures, images: Tensor) -> Tensor:
    _, logits = classifier(images)
    assert logits is not None
    return logits


@torch.no_grad()
def read(classifier: DigitFeatures, images: Tensor) -> tuple[Tensor, Tensor]:
    """The probability of the most probable class of each image, and that class, (N,) each."""
    probabilities = torch.cat([_logits(classifier, part).softmax(dim=1) for part in images.split(BATCH)])
    return probabilities.max(dim=1).values, probabilities.argmax(dim=1)


def samples(model: LatentGAN, seed: int) -> tuple[Tensor, Tensor | None]:
    """1,000 images of a model and, if it takes labels, those that were asked for."""
    latent = model.latents(CLASSES * SAMPLES_PER_CLASS, seed=seed)
    labels = torch.arange(CLASSES).repeat(SAMPLES_PER_CLASS) if model.uses_labels else None
    asked = [None] * CLASSES if labels is None else labels.split(BATCH)
    return to_uint8(torch.cat([model.sample(*both) for both in zip(latent.split(BATCH), asked, strict=True)])), labels


def variety(images: Tensor, classes: Tensor) -> float:
    """How much images (N, ...) of the same class differ: the mean over classes and pixels of the standard deviation."""
    groups = [images[classes == number].double() for number in classes.unique()]
    return torch.stack([group.std(dim=0, correction=0).mean() for group in groups]).mean().item()


def main() -> str | int:
    """Judge a run as asked on the command line; the promises that are missed, or 0."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run", help="a run folder: checkpoints/NAME")
    parser.add_argument("--step", type=int, help="which of its checkpoints (the newest)")
    parser.add_argument("--seed", type=int, default=0, help="of the noise (0)")
    parser.add_argument("--at-least-agreement", type=float, metavar="SHARE", help="of samples read as asked")
    parser.add_argument("--at-least-confidence", type=float, metavar="PROBABILITY", help="mean over the samples")
    parser.add_argument("--at-least-variety", type=float, metavar="SHARE", help="of that of real digits")
    parser.add_argument("--at-least-classes", type=int, metavar="NUMBER", help="digits among the samples")
    given = parser.parse_args()
    try:
        model = gantrain.load(given.run, step=given.step).module
    except ConfigError as error:
        parser.error(str(error))
    if not isinstance(model, LatentGAN) or model.spec.shape("image") != (1, SIZE, SIZE):
        parser.error(f"{given.run} does not make {SIZE} x {SIZE} images of one channel from noise")
    if given.at_least_agreement is not None and not model.uses_labels:
        parser.error(f"--at-least-agreement: {given.run} makes images without labels")

    classifier = DigitFeatures()
    images, labels = digits("test")
    confidence, classes = read(classifier, images)
    accuracy = (classes == labels).double().mean().item()
    print(f"accuracy    {accuracy:.4f} on {len(images)} real digits (confidence {confidence.mean():.4f})")

    real_variety = variety(images, labels)
    images, asked = samples(model, given.seed)
    confidence, classes = read(classifier, images)
    found = {"confidence": confidence.double().mean().item(), "classes": len(classes.unique())}
    found["variety"] = variety(images, classes if asked is None else asked) / real_variety
    if asked is not None:
        found["agreement"] = (classes == asked).double().mean().item()
        print(f"agreement   {found['agreement']:.4f} of {len(images)} samples")
    print("counts     ", *classes.bincount(minlength=CLASSES).tolist())
    print(f"classes     {found['classes']} of {CLASSES}")
    print(f"confidence  {found['confidence']:.4f}")
    print(f"variety     {found['variety']:.4f} of that of real digits")
    promised = {name: getattr(given, f"at_least_{name}") for name in found}
    missed = [f"missed: {n} {found[n]:.4f} < {p}" for n, p in promised.items() if p is not None and not found[n] >= p]
    return "\n".join(missed) or 0


if __name__ == "__main__":
    sys.exit(main())
