"""The folders in which data sets of two domains are found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from image_pairs import names, noise, pairs, save, save_pair

from gantrain.errors import ConfigError

LAYOUTS = {
    "side by side": ("{phase}/{name}",),
    "trainA": ("{phase}A/{name}", "{phase}B/{name}"),
    "A/train": ("A/{phase}/{name}", "B/{phase}/{name}"),
    "a/train": ("a/{phase}/{name}", "b/{phase}/{name}"),
    "train/A": ("{phase}/A/{name}", "{phase}/B/{name}"),
}


def lay(root: Path, layout: str, phase: str, name: str, seed: int) -> None:
    """Write the pair number ``seed`` in one of the layouts: noise and its negative."""
    if layout == "side by side":
        save_pair(root / LAYOUTS[layout][0].format(phase=phase, name=name), seed)
        return
    for pattern, pixels in zip(LAYOUTS[layout], (noise(seed=seed), 255 - noise(seed=seed)), strict=True):
        save(root / pattern.format(phase=phase, name=name), pixels)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_found_with_its_sub_folders(tmp_path: Path, layout: str) -> None:
    for seed, name in enumerate(("1.png", "x/1.png", "y/1.png")):  # The same base name three times.
        lay(tmp_path, layout, "train", name, seed)
    lay(tmp_path, layout, "test", "2.png", 9)
    dataset = pairs(tmp_path, crop_size=16, flip=False)
    assert names(dataset) == ["1.png", "x/1.png", "y/1.png"]
    assert dataset.held_out
    assert dataset.keys == {"a", "b"}
    for seed in range(3):
        item = dataset.item(seed, 0)
        np.testing.assert_array_equal(item["a"].permute(1, 2, 0).numpy(), noise(seed=seed))
        np.testing.assert_array_equal(item["b"].permute(1, 2, 0).numpy(), 255 - noise(seed=seed))
    assert names(pairs(tmp_path, phase="test")) == ["2.png"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_val_replaces_a_missing_test_and_no_other_phase(tmp_path: Path, layout: str) -> None:
    lay(tmp_path, layout, "train", "1.png", 0)
    assert not pairs(tmp_path).held_out
    with pytest.raises(ConfigError, match="nothing for the phase test in"):
        pairs(tmp_path, phase="test")
    lay(tmp_path, layout, "val", "2.png", 1)
    assert pairs(tmp_path).held_out
    assert names(pairs(tmp_path, phase="test")) == names(pairs(tmp_path, phase="val")) == ["2.png"]
    lay(tmp_path, layout, "test", "3.png", 2)
    assert names(pairs(tmp_path, phase="test")) == ["3.png"]
    with pytest.raises(ConfigError, match="nothing for the phase eval in"):
        pairs(tmp_path, phase="eval")
    lay(tmp_path, layout, "eval", "4.png", 2)
    assert names(pairs(tmp_path, phase="eval")) == ["4.png"]


@pytest.mark.parametrize("in_folders", [False, True])
def test_a_root_without_phases_is_read_in_every_phase(tmp_path: Path, in_folders: bool) -> None:
    if in_folders:
        save(tmp_path / "A/1.png", noise())
        save(tmp_path / "B/1.jpg", noise())
    else:
        save_pair(tmp_path / "1.png")
        save_pair(tmp_path / "sub/2.png")
    for phase in ("train", "test", "val"):
        dataset = pairs(tmp_path, phase=phase)
        assert names(dataset) == (["1.png"] if in_folders else ["1.png", "sub/2.png"])
        assert not dataset.held_out


def test_images_side_by_side_are_preferred_to_two_folders(tmp_path: Path) -> None:
    lay(tmp_path, "trainA", "train", "folders.png", 0)
    (tmp_path / "train").mkdir()  # Ignored while it is empty.
    assert names(pairs(tmp_path)) == ["folders.png"]
    lay(tmp_path, "side by side", "train", "side.png", 0)
    assert names(pairs(tmp_path)) == ["side.png"]


def test_the_error_lists_the_expected_folders(tmp_path: Path) -> None:
    lay(tmp_path, "side by side", "test", "1.png", 0)
    save(tmp_path / "trainA/1.png", noise())
    save_pair(tmp_path / "stray.png")
    expected = (
        f"data.root: nothing for the phase train in {tmp_path} (looked for train (each image A left, B right); "
        "trainA + trainB; A/train + B/train; train/A + train/B)"
    )
    with pytest.raises(ConfigError) as caught:
        pairs(tmp_path)
    assert str(caught.value) == expected


@pytest.mark.parametrize(
    ("name", "hint"), [("nowhere", ""), ("facades", "; gantrain data download facades fetches it")]
)
def test_a_missing_root_is_refused_with_the_download_command(tmp_path: Path, name: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        pairs(tmp_path / name)
    assert str(caught.value) == f"data.root: there is no folder {tmp_path / name}{hint}"
