"""Collapse, a winning discriminator, a run that declines, and a healthy run are told apart."""

from __future__ import annotations

import pytest
import torch
from conftest import assert_mentions
from noted_runs import LEARNING, notes
from torch import Tensor

from gantrain.cli.main import main
from gantrain.metrics.measure import Measurement
from gantrain.models.latent import CGAN
from gantrain.training.diagnostics import Diagnostics, variety
from gantrain.training.objective import Objective, ObjectiveSettings


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("data.max_size=1", "mode collapse"),
        ("optimizer.discriminator_lr=1e-2", "the discriminator has won"),
        ("", None),
    ],
)
def test_faults_and_a_healthy_run_are_told_apart(typed: str, found: str | None, capsys) -> None:
    # Averages that forget the initial weights would show these faults later.
    short = ["name=run", "schedule=constant", "trainer.steps=180", "trainer.image_every=60", "model.ema_rampup=0"]
    assert main(["train", *LEARNING, *short, *([typed] if typed else [])]) == 0
    assert notes() == ([found] if found else [])
    assert (f"Note: step 180: {found}" in capsys.readouterr().err) == bool(found)


class Same(CGAN):
    """A model with the same samples throughout, and logits that are the mean of an image."""

    preview_latent = torch.zeros(0)
    preview_labels: Tensor | None = None

    def __init__(self, samples: Tensor) -> None:
        torch.nn.Module.__init__(self)
        self._samples = samples

    def sample(self, latent: Tensor, labels: Tensor | None) -> Tensor:
        return self._samples

    def discriminate(self, images: Tensor, labels: Tensor | None) -> Tensor:
        return images.mean(dim=(1, 2, 3))[:, None]


def test_a_fault_is_reported_once_until_it_is_over() -> None:
    generator = torch.Generator().manual_seed(0)
    real = torch.rand(8, 1, 4, 4, generator=generator) * 2 - 1
    watch = Diagnostics(lambda: {"image": real}, {})
    collapsed, healthy = Same(real[:1].expand(8, 1, 4, 4)), Same(real.flip(0))
    found = [bool(watch.observe(model, {}, [], 0.5)) for model in [collapsed] * 5 + [healthy] + [collapsed] * 3]
    assert found == [False, False, True, False, False, False, False, False, True]


