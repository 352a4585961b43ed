#!/usr/bin/env python3
"""Judge what a run has learnt of digits, with a classifier trained on real ones.

    python scripts/judge_digits.py checkpoints/dcgan_digits --at-least-confidence 0.9 --at-least-classes 10
    python scripts/judge_digits.py checkpoints/cgan_digits --at-least-agreement 0.92

Trains a small convolutional network on the 4,500 training digits that come with gantrain (half a minute on two cores),
makes sure that it is right on at least 97 % of the 500 others, and shows it 1,000 samples of the run, 100 of each class
where the model is told the class. It prints, one line each:

* accuracy: the share of the 500 held-out digits that it reads rightly, and how sure it is of them;
* agreement: the share of the samples that it reads as the class that was asked for (models with labels only);
* counts and classes: how many samples it reads as each digit, and how many digits are among them;
* confidence: the mean over the samples of its largest class probability;
* variety: how much samples of one class differ from each other, as a share of how much real ones do (near 0: one
  image a class, which agreement and confidence do not notice).

It is trained by plain cross entropy, without temperature. Exit status: 1 if an ``--at-least-...`` is missed.
"""

from __future__ import annotations

import argparse
import math
import sys
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import gantrain
from gantrain.data.base import to_signed_range
from gantrain.data.sets.digits import Digits
from gantrain.errors import ConfigError
from gantrain.models.base import LatentGAN

SIZE = 32  # pixels
CLASSES = 10
SAMPLES_PER_CLASS = 100
BATCH = 100
EPOCHS = 12
MIN_ACCURACY = 0.97


def digits(phase: Literal["train", "test"]) -> tuple[Tensor, Tensor]:
    """Images (N, 1, 32, 32) in [-1, 1] and labels (N,) of ``train`` or ``test``."""
    data = Digits(load_size=SIZE, phase=phase)
    images = torch.stack([data.item(index, seed=0)["image"] for index in range(len(data))])
    return to_signed_range(images, torch.float32), torch.tensor(data.labels)


def moved(images: Tensor) -> Tensor:
    """The images, each turned by up to 10 degrees, scaled by up to 10 % and shifted by up to 2 pixels, at random."""
    angle, scale, x, y = (torch.rand(4, len(images)) * 2 - 1).unbind()
    angle, scale = angle * math.radians(10), 1 + 0.1 * scale
    cos, sin = scale * angle.cos(), scale * angle.sin()
    shift = 2 * 2 / SIZE  # the image is 2 wide
    matrices = torch.stack([cos, -sin, shift * x, sin, cos, shift * y], dim=1).view(-1, 2, 3)
    grid = F.affine_grid(matrices, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)  # the border is background


def train_classifier(seed: int) -> nn.Module:
    """A classifier of images (N, 1, 32, 32) in [-1, 1] to logits (N, 10), in evaluation mode; equal for equal seeds."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for ins, outs in ((1, 16), (16, 32), (32, 64)):
        layers += [nn.Conv2d(ins, outs, 3, padding=1, bias=False), nn.BatchNorm2d(outs), nn.ReLU(), nn.MaxPool2d(2)]
    network = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.3), nn.Linear(64 * 4 * 4, CLASSES))
    images, labels = digits("train")
    optimizer = torch.optim.Adam(network.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=EPOCHS * len(images) // BATCH)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(images)).split(BATCH):
            loss = F.cross_entropy(network(moved(images[batch])), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return network.eval()


@torch.no_grad()
def read(classifier: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """The probability of the likeliest class of each image, and that class, (N,) each."""
    probabilities = torch.cat([classifier(part).softmax(dim=1) for part in images.split(BATCH)])
    return probabilities.max(dim=1).values, probabilities.argmax(dim=1)


def samples(model: LatentGAN, seed: int) -> tuple[Tensor, Tensor | None]:
    """1,000 images of a model and, if it takes labels, those that were asked for."""
    latent = model.latents(CLASSES * SAMPLES_PER_CLASS, seed=seed)
    labels = torch.arange(CLASSES).repeat(SAMPLES_PER_CLASS) if model.uses_labels else None
    asked = [None] * CLASSES if labels is None else labels.split(BATCH)
    return torch.cat([model.sample(*both) for both in zip(latent.split(BATCH), asked, strict=True)]).float(), labels


def variety(images: Tensor, classes: Tensor) -> float:
    """How much images (N, ...) of the same class differ: the mean over classes and pixels of the standard deviation."""
    groups = [images[classes == number] for number in classes.unique()]
    return torch.stack([group.std(dim=0, correction=0).mean() for group in groups]).mean().item()


def main() -> str | int:
    """Judge a run as asked on the command line; the promises that are missed, or 0."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run", help="a run folder: checkpoints/NAME")
    parser.add_argument("--step", type=int, help="which of its checkpoints (the newest)")
    parser.add_argument("--seed", type=int, default=0, help="of the classifier and of the noise (0)")
    parser.add_argument("--at-least-agreement", type=float, metavar="SHARE", help="of samples read as asked")
    parser.add_argument("--at-least-confidence", type=float, metavar="PROBABILITY", help="mean over the samples")
    parser.add_argument("--at-least-variety", type=float, metavar="SHARE", help="of that of real digits")
    parser.add_argument("--at-least-classes", type=int, metavar="NUMBER", help="digits among the samples")
    given = parser.parse_args()
    try:
        model = gantrain.load(given.run, step=given.step)
    except ConfigError as error:
        parser.error(str(error))
    if not isinstance(model, LatentGAN) or model.spec.shape("image") != (1, SIZE, SIZE):
        parser.error(f"{given.run} does not make {SIZE} x {SIZE} images of one channel from noise")
    if given.at_least_agreement is not None and not model.uses_labels:
        parser.error(f"--at-least-agreement: {given.run} makes images without labels")

    classifier = train_classifier(given.seed)
    images, labels = digits("test")
    confidence, classes = read(classifier, images)
    accuracy = (classes == labels).double().mean().item()
    print(f"accuracy    {accuracy:.4f} on {len(images)} real digits (confidence {confidence.mean():.4f})")
    assert accuracy >= MIN_ACCURACY, f"the classifier is right on only {accuracy:.2%}: it can't judge"

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
