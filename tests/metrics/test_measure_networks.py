"""Metrics with networks of their own, and metrics of pairs of generated images, in a measurement of a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from conftest import TINY, assert_mentions
from torch import Tensor
from translated import image

from gantrain.cli.main import main
from gantrain.errors import ConfigError
from gantrain.metrics.base import Extracted, FeatureMetric, Features, PairMetric, Shape
from gantrain.metrics.folders import measure_folders
from gantrain.registry import METRICS

SHOWN: list[Tensor] = []  # Of the network.
COMPUTED: list[tuple[Extracted, Extracted]] = []
PAIRS: list[tuple[Tensor, Tensor]] = []


class Pixels(Features):
    """The pixels of at most 70 images of each kind."""

    identity, limit = "pixels", 70

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.channels, height, width = shape
        self.dim = self.channels * height * width
        self.register_buffer("scale", torch.ones(()))

    def forward(self, images: Tensor) -> tuple[Tensor, None]:
        SHOWN.append(images)
        return images.float().flatten(1) * self.scale, None


class OfPixels(FeatureMetric):
    """Records what it is given."""

    higher_is_better = {"of_pixels": False}
    needs_features = False

    def prepare(self, shape: Shape) -> None:
        self.own = Pixels(shape)

    def compute(self, generated: Extracted, real: Extracted, *, seed: int) -> dict[str, float]:
        COMPUTED.append((generated, real))
        return {"of_pixels": float(len(generated) - len(real))}


class Alike(PairMetric):
    """Records pairs of generated images."""

    higher_is_better = {"alike": False}
    of_generated = True

    def compute(self, generated: Tensor, real: Tensor) -> dict[str, Tensor]:
        PAIRS.append((generated, real))
        return {"alike": generated.double().mean(dim=(1, 2, 3))}


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    for recorded in (SHOWN, COMPUTED, PAIRS):
        recorded.clear()
    for name, cls in (("of_pixels", OfPixels), ("alike", Alike)):
        monkeypatch.setitem(METRICS._classes, name, cls)


def train(*overrides: str) -> int:
    """Train for a step, measured at the end; the exit status."""
    own = ["metrics=none", "+metrics.of_pixels.name=of_pixels", "name=run", "trainer.steps=1", *overrides]
    return main(["train", *TINY, *own])


def numbers() -> dict[str, float]:
    """The numbers of the run's only measurement."""
    (line,) = Path("checkpoints/run/metrics.jsonl").read_text().splitlines()
    return json.loads(line)


def test_a_network_of_its_own_sees_as_many_images_as_it_wants() -> None:
    assert train("+metrics.fid.name=fid", "metrics.features=digits", "metrics.samples=100") == 0
    ((generated, real),) = COMPUTED
    assert len(generated) == len(real) == 70
    assert generated.features.shape == (70, 256)
    assert torch.cat(SHOWN).shape == (140, 1, 16, 16)
    assert len(real.features.unique(dim=0)) == 70
    assert numbers()["of_pixels"] == 0
    assert numbers()["fid"] > 0
    SHOWN.clear()
    assert train("+metrics.fid.name=fid", "metrics.features=digits", "metrics.samples=30", "name=again") == 0
    assert torch.cat(SHOWN).shape == (64, 1, 16, 16)  # A block of generated images: those of real ones are cached.
    (_, (fewer, cached)) = COMPUTED
    assert len(fewer) == 30
    assert torch.equal(fewer.features, generated.features[:30])
    assert torch.equal(cached.features, real.features)


def test_pairs_of_generated_images_are_consecutive_ones() -> None:
    assert train("+metrics.alike.name=alike", "metrics.samples=69") == 0
    ((generated, _),) = COMPUTED
    even, odd = (torch.cat(side).flatten(1).float() for side in zip(*PAIRS, strict=True))
    assert torch.equal(even, generated.features[0:68:2])
    assert torch.equal(odd, generated.features[1:68:2])
    assert numbers()["alike"] == pytest.approx(even.double().mean().item())


def test_pairs_of_generated_images_are_refused_in_translation(capsys: pytest.CaptureFixture[str]) -> None:
    for part in ("train", "test"):
        image(Path("pairs", part, "1.png"), 32, 64)
    overrides = ["model=pix2pix", "data=facades", "data.root=pairs", "data.load_size=32", "data.crop_size=32"]
    assert train("+metrics.alike.name=alike", *overrides) == 2
    assert_mentions(capsys.readouterr().err, "metrics=alike", "noise")


def test_folders_are_given_to_networks_of_metrics_too() -> None:
    for folder, count in (("fake", 75), ("real", 80)):
        for number in range(count):
            image(Path(folder, f"{number:02}.png"), 9, 8)
    shared = {"every": None, "samples": 2, "features": None, "weights": None, "resize": "clean", "channels": None}
    config = {**shared, "against": None, "real": None, "seed": 0, "optional": False, "of_pixels": {"name": "of_pixels"}}
    found, protocol = measure_folders(config, Path("fake"), Path("real"), size=None, device=torch.device("cpu"))
    ((generated, real),) = COMPUTED
    assert generated.features.shape == real.features.shape == (70, 3 * 8 * 9)
    assert found == {"of_pixels": 0}
    assert_mentions(protocol, "of_pixels: pixels", "75 fake vs 80 real")
    paired = config | {"alike": {"name": "alike"}}
    with pytest.raises(ConfigError) as refusal:
        measure_folders(paired, Path("fake"), Path("real"), size=None, device=torch.device("cpu"))
    assert_mentions(str(refusal.value), "metrics=alike", "run=")