@pytest.mark.parametrize(("before", "reported"), [(["healthy"], True), (["alike"], False), ([], False)])
@pytest.mark.parametrize("translates", [False, True])
def test_a_run_that_ends_in_a_collapse_says_so_at_once(translates: bool, before: list[str], reported: bool) -> None:
    """Unless its samples have been alike from its start, as those of an untrained generator are."""
    real = torch.rand(8, 1, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1
    samples = {"healthy": real.flip(0), "alike": real[:1].expand(8, 1, 4, 4)}
    watch = Diagnostics(lambda: {"image": real}, {})

    def observed(name: str, progress: float) -> list[str]:
        shown = {"fake_b": samples[name], "real_b": real}
        model = torch.nn.Identity() if translates else Same(samples[name])
        return [note for note in watch.observe(model, shown, [], progress) if "mode collapse" in note]

    assert not [note for name in before for note in observed(name, 0.5)]
    assert bool(observed("alike", 1.0)) == reported


def test_the_spread_of_images_is_that_of_each_pixel() -> None:
    images = torch.tensor([[[[1.0, 0.0]]], [[[-1.0, 0.0]]]])
    assert variety(images) == 0.5  # One of two pixels deviates by 1.


def test_classes_of_one_image_each_are_a_collapse() -> None:
    generator = torch.Generator().manual_seed(0)
    real = torch.rand(12, 1, 4, 4, generator=generator) * 2 - 1
    labels = torch.arange(12) % 3
    watch = Diagnostics(lambda: {"image": real, "label": labels}, {})
    model = Same(real[:3][labels])
    model.preview_labels = labels
    found = [line for _ in range(3) for line in watch.observe(model, {}, [], 0.5)]
    assert len(found) == 1
    assert_mentions(found[0], "mode collapse", "of a class")
    assert variety(model.sample(labels, labels)) > 0.25  # Over all classes, nothing is to be seen.


def test_an_objective_that_has_got_worse_for_a_third_of_a_run() -> None:
    objective = Objective(ObjectiveSettings(metric="fid", mode=None))
    watch = Diagnostics(dict, {})
    found = []
    for step, value in [(1, 3.0), (2, 2.0), (5, 2.5), (6, 2.5), (7, 2.5), (8, 1.0), (10, 2.0)]:
        objective.record("measured", {"fid": value})
        objective.is_best(step)
        found.append(watch.decline(objective, step, step / 10))
    assert [len(each) for each in found] == [0, 0, 0, 1, 0, 0, 0]
    assert_mentions(found[3][0], "fid", "best was step 2", "2.5 now", "best.pt")


# ---- a vanished gradient, and translations


RAMP = torch.linspace(-1, 1, 20)[:, None, None, None].expand(20, 1, 4, 4)


def norms(value: float) -> list[dict[str, object]]:
    return [{"side": "generator", "norm": value}, {"side": "discriminator", "norm": 9.0}]


def test_a_vanished_gradient_counts_against_the_generator() -> None:
    model = Same(RAMP.flip(0) - 1.5)  # 96% of pairs are ranked correctly.
    for gradient, reported in ((0.5, False), (0.001, True)):
        watch = Diagnostics(lambda: {"image": RAMP}, {})
        watch.observe(model, {}, norms(1.0), 0.5)
        found = [watch.observe(model, {}, norms(gradient), 0.5) for _ in range(3)]
        assert bool(found[-1]) == reported
    assert_mentions(found[-1][0], "the discriminator has won", "gradient is 0.1% of its largest")


def test_a_discriminator_that_is_perfect_from_the_start_has_not_won_yet() -> None:
    perfect, fooled = Same(RAMP - 3), Same(RAMP.flip(0))
    for before, share, reported in ((perfect, 0.2, False), (fooled, 0.2, True), (perfect, 0.3, True)):
        watch = Diagnostics(lambda: {"image": RAMP}, {})
        observed = [(before, 0.1)] * 4 + [(perfect, share)] * 3
        notes = [watch.observe(model, {}, norms(1.0), progress) for model, progress in observed]
        assert list(map(bool, notes)) == [False] * 6 + [reported]


def test_a_gradient_that_has_not_vanished_is_not_mentioned() -> None:
    watch = Diagnostics(lambda: {"image": RAMP}, {})
    notes = [note for _ in range(4) for note in watch.observe(Same(RAMP - 3), {}, norms(1.0), 0.5)]
    assert_mentions(notes[0], "the discriminator has won", "gradient penalty")
    assert "largest" not in notes[0]


def test_equal_translations_of_different_images_are_a_collapse() -> None:
    images = torch.rand(4, 1, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1
    model = torch.nn.Identity()
    for real, fake, reported in (
        (images, images[:1], True),
        (images, images.flip(0), False),
        (images[:1], images[:1], False),
    ):
        shown = {"real_a": images, "fake_b": fake.expand(4, 1, 4, 4), "real_b": real.expand(4, 1, 4, 4)}
        watch = Diagnostics(dict, {})
        found = [watch.observe(model, shown, [], 0.5) for _ in range(3)]
        assert [len(each) for each in found] == [0, 0, int(reported)]
        if reported:
            assert_mentions(found[-1][0], "mode collapse", "to b are alike", "0% as much")


@pytest.mark.usefixtures("few_digits")
def test_the_decline_of_a_translation_is_noted(monkeypatch) -> None:
    values = iter([{"l1": 1.0}, *[{"l1": 2.0}] * 5])
    monkeypatch.setattr(Measurement, "__call__", lambda self, model: next(values))
    data = ["model=pix2pix", "data.load_size=32", "data.crop_size=32", "network.width=2", "data.batch_size=2"]
    chosen = ["metrics=l1", "objective.metric=l1", "metrics.every=1", "trainer.steps=6", "trainer.accelerator=cpu"]
    assert main(["train", *data, *chosen, "name=run"]) == 0
    assert notes() == ["l1 has not improved for a third of the run"]
