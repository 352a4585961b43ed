"""gantrain evaluate: folders of images, stored statistics, and runs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY, assert_mentions
from PIL import Image

from gantrain.cli.main import main
from gantrain.data.sets.digits import Digits
from gantrain.metrics.features.digits import DigitFeatures
from gantrain.metrics.frechet import frechet_distance

DIGITS = ["metrics.features=digits"]


@pytest.fixture
def folders() -> tuple[torch.Tensor, torch.Tensor]:
    """Folders of 12 and 14 digits, the first in sub-folders; returns the images (N, 1, 32, 32) uint8."""
    data = Digits(load_size=32, phase="test")
    images = torch.stack([data.item(number, 0)["image"] for number in range(26)])
    for number, image in enumerate(images):
        path = Path("fake", str(number % 2), f"{number}.png") if number < 12 else Path("real", f"{number}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0].numpy()).save(path)
    return images[:12], images[12:]


def printed(capsys) -> dict[str, float]:
    return {
        name: float(value) for name, value in re.findall(r"^  (\w+) +(\S+)$", capsys.readouterr().out, re.MULTILINE)
    }


def test_the_distance_of_two_folders_is_that_of_their_features(folders, capsys) -> None:
    assert main(["evaluate", "fake=fake", "real=real", *DIGITS]) == 0
    network = DigitFeatures()
    expected = frechet_distance(*(network(images)[0] for images in folders))
    assert printed(capsys)["fid"] == pytest.approx(expected, rel=1e-4)
    assert main(["evaluate", "fake=fake", "real=fake", *DIGITS]) == 0
    shown = capsys.readouterr().out
    assert_mentions(shown, "fake against fake", "(digits ", "12 fake vs 12 real)")
    assert float(shown.split()[-1]) == pytest.approx(0, abs=1e-9)


def test_statistics_in_the_format_of_pytorch_fid(folders, capsys) -> None:
    network = DigitFeatures()
    features = network(folders[1])[0].double().numpy()
    np.savez("statistics.npz", mu=features.mean(axis=0), sigma=np.cov(features, rowvar=False))
    assert main(["evaluate", "fake=fake", "real=real", *DIGITS]) == 0
    direct = printed(capsys)
    assert main(["evaluate", "fake=fake", "real=statistics.npz", *DIGITS]) == 0
    assert printed(capsys) == pytest.approx(direct, rel=1e-4)
    np.savez("other.npz", mu=features.mean(axis=0)[:5], sigma=np.eye(5))
    Path("damaged.npz").write_bytes(b"nothing")
    for name, words in (("other.npz", ["(5,)", "64"]), ("damaged.npz", ["mu and sigma"])):
        assert main(["evaluate", "fake=fake", f"real={name}", *DIGITS]) == 2
        assert_mentions(capsys.readouterr().err, f"real={name}", *words)
    assert main(["evaluate", "fake=fake", "real=statistics.npz", "metrics=[fid,kid]", *DIGITS]) == 2
    assert_mentions(capsys.readouterr().err, "statistics.npz", "metrics=fid", "real=FOLDER")


def test_images_are_resized_only_if_asked_and_paired_by_name(capsys) -> None:
    for folder, size, value in (("one", 40, 100), ("other", 30, 151)):
        Path(folder).mkdir()
        for name in "abc":
            Image.new("RGB", (size, 30), (value,) * 3).save(Path(folder, f"{name}.png"))
    typed = ["evaluate", "fake=one", "real=other", "metrics=[l1,psnr]"]
    assert main(typed) == 2
    assert_mentions(capsys.readouterr().err, "size=N", "30, 40")
    assert main([*typed, "size=32"]) == 0
    assert printed(capsys)["l1"] == pytest.approx(0.2)
    Path("other/a.png").rename("other/z.png")
    assert main([*typed, "size=32"]) == 2
    assert_mentions(capsys.readouterr().err, "metrics=l1", "same names")


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ([], ["run is missing", "fake=FOLDER real=FOLDER"]),
        (["fake=fake"], ["fake=FOLDER real=FOLDER"]),
        (["fake=fake", "real=real", "run=x"], ["run and fake exclude"]),
        (["fake=nix", "real=real", *DIGITS], ["nix", "no such folder"]),
        (["fake=fake", "real=real", "step=3"], ["step=3", "run=checkpoints/NAME"]),
        (["run=x", "size=3"], ["size=3", "fake=FOLDER"]),
        (["run=nix"], ["run=nix"]),
        (["fake=fake", "real=real", "metrics=none"], ["metrics=fid"]),
        (["fake=fake", "real=real", "metrics=nix"], ["metrics=nix", "fid"]),
        (["fake=fake", "real=real", "network_weights=last"], ["network_weights=last", "run="]),
        *(
            (["fake=fake", "real=real", "metrics=fid", *DIGITS, key], [f"{key} has no effect", remedy])
            for key, remedy in {
                "metrics.samples=5": "give folders with fewer",
                "metrics.real=5": "give folders with fewer",
                "metrics.against=test": "real=FOLDER",
                "metrics.seed=3": "at random",
                "metrics.every=3": "training",
                "metrics.resize=legacy": "metrics.features=inception",
            }.items()
        ),
        (["fake=fake", "real=real", "metrics=[l1,ssim]", *DIGITS], ["metrics.features=digits has no effect"]),
        (["fake", "real"], ["fake", "run=fake"]),
    ],
)
@pytest.mark.usefixtures("folders")
def test_what_can_not_be_evaluated_is_refused_in_one_line(typed: list[str], words: list[str], capsys) -> None:
    assert main(["evaluate", *typed]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert_mentions(shown.err, "gantrain: ", *words)


def test_the_seed_of_folders_is_that_of_the_subsets(folders, capsys) -> None:
    typed = ["evaluate", "fake=fake", "real=real", "metrics=kid", "metrics.kid.subset_size=8", *DIGITS]
    found = []
    for seed in (0, 1):
        assert main([*typed, f"metrics.seed={seed}"]) == 0
        shown = capsys.readouterr().out
        assert f"seed {seed}" in shown
        found.append(re.findall(r"  kid +(\S+)", shown))
    assert found[0] != found[1]


def test_runs_are_measured_at_every_checkpoint_and_the_numbers_stored(capsys) -> None:
    tiny = [word for word in TINY if word != "metrics=none"]
    for name in ("one", "other"):
        often = ["trainer.steps=2", "trainer.save_every=1", "data.max_size=40", "metrics.samples=20"]
        assert main(["train", *tiny, *often, f"name={name}"]) == 0
    capsys.readouterr()
    assert main(["evaluate", "run=[one,checkpoints/other]", "step=all", "metrics.seed=5"]) == 0
    shown = capsys.readouterr().out
    for run in ("one", "other"):
        assert_mentions(shown, f"checkpoints/{run}, step 1", f"checkpoints/{run}, step 2", "seed 5")
        lines = [json.loads(line) for line in Path("checkpoints", run, "evaluations.jsonl").read_text().splitlines()]
        assert [line["step"] for line in lines] == [1, 2]
        assert "20 fake vs 40 train" in lines[0]["protocol"]
        assert str(lines[1]["fid"]) in Path("checkpoints", run, "index_files/data/evaluations.js").read_text()
    assert main(["evaluate", "run=one", "metrics=kid", "metrics.against=test", "metrics.samples=30", *DIGITS]) == 0
    assert_mentions(capsys.readouterr().out, "kid_unbiased", "fake vs 40 test")
    for key in ("metrics.every=3", "metrics.resize=legacy"):
        assert main(["evaluate", "run=one", "metrics=fid", *DIGITS, key]) == 2
        assert_mentions(capsys.readouterr().err, f"{key} has no effect")
