"""The data sets derived from the shipped digits."""

from __future__ import annotations

import itertools
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import assert_same_bits, newest
from omegaconf import OmegaConf
from PIL import Image

from gantrain.cli.main import main
from gantrain.config.schema import takes
from gantrain.data.base import ImageDataset
from gantrain.data.sets import digit_sets as module
from gantrain.data.sets.digit_sets import INK, Digits2Stripes, DigitsLmdb, Edges2Digits, outline, striped
from gantrain.data.sets.digits import Digits
from gantrain.errors import ConfigError
from gantrain.registry import DATASETS

CONFIGS = Path(__file__).parents[3] / "configs/data"
COUNTS = {(32, "train"): 4500, (32, "test"): 500, (64, "train"): 200, (64, "test"): 200}


def use_first(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use ``count`` digits per phase."""
    all_digits = module._digits
    monkeypatch.setattr(module, "_digits", lambda phase, size: itertools.islice(all_digits(phase, size), count))


@pytest.fixture(scope="module", params=[(Edges2Digits, 32), (Edges2Digits, 64)], ids=["32", "64"])
def pairs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """The folder and size of all pairs of 32 pixels, or of some of 64."""
    return written(*request.param, tmp_path_factory)


@pytest.fixture(scope="module", params=[(Digits2Stripes, 32), (Digits2Stripes, 64)], ids=["32", "64"])
def domains(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """The folder and size of all images of 32 pixels, or of some of 64."""
    return written(*request.param, tmp_path_factory)


def written(kind: Any, size: int, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    root = tmp_path_factory.mktemp("digits")
    with pytest.MonkeyPatch.context() as patch:
        use_first(COUNTS[size, "train"], patch)
        kind.write(root, size)
    return root, size


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use 40 digits per phase."""
    use_first(40, monkeypatch)


def images(folder: Path) -> dict[str, np.ndarray]:
    return {path.name: np.array(Image.open(path)) for path in sorted(folder.iterdir())}


def digits(phase: str, size: int) -> list[np.ndarray]:
    found = Digits(load_size=size, phase=phase)
    return [found.item(index, 0)["image"][0].numpy() for index in range(COUNTS[size, phase])]


def built(name: str, root: Path, phase: str = "train", **keys: Any) -> ImageDataset:
    """The data set of a YAML file, below another root."""
    config = OmegaConf.load(CONFIGS / f"{name}.yaml")
    config.data.root = str(root)
    config.data.merge_with(keys)
    OmegaConf.resolve(config)
    others = ("cache", "cache_limit", "fraction", "max_size", "labelled", "batch_size", "num_workers")
    values = OmegaConf.to_container(OmegaConf.masked_copy(config.data, [k for k in config.data if k not in others]))
    return DATASETS.build(values, phase=phase)


@pytest.mark.parametrize("phase", ["train", "test"])
def test_a_pair_is_an_outline_beside_its_digit(pairs: tuple[Path, int], phase: str) -> None:
    root, size = pairs
    assert sorted(path.name for path in root.iterdir()) == ["test", "train"]
    found = images(root / phase)
    assert len(found) == COUNTS[size, phase]
    assert all(re.fullmatch(r"\d{5}_digit_\d\.png", name) for name in found)
    for number, (name, both) in enumerate(found.items()):
        assert name.startswith(f"{number:05}_")
        assert both.shape == (size, 2 * size)
    labels = [int(name[-5]) for name in found]
    assert labels == Digits(load_size=size, phase=phase).labels[: len(found)]
    assert all(np.array_equal(a[:, size:], b) for a, b in zip(found.values(), digits(phase, size), strict=True))


def test_an_outline_is_exactly_the_edge_of_the_ink(pairs: tuple[Path, int]) -> None:
    root, size = pairs
    inside_pixels = 0
    for both in images(root / "test").values():
        line, ink = both[:, :size] == 255, both[:, size:] > INK
        assert set(np.unique(both[:, :size])) == {0, 255}
        assert not (line & ~ink).any()
        # No step from inside leaves the ink, which never reaches the edge, where roll would wrap around.
        steps = [np.roll(ink, shift, axis) for shift in (1, -1) for axis in (0, 1)]
        assert np.array_equal(ink & ~line, ink & np.logical_and.reduce(steps))
        inside_pixels += (ink & ~line).sum()
    assert inside_pixels / COUNTS[size, "test"] > 20 * (size / 32) ** 2  # There are pixels to fill.


def test_the_outline_of_a_square_is_one_pixel_wide() -> None:
    square = np.zeros((6, 6), np.uint8)
    square[1:6, 1:6] = 200  # Up to the edge of the image, which counts as outside.
    square[0, 0] = INK  # Below the threshold.
    assert (outline(square) // 255).tolist() == [
        [0, 0, 0, 0, 0, 0],
        [0, 1, 1, 1, 1, 1],
        [0, 1, 0, 0, 0, 1],
        [0, 1, 0, 0, 0, 1],
        [0, 1, 0, 0, 0, 1],
        [0, 1, 1, 1, 1, 1],
    ]


@pytest.mark.parametrize("phase", ["train", "test"])
def test_every_digit_is_in_exactly_one_domain(domains: tuple[Path, int], phase: str) -> None:
    root, size = domains
    assert sorted(path.name for path in root.iterdir()) == ["testA", "testB", "trainA", "trainB"]
    plain, stripes = images(root / f"{phase}A"), images(root / f"{phase}B")
    assert {both.shape for both in (*plain.values(), *stripes.values())} == {(size, size, 3)}
    assert all((image == image[..., :1]).all() for image in plain.values())
    shapes_a = {image[..., 0].tobytes() for image in plain.values()}
    # The brighter colour channel of a stripe is the digit.
    shapes_b = {image.max(axis=2).tobytes() for image in stripes.values()}
    assert not shapes_a & shapes_b
    assert shapes_a | shapes_b == {digit.tobytes() for digit in digits(phase, size)}
    assert len(plain) + len(stripes) == COUNTS[size, phase]


@pytest.mark.parametrize("phase", ["train", "test"])
def test_classes_are_equally_frequent_in_both_domains(domains: tuple[Path, int], phase: str) -> None:
    counts = [Counter(path.name[-5] for path in (domains[0] / f"{phase}{side}").iterdir()) for side in "AB"]
    assert set(counts[0]) == set("0123456789")
    for digit in "0123456789":
        assert 0 <= counts[0][digit] - counts[1][digit] <= 1
    if domains[1] == 32:  # All digits.
        assert [count.total() for count in counts] == {"train": [2252, 2248], "test": [252, 248]}[phase]


def test_stripes_have_two_saturated_colours_in_every_image(domains: tuple[Path, int]) -> None:
    for image in images(domains[0] / "testB").values():
        bright = image[image.max(axis=2) > 128].astype(int)
        assert ((bright.max(axis=1) - bright.min(axis=1)) > 128).all()  # Saturated.
        reddish = (bright[:, 0] > bright[:, 2]).mean()
        assert 0.15 < reddish < 0.85


def test_stripes_are_an_eighth_of_the_image_wide_and_fall_to_the_right() -> None:
    found = striped(np.full((32, 32), 255, np.uint8))
    assert found[0, :8, 0].tolist() == [255] * 4 + [0] * 4
    assert found[0, 8:16, 2].tolist() == [0] * 4 + [255] * 4
    assert all(np.array_equal(found[row, row:], found[0, : 32 - row]) for row in range(32))
    assert np.array_equal(striped(np.full((64, 64), 255, np.uint8))[::2, ::2], found)
    assert striped(np.full((32, 32), 51, np.uint8))[0, 0].tolist() == [51, 16, 0]  # A fifth of 255, 80, 0.


@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.usefixtures("few")
def test_pairs_are_written_on_first_use(tmp_path: Path, size: int) -> None:
    train = built("edges2digits", tmp_path / "new/pairs", load_size=size)
    test = built("edges2digits", tmp_path / "new/pairs", "test", load_size=size)
    assert (len(train), len(test)) == (40, 40)
    assert train.spec.shape("a") == train.spec.shape("b") == (1, size, size)
    item, digit = test.item(7, 0), digits("test", size)[7]
    assert torch.equal(item["b"][0], torch.from_numpy(digit))
    assert torch.equal(item["a"][0], torch.from_numpy(outline(digit)))


@pytest.mark.usefixtures("few")
def test_two_domains_are_written_on_first_use(tmp_path: Path) -> None:
    train, test = (built("digits2stripes", tmp_path / "domains", phase) for phase in ("train", "test"))
    labels = [Digits(load_size=32, phase=phase).labels[:40] for phase in ("train", "test")]
    sizes = [sum((count + 1) // 2 for count in Counter(each).values()) for each in labels]  # Of the larger domain.
    assert [len(train), len(test)] == sizes
    assert train.spec.shape("a") == train.spec.shape("b") == (3, 32, 32)
    item = train.item(0, 0)
    assert torch.equal(item["a"][0], item["a"][2])
    assert not torch.equal(item["b"][0], item["b"][2])


@pytest.mark.parametrize("name", ["edges2digits", "digits2stripes"])
@pytest.mark.usefixtures("few")
def test_existing_images_are_left_unchanged(tmp_path: Path, name: str) -> None:
    size = len(built(name, tmp_path / "made"))
    folder = tmp_path / "made" / ("train" if name == "edges2digits" else "trainA")
    next(folder.iterdir()).unlink()
    times = {path: os.stat(path).st_mtime_ns for path in (tmp_path / "made").rglob("*")}
    assert len(built(name, tmp_path / "made")) == size - 1
    assert {path: os.stat(path).st_mtime_ns for path in (tmp_path / "made").rglob("*")} == times


@pytest.mark.parametrize("name", ["edges2digits", "digits2stripes"])
@pytest.mark.usefixtures("few")
def test_interrupted_writing_leaves_no_files(tmp_path: Path, name: str, monkeypatch) -> None:
    saved = []
    save = module._save

    def save_ten(path: Path, pixels: np.ndarray) -> None:
        if len(saved) == 10:
            raise KeyboardInterrupt
        saved.append(path)
        save(path, pixels)

    monkeypatch.setattr(module, "_save", save_ten)
    with pytest.raises(KeyboardInterrupt):
        built(name, tmp_path / "new/made")
    assert len(saved) == 10
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(module, "_save", save)
    built(name, tmp_path / "new/made")
    assert len(list((tmp_path / "new/made").rglob("*.png"))) == 80


def test_an_existing_folder_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    with pytest.raises(ConfigError, match=rf"^data\.root: .*{tmp_path}/mine"):
        built("edges2digits", tmp_path / "mine")
    assert list((tmp_path / "mine").iterdir()) == []


def test_a_size_too_small_for_stripes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^data\.crop_size: expected a whole number at least 16 .*, got 8$"):
        built("digits2stripes", tmp_path / "made", load_size=8)
    assert list(tmp_path.iterdir()) == []


def test_the_database_contains_the_same_digits(tmp_path: Path) -> None:
    config = OmegaConf.load(CONFIGS / "digits_lmdb.yaml").data
    OmegaConf.resolve(config)
    keys = {key: value for key, value in config.items() if takes(DigitsLmdb, key) or key == "mode"}
    for phase, count in (("train", 4500), ("test", 500)):
        whole = DATASETS.build(keys, phase=phase)
        digits = Digits(load_size=32, phase=phase)
        assert len(whole) == count
        assert whole.held_out
        assert whole.spec == digits.spec
        for index in range(0, count, 37):
            item = whole.item(index, 0)
            label, _, name = item["name"].partition("/")
            assert item["label"] == int(label)
            assert torch.equal(item["image"], digits.item(int(name[:5]), 0)["image"])


def test_a_model_trains_and_resumes_on_the_database(train) -> None:
    keys = ["model=cgan", "data=digits_lmdb", "data.max_size=40"]
    train("whole", *keys, "trainer.steps=4", "data.num_workers=2")
    train("halves", *keys, "trainer.steps=2")
    train("halves", *keys, "trainer.steps=4")
    assert_same_bits(newest("whole")["model"], newest("halves")["model"])
    assert main(["test", "run=checkpoints/whole"]) == 0
