"""Pairs of images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from image_pairs import names, noise, pairs, save, save_pair
from PIL import Image

from gantrain.data.base import Batch
from gantrain.errors import ConfigError


def outcome(item: Batch) -> bytes:
    return item["a"].numpy().tobytes()


@pytest.mark.parametrize("preprocess", ["resize_and_crop", "crop", "scale_width_and_crop", "scale_shortside_and_crop"])
@pytest.mark.parametrize("in_folders", [False, True])
def test_both_images_of_a_pair_have_the_same_crop_and_flip(tmp_path: Path, preprocess: str, in_folders: bool) -> None:
    left = noise()
    if in_folders:
        save(tmp_path / "trainA/1.png", left)
        save(tmp_path / "trainB/1.png", 255 - left)
    else:
        save_pair(tmp_path / "train/1.png")
    dataset = pairs(tmp_path, preprocess=preprocess)
    items = [dataset.item(0, seed) for seed in range(300)]
    for item in items:
        assert item["a"].shape == (3, 12, 12)
        assert torch.equal(item["b"], 255 - item["a"])
    # 5 x 5 places, mirrored or not
    assert len({outcome(item) for item in items}) == 50
    assert outcome(dataset.item(0, 3)) == outcome(items[3])


@pytest.mark.parametrize(("height", "width"), [(355, 32), (70, 110), (16, 17)])
def test_scaling_is_the_same_for_both_images(tmp_path: Path, height: int, width: int) -> None:
    save_pair(tmp_path / "train/1.png", height=height, width=width)
    dataset = pairs(tmp_path)
    for seed in range(40):
        item = dataset.item(0, seed)
        # At most one of a value and its negative is rounded up.
        assert (item["b"].int() - (255 - item["a"].int())).abs().max() <= 1


def test_testing_resizes_to_the_crop_size_without_flips(tmp_path: Path) -> None:
    save_pair(tmp_path / "test/1.png", height=20, width=30)
    expected = Image.fromarray(noise(20, 30)).resize((12, 12), Image.Resampling.BICUBIC)
    for seed in range(10):
        item = pairs(tmp_path, phase="test").item(0, seed)
        np.testing.assert_array_equal(item["a"].permute(1, 2, 0).numpy(), np.asarray(expected))


def test_two_folders_are_matched_by_path_without_suffix(tmp_path: Path) -> None:
    for seed, name in enumerate(("x/1", "y/1", "1.v2")):
        save(tmp_path / f"trainA/{name}.png", noise(seed=seed))
        save(tmp_path / f"trainB/{name}.tif", 255 - noise(seed=seed))
    dataset = pairs(tmp_path)
    assert names(dataset) == ["1.v2.png", "x/1.png", "y/1.png"]
    for index in range(3):
        item = dataset.item(index, 5)
        assert torch.equal(item["b"], 255 - item["a"])


def test_images_without_partner_are_counted_and_named(tmp_path: Path) -> None:
    for number in range(6):
        save(tmp_path / f"trainA/{number}.png", noise())
        save(tmp_path / f"trainB/{number + 4}.png", noise())
    with pytest.raises(ConfigError) as caught:
        pairs(tmp_path)
    a, b = tmp_path / "trainA", tmp_path / "trainB"
    listed = [*(str(a / f"{number}.png") for number in range(4)), str(b / "6.png")]
    message = str(caught.value)
    assert message.startswith("data.root: ")
    assert f"4 in {a} and 4 in {b}" in message
    assert message.endswith(f"{', '.join(listed)} and 3 more")


def test_images_that_differ_only_in_suffix_are_refused(tmp_path: Path) -> None:
    for name in ("trainA/1.png", "trainA/1.jpg", "trainB/1.png"):
        save(tmp_path / name, noise())
    text = rf"^data\.root: {tmp_path}/trainA/1\.jpg and {tmp_path}/trainA/1\.png differ only in their suffixes"
    with pytest.raises(ConfigError, match=text):
        pairs(tmp_path)


def test_an_image_of_odd_width_is_named(tmp_path: Path) -> None:
    save(tmp_path / "train/1.png", noise(16, 33))
    with pytest.raises(ConfigError, match=rf"^{tmp_path}/train/1\.png is 33 pixels wide, which can't be halved"):
        pairs(tmp_path).item(0, 0)


@pytest.mark.parametrize("preprocess", ["crop", "none", "scale_width", "scale_shortside_and_crop"])
def test_pairs_scaled_to_different_sizes_are_named(tmp_path: Path, preprocess: str) -> None:
    a, b = save(tmp_path / "trainA/1.png", noise(20, 30)), save(tmp_path / "trainB/1.png", noise(30, 30))
    dataset = pairs(tmp_path, preprocess=preprocess)
    with pytest.raises(ConfigError, match=rf"^{a} and {b} would be scaled to different sizes, \[.*resize_and_crop"):
        dataset.item(0, 0)
    assert pairs(tmp_path).item(0, 0)["b"].shape == (3, 12, 12)


@pytest.mark.parametrize("in_folders", [False, True])
def test_the_direction_swaps_a_and_b_and_their_specification(tmp_path: Path, in_folders: bool) -> None:
    gray, colour = noise(channels=1, dtype=np.uint16), noise(seed=1)
    if in_folders:
        save(tmp_path / "trainA/1.png", gray)
        save(tmp_path / "trainB/1.jpg", colour)
    else:
        save_pair(tmp_path / "train/1.png")
    keys = {"channels": 1, "channels_b": 3, "range": [0, 200]}
    forward, backward = (pairs(tmp_path, direction=direction, **keys) for direction in ("a_to_b", "b_to_a"))
    depth = "uint16" if in_folders else "uint8"
    assert forward.spec.channels == {"a": 1, "b": 3}
    assert backward.spec.channels == {"a": 3, "b": 1}
    assert (forward.spec.depth, backward.spec.depth) == ({"a": depth, "b": "uint8"}, {"a": "uint8", "b": depth})
    assert (forward.spec.ranges, backward.spec.ranges) == ({"a": (0.0, 200.0)}, {"b": (0.0, 200.0)})
    one, other = forward.item(0, 4), backward.item(0, 4)
    assert torch.equal(one["a"], other["b"])
    assert torch.equal(one["b"], other["a"])
    assert (one["a"].dtype, one["b"].dtype) == (torch.float32, torch.uint8)
    assert (one["name"], other["name"]) == ("1.png", "1.jpg" if in_folders else "1.png")
    assert forward.fingerprint == backward.fingerprint


def test_the_description_has_the_size_of_the_window(tmp_path: Path) -> None:
    save_pair(tmp_path / "train/1.png")
    spec = pairs(tmp_path, load_size=[20, 24], crop_size=[12, 16]).spec
    assert (spec.shape("a"), spec.shape("b"), spec.class_names) == ((3, 12, 16), (3, 12, 16), ())


def test_each_domain_has_the_depth_of_its_first_image(tmp_path: Path) -> None:
    stored = noise(16, 16, 1, dtype=np.uint16)
    save(tmp_path / "trainA/1.png", stored)
    save(tmp_path / "trainA/2.png", noise(16, 16, 1))
    save(tmp_path / "trainB/1.png", noise())
    save(tmp_path / "trainB/2.npy", noise(dtype=np.uint16))
    dataset = pairs(tmp_path, channels=1, flip=False, crop_size=16)
    assert dataset.spec.depth == {"a": "uint16", "b": "uint8"}
    first = dataset.item(0, 0)
    np.testing.assert_array_equal(first["a"][0].numpy(), stored[..., 0])
    assert first["b"].dtype == torch.uint8
    with pytest.raises(ConfigError, match=rf"^{tmp_path}/trainB/2\.npy has a depth of uint16.*data\.depth=uint16$"):
        dataset.item(1, 0)
    deep = pairs(tmp_path, channels=1, depth="uint16", flip=False, crop_size=16)
    assert deep.spec.depth == {"a": "uint16", "b": "uint16"}
    np.testing.assert_array_equal(deep.item(1, 0)["a"][0].numpy(), noise(16, 16, 1)[..., 0] * 257.0)
    shallow = pairs(tmp_path, channels=1, depth="uint8", flip=False, crop_size=16).item(0, 0)["a"]
    np.testing.assert_array_equal(shallow[0].numpy(), np.rint(stored[..., 0] / 257))


def test_each_domain_has_its_range(tmp_path: Path) -> None:
    save(tmp_path / "trainA/1.npy", np.full((16, 16), 250, np.float32))
    save(tmp_path / "trainB/1.npy", np.full((16, 16), -250, np.float32))
    keys = {"channels": 1, "channels_b": 1}
    dataset = pairs(tmp_path, **keys, range=[0, 1000], range_b=[-1000, 0])
    assert dataset.spec.ranges == {"a": (0.0, 1000.0), "b": (-1000.0, 0.0)}
    assert dataset.spec.depth == {"a": "float32", "b": "float32"}
    item = dataset.item(0, 0)
    assert (item["a"].unique().tolist(), item["b"].unique().tolist()) == ([-0.5], [0.5])
    with pytest.raises(ConfigError, match=r"^floating-point images need data\.range_b=\[LOW,HIGH\]"):
        pairs(tmp_path, **keys, range=[0, 1000])
    for wrong in ([1, 1], [5, 0], [0, float("inf")], [float("nan"), 1]):
        with pytest.raises(ConfigError, match=r"^data\.range_b=\[.*\]: the first number must be less than the second$"):
            pairs(tmp_path, **keys, range=[0, 1], range_b=wrong)
    with pytest.raises(ConfigError, match=r"^data\.range: expected a list of 2"):
        pairs(tmp_path, **keys, range=[0])


def test_other_channels_are_refused_with_the_key_of_their_domain(tmp_path: Path) -> None:
    save(tmp_path / "trainA/1.npy", noise())
    save(tmp_path / "trainB/1.npy", noise(channels=2))
    with pytest.raises(ConfigError, match=r"trainB/1\.npy has 2 channels.*data\.channels_b=2"):
        pairs(tmp_path).item(0, 0)


def test_an_image_smaller_than_the_crop_is_named(tmp_path: Path) -> None:
    save_pair(tmp_path / "train/1.png", height=8)
    with pytest.raises(ConfigError, match=rf"^{tmp_path}/train/1\.png \(\[8, 16\] pixels\) is smaller than"):
        pairs(tmp_path, preprocess="crop").item(0, 0)


def test_the_fingerprint_depends_on_the_names(tmp_path: Path) -> None:
    save_pair(tmp_path / "train/1.png")
    before = pairs(tmp_path).fingerprint
    assert pairs(tmp_path, direction="b_to_a").fingerprint == before
    (tmp_path / "train/1.png").rename(tmp_path / "train/2.png")
    assert pairs(tmp_path).fingerprint != before
