"""Collapse, a winning discriminator, a run that declines, and a healthy run are told apart."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from conftest import assert_mentions
from pages import lines_of
from torch import Tensor

from gantrain.cli.main import main
from gantrain.training.diagnostics import Diagnostics, variety
from gantrain.training.objective import Objective, ObjectiveSettings

RUN = Path("checkpoints/run")
# Long enough for a difference.
LEARNING = ["data.load_size=16", "data.batch_size=16", "network.width=16", "metrics=none", "trainer.accelerator=cpu"]


def notes() -> list[str]:
    """What was found, by the first words."""
    path = RUN / "notes.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    assert lines == lines_of(RUN, "notes")
    return [line["note"].split(":")[0] for line in lines]


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("data.max_size=1", "mode collapse"),
        ("optimizer.discriminator_lr=1e-2", "the discriminator has won"),
        ("", None),
    ],
)
def test_faults_and_a_healthy_run_are_told_apart(typed: str, found: str | None, capsys) -> None:
    short = ["name=run", "trainer.steps=180", "trainer.image_every=60"]
    assert main(["train", *LEARNING, *short, *([typed] if typed else [])]) == 0
    assert notes() == ([found] if found else [])
    assert (f"Note: step 180: {found}" in capsys.readouterr().err) == bool(found)


class Same:
    """A model with the same samples throughout, and logits that are the mean of an image."""

    preview_latent = torch.zeros(0)
    preview_labels: Tensor | None = None

    def __init__(self, samples: Tensor) -> None:
        self._samples = samples

    def sample(self, latent: Tensor, labels: Tensor | None) -> Tensor:
        return self._samples

    def discriminate(self, images: Tensor, labels: Tensor | None) -> Tensor:
        return images.mean(dim=(1, 2, 3))[:, None]


def test_a_fault_is_reported_once_until_it_is_over() -> None:
    generator = torch.Generator().manual_seed(0)
    real = torch.rand(8, 1, 4, 4, generator=generator) * 2 - 1
    diagnostics = Diagnostics({"image": real}, {})
    collapsed, healthy = Same(real[:1].expand(8, 1, 4, 4)), Same(real.flip(0))
    found = [bool(diagnostics.observe(model)) for model in [collapsed] * 5 + [healthy] + [collapsed] * 3]
    assert found == [False, False, True, False, False, False, False, False, True]


def test_the_spread_of_images_is_that_of_each_pixel() -> None:
    images = torch.tensor([[[[1.0, 0.0]]], [[[-1.0, 0.0]]]])
    assert variety(images) == 0.5  # One of two pixels deviates by 1.


def test_classes_of_one_image_each_are_a_collapse() -> None:
    generator = torch.Generator().manual_seed(0)
    real = torch.rand(12, 1, 4, 4, generator=generator) * 2 - 1
    labels = torch.arange(12) % 3
    diagnostics = Diagnostics({"image": real, "label": labels}, {})
    model = Same(real[:3][labels])
    model.preview_labels = labels
    found = [line for _ in range(3) for line in diagnostics.observe(model)]
    assert len(found) == 1
    assert_mentions(found[0], "mode collapse", "of a class")
    assert variety(model.sample(labels, labels)) > 0.25  # Over all classes, nothing is to be seen.


def test_an_objective_that_has_got_worse_for_a_third_of_a_run() -> None:
    objective = Objective(ObjectiveSettings(metric="fid", mode=None))
    diagnostics = Diagnostics({}, {})
    found = []
    for step, value in [(1, 3.0), (2, 2.0), (5, 2.5), (6, 2.5), (7, 2.5), (8, 1.0), (10, 2.0)]:
        objective.record("measured", {"fid": value})
        objective.is_best(step)
        found.append(diagnostics.decline(objective, step, step / 10))
    assert [len(each) for each in found] == [0, 0, 0, 1, 0, 0, 0]
    assert_mentions(found[3][0], "fid", "best was step 2", "2.5 now", "best.pt")
