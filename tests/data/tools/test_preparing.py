"""``gantrain data prepare``: the values of what is made, resumption, and what is refused."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from skimage import feature

from gantrain.cli.main import main
from gantrain.data.images.decoding import decode
from gantrain.data.tools import preparing
from gantrain.data.tools.edges import canny
from gantrain.data.tools.making import resumable_dir
from gantrain.data.tools.preparing import load


def save(path: str | Path, pixels: Any) -> Path:
    """By the suffix: an image of 8 bits or of gray with 16, or an array."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, pixels)
    else:
        Image.fromarray(np.asarray(pixels)).save(path)
    return path


def noise(seed: int, height: int = 6, width: int = 8, channels: int = 3, dtype: type = np.uint8) -> np.ndarray:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def prepare(*words: object) -> int:
    return main(["data", "prepare", *map(str, words)])


def files(folder: str | Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file()}


def contents(folder: str | Path) -> dict[str, bytes]:
    return {name: (Path(folder) / name).read_bytes() for name in files(folder)}


def pixels(path: str) -> np.ndarray:
    return decode(Path(path), 0).pixels


def no_leftovers() -> bool:
    return not any(path.name.startswith(".") for path in Path().iterdir())


def test_alone_it_lists_the_kinds_with_their_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "prepare"]) == 0
    listed = capsys.readouterr().out
    for line in ("pairs A B OUT", "split_pairs FOLDER OUT", "edges FOLDER OUT", "resize FOLDER OUT [size=256]"):
        assert f"gantrain data prepare {line}" in listed
    assert "split FOLDER OUT [train=0.8 val=0.1 test=0.1 seed=0 links=false]" in listed
    assert "download" not in listed
    assert main(["data", "prepare", "edgs"]) == 2
    assert capsys.readouterr().err == "gantrain: no command 'data prepare edgs'; did you mean 'prepare edges'?\n"


def test_pairs_are_put_side_by_side_and_cut_apart_again_without_loss(capsys: pytest.CaptureFixture[str]) -> None:
    for seed, name in enumerate(["train/x", "train/sub/y", "test/z"]):
        save(f"a/{name}.png", noise(seed))
        save(f"b/{name}.bmp", noise(seed + 10))
    assert prepare("pairs", "a", "b", "ab") == 0
    assert capsys.readouterr().out == "ab: 3 images\n"
    assert files("ab") == {"train/x.png", "train/sub/y.png", "test/z.png"}
    np.testing.assert_array_equal(pixels("ab/train/x.png"), np.hstack([noise(0), noise(10)]))
    assert prepare("split_pairs", "ab", "back") == 0
    assert files("back") == {
        f"{name}.png" for side in "AB" for name in (f"train{side}/x", f"train{side}/sub/y", f"test{side}/z")
    }
    np.testing.assert_array_equal(pixels("back/trainA/sub/y.png"), noise(1))
    np.testing.assert_array_equal(pixels("back/testB/z.png"), noise(12))
    assert no_leftovers()


def test_halves_of_images_in_no_phase_come_to_a_and_b() -> None:
    save("ab/1.png", noise(0))
    save("ab/other/2.png", noise(1))
    assert prepare("split_pairs", "ab", "out") == 0
    assert files("out") == {"A/1.png", "B/1.png", "A/other/2.png", "B/other/2.png"}
    np.testing.assert_array_equal(pixels("out/B/1.png"), noise(0)[:, 4:])


def test_gray_joins_colour_and_8_bits_join_16() -> None:
    save("a/1.png", noise(0, channels=1))
    save("b/1.png", noise(1))
    save("a/2.png", noise(2, channels=1, dtype=np.uint16))
    save("b/2.png", noise(3))
    assert prepare("pairs", "a", "b", "ab") == 0
    gray = np.repeat(noise(0, channels=1)[..., None], 3, axis=2)
    np.testing.assert_array_equal(pixels("ab/1.png"), np.hstack([gray, noise(1)]))
    deep = np.repeat(noise(2, channels=1, dtype=np.uint16)[..., None], 3, axis=2)
    # 257 * 255 is 65535
    np.testing.assert_array_equal(pixels("ab/2.png"), np.hstack([deep, noise(3).astype(np.uint16) * 257]))


def test_images_without_partner_are_named_and_nothing_is_made(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("both", *(f"a{number:02}" for number in range(12))):
        save(f"a/{name}.png", noise(0))
    for name in ("both", "b1"):
        save(f"b/{name}.png", noise(0))
    assert prepare("pairs", "a", "b", "ab") == 2
    error = capsys.readouterr().err
    assert error == (
        "gantrain: images are matched by name without suffix, and of those in a and b 13 have no partner: "
        f"{', '.join(f'a/a{number:02}.png' for number in range(5))} and 8 more\n"
    )
    assert no_leftovers()
    assert not Path("ab").exists()


def test_pairs_of_different_sizes_and_odd_halves_are_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    save("a/1.png", noise(0))
    save("b/1.png", noise(0, width=9))
    assert prepare("pairs", "a", "b", "ab") == 2
    assert "a/1.png and b/1.png are of different sizes, [6, 8] and [6, 9] pixels" in capsys.readouterr().err
    assert prepare("split_pairs", "b", "out") == 2
    assert "b/1.png is 9 pixels wide, which can't be halved" in capsys.readouterr().err
    assert not Path("ab").exists()
    assert not Path("out").exists()


def test_channels_that_do_not_go_together_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    save("a/1.npy", noise(0, channels=5))
    save("b/1.png", noise(1))
    assert prepare("pairs", "a", "b", "ab") == 2
    assert capsys.readouterr().err == (
        "gantrain: a/1.npy and b/1.png have 5 and 3 channels, which do not go into one image\n"
    )


@pytest.mark.parametrize("kind", ["resize", "edges"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_nothing_can_be_computed_of_are_refused(
    kind: str, value: float, capsys: pytest.CaptureFixture[str]
) -> None:
    save("in/1.npy", np.full((4, 4), value, np.float32))
    assert prepare(kind, "in", "out") == 2
    assert capsys.readouterr().err == (
        "gantrain: can't read the image in/1.npy: some of its values are no numbers, or infinite\n"
    )


def test_two_images_that_would_become_one_file_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    save("in/1.png", noise(0))
    save("in/1.bmp", noise(1))
    assert prepare("resize", "in", "out") == 2
    assert "in/1.bmp and in/1.png have the same name but for the suffix" in capsys.readouterr().err


@pytest.mark.parametrize(("height", "width", "window"), [(20, 40, np.s_[:, 10:30]), (41, 20, np.s_[10:30, :])])
def test_resize_cuts_the_middle_and_scales_as_pillow_does(height: int, width: int, window: Any) -> None:
    image = noise(0, height, width)
    save("in/sub/1.png", image)
    assert prepare("resize", "in", "out", "size=10") == 0
    expected = Image.fromarray(image[window]).resize((10, 10), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(pixels("out/sub/1.png"), np.asarray(expected))


def test_resize_to_height_and_width() -> None:
    image = noise(0, 30, 30)
    save("in/1.png", image)
    assert prepare("resize", "in", "out", "size=[5,10]") == 0
    expected = Image.fromarray(image[7:22]).resize((10, 5), Image.Resampling.BICUBIC)  # 30 x 15, twice as wide as high
    np.testing.assert_array_equal(pixels("out/1.png"), np.asarray(expected))


def test_resize_keeps_the_depth_and_the_range_of_values() -> None:
    save("in/deep.png", np.full((8, 8), 40001, np.uint16))
    save("in/float.npy", np.linspace(-1000, 3000, 64, dtype=np.float32).reshape(8, 8))
    save("in/chw.npy", noise(0, 3, 8, 12, np.uint16))
    assert prepare("resize", "in", "out", "size=4") == 0
    assert files("out") == {"deep.png", "float.npy", "chw.png"}
    np.testing.assert_array_equal(pixels("out/deep.png"), np.full((4, 4, 1), 40001, np.uint16))
    scaled = np.load("out/float.npy")
    assert scaled.dtype == np.float32
    assert scaled.min() >= -1000
    assert scaled.max() <= 3000
    # the mean of a ramp stays, and its ends come near
    np.testing.assert_allclose([scaled.mean(), scaled[0, 0], scaled[-1, -1]], [1000, -700, 2700], atol=120)
    assert pixels("out/chw.png").shape == (4, 4, 3)
    assert pixels("out/chw.png").dtype == np.uint16


def test_transparency_is_laid_on_white() -> None:
    clear = np.zeros((4, 4, 4), np.uint8)
    clear[:2, :, 3] = 255
    save("in/1.png", clear)
    assert prepare("resize", "in", "out", "size=4") == 0
    np.testing.assert_array_equal(pixels("out/1.png")[:, 0, 0], [0, 0, 255, 255])


def blobs(seed: int) -> np.ndarray:
    """A few dark and bright discs (H, W) in [0, 1]."""
    rows, columns = np.indices((96, 128))
    image = np.full((96, 128), 0.5)
    generator = np.random.default_rng(seed)
    for value in (0.1, 0.9, 0.2, 0.75):
        y, x, radius = generator.uniform(20, 76), generator.uniform(20, 108), generator.uniform(8, 18)
        image[(rows - y) ** 2 + (columns - x) ** 2 < radius**2] = value
    return image


@pytest.mark.parametrize("seed", range(4))
def test_edges_are_those_of_another_implementation_of_canny(seed: int) -> None:
    image = blobs(seed)
    ours = canny(image, sigma=2.0, low=0.1, high=0.2)
    theirs = feature.canny(image, sigma=2.0, low_threshold=0.1, high_threshold=0.2, mode="nearest")
    assert theirs.sum() > 150

    def near(edges: np.ndarray) -> np.ndarray:
        padded = np.pad(edges, 1)
        return np.any([padded[y : y + 96, x : x + 128] for y in range(3) for x in range(3)], axis=0)

    # theirs interpolates between neighbours, and so may choose the pixel beside, or end elsewhere where edges meet
    assert (ours & ~near(theirs)).sum() <= 0.05 * ours.sum()
    assert (theirs & ~near(ours)).sum() <= 0.05 * theirs.sum()
    assert 0.9 < ours.sum() / theirs.sum() < 1.1


def test_weak_edges_stay_only_where_they_hang_together_with_strong_ones() -> None:
    image = np.zeros((40, 40))
    image[:, 20:] = np.linspace(0.02, 0.4, 40)[:, None]  # a step that fades away upwards
    image[5:10, 3:8] = 0.05  # as weak as the middle of that step
    whole = canny(image, sigma=1.0, low=0.05, high=0.5)
    assert whole[30, 18:22].any()
    assert whole[10, 18:22].any()
    assert not whole[:12, :12].any()
    assert not canny(image, sigma=1.0, low=0.5, high=0.5)[10].any()
    assert canny(image, sigma=1.0, low=0.05, high=0.05)[:12, :12].any()


def test_a_step_between_black_and_white_gives_one_line() -> None:
    image = np.zeros((12, 12))
    image[:, 6:] = 1
    # at sigma 0.1 nothing is blurred: Sobel's sum is 4 on both sides of the step, of which the first is kept
    expected = np.zeros((12, 12), bool)
    expected[:, 5] = True
    np.testing.assert_array_equal(canny(image, sigma=0.1, low=4.0, high=4.0), expected)
    assert not canny(image, sigma=0.1, low=4.1, high=4.1).any()


def test_edges_of_files_are_black_on_white_or_the_other_way_round(capsys: pytest.CaptureFixture[str]) -> None:
    save("in/1.png", (blobs(0) * 255).astype(np.uint8))
    assert prepare("edges", "in", "out") == 0
    assert prepare("edges", "in", "inverted", "invert=true") == 0
    drawn, inverted = pixels("out/1.png"), pixels("inverted/1.png")
    assert drawn.shape == (96, 128, 1)
    assert set(np.unique(drawn)) == {0, 255}
    assert drawn.mean() > 200
    np.testing.assert_array_equal(drawn, 255 - inverted)
    assert prepare("edges", "in", "none", "low=0.3") == 2
    assert capsys.readouterr().err == "gantrain: low (0.3) must not exceed high (0.2)\n"
    assert prepare("edges", "in", "none", "sigma=1e9") == 2
    assert "sigma: expected a number above 0 and at most 100" in capsys.readouterr().err


def phases_of(folder: str) -> dict[str, set[str]]:
    return {top.name: files(top) for top in Path(folder).iterdir()}


def test_split_divides_by_seed_into_copies_of_which_none_is_in_two(capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(30):
        save(f"in/{number}.png", noise(number))
    for out, seed in (("one", 0), ("same", 0), ("other", 1)):
        assert prepare("split", "in", out, "train=0.7", "val=0.1", "test=0.2", f"seed={seed}") == 0
    split = phases_of("one")
    assert {phase: len(names) for phase, names in split.items()} == {"train": 21, "val": 3, "test": 6}
    assert set.union(*split.values()) == files("in")
    assert phases_of("same") == split
    assert phases_of("other") != split
    assert all((Path("one/val") / name).read_bytes() == (Path("in") / name).read_bytes() for name in split["val"])
    assert not any(path.is_symlink() for path in Path("one").rglob("*"))


def test_another_file_leaves_most_of_a_split_as_it_was() -> None:
    for number in range(30):
        save(f"in/{number}.png", noise(number))
    assert prepare("split", "in", "before") == 0
    save("in/30.png", noise(30))
    assert prepare("split", "in", "after") == 0
    before, after = phases_of("before"), phases_of("after")
    assert len(before["test"] & after["test"]) >= len(before["test"]) - 1


def test_hidden_files_are_not_divided() -> None:
    for number, name in enumerate(("1", "2", "3", "4", "._1", ".hidden/5")):
        save(f"in/{name}.png", noise(number))
    assert prepare("split", "in", "out", "train=0.5", "val=0", "test=0.5") == 0
    assert sorted(path.stem for path in Path("out").rglob("*.png")) == ["1", "2", "3", "4"]


def test_every_class_is_divided_in_the_same_proportions() -> None:
    for name, count in (("cat", 20), ("dog", 10)):
        for number in range(count):
            save(f"in/{name}/{number}.png", noise(100 * count + number))
    assert prepare("split", "in", "out") == 0
    counts = Counter((name.split("/")[0], name.split("/")[1]) for name in files("out"))
    assert counts == {
        **{("train", "cat"): 16, ("val", "cat"): 2, ("test", "cat"): 2},
        **{("train", "dog"): 8, ("val", "dog"): 1, ("test", "dog"): 1},
    }


@pytest.mark.parametrize("folders", ["A B", "a b", "trainA trainB", "train/A train/B"])
def test_pairs_in_two_folders_stay_together(folders: str) -> None:
    a, b = folders.split()
    for number in range(10):
        save(f"in/{a}/{number}.png", noise(number))
        save(f"in/{b}/{number}.bmp", noise(100 + number))
    assert prepare("split", "in", "out") == 0
    split = phases_of("out")
    assert {phase: len(names) for phase, names in split.items()} == {
        **{"trainA": 8, "trainB": 8, "valA": 1, "valB": 1, "testA": 1, "testB": 1}
    }
    for phase in ("train", "val", "test"):
        assert {name.split(".")[0] for name in split[f"{phase}A"]} == {
            name.split(".")[0] for name in split[f"{phase}B"]
        }


def test_two_domains_without_pairs_are_divided_each_for_itself() -> None:
    for number in range(10):
        save(f"in/A/{number}.png", noise(number))
    for number in range(20):
        save(f"in/B/photo_{number}.png", noise(100 + number))
    assert prepare("split", "in", "out") == 0
    counts = {phase: len(names) for phase, names in phases_of("out").items()}
    assert counts == {"trainA": 8, "trainB": 16, "valA": 1, "valB": 2, "testA": 1, "testB": 2}


def test_folders_named_a_and_b_beside_others_are_classes() -> None:
    for name in "ABC":
        for number in range(10):
            save(f"in/{name}/{number}.png", noise(ord(name) * 100 + number))
    assert prepare("split", "in", "out") == 0
    assert set(phases_of("out")) == {"train", "val", "test"}
    assert "C" in {name.split("/")[0] for name in phases_of("out")["test"]}


def test_files_of_equal_content_never_come_to_two_sides() -> None:
    for number in range(10):
        for copy in range(3):
            save(f"in/{number}_{copy}.png", noise(number))
    for seed in range(5):
        out = f"out{seed}"
        assert prepare("split", "in", out, "train=0.5", "val=0", "test=0.5", f"seed={seed}") == 0
        train, test = ({name.split("_")[0] for name in names} for names in phases_of(out).values())
        assert train
        assert test
        assert not train & test


def test_pairs_that_share_one_image_are_not_the_same() -> None:
    for number in range(10):
        save(f"in/A/{number}.png", noise(number))
        save(f"in/B/{number}.png", np.zeros((6, 8), np.uint8))  # nine masks of nothing
        for copy in (f"in/A/{number}_again.png", f"in/B/{number}_again.png"):
            save(copy, np.asarray(Image.open(copy.replace("_again", ""))))
    assert prepare("split", "in", "out") == 0
    split = phases_of("out")
    assert {phase: len(names) for phase, names in split.items()} == {
        **{"trainA": 16, "trainB": 16, "valA": 2, "valB": 2, "testA": 2, "testB": 2}
    }
    for names in split.values():  # but those of which both are equal
        assert {name.replace("_again", "") for name in names} == {name for name in names if "_again" not in name}


def test_where_copies_leave_nothing_they_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(6):
        save(f"in/{number}.png", noise(1))
    assert prepare("split", "in", "other", "train=0.5", "val=0", "test=0.5") == 2
    named = ", ".join(f"in/{number}.png" for number in range(5))
    complaint = f"test=0.5: nothing is left for it of 6 in in; 6 are equal and stay together: {named} and 1 more"
    assert capsys.readouterr().err == f"gantrain: {complaint}\n"


def test_links_point_to_the_images() -> None:
    for number in range(10):
        save(f"in/{number}.png", noise(number))
    assert prepare("split", "in", "out", "links=true") == 0
    links = [path for path in Path("out").rglob("*.png") if path.is_symlink()]
    assert len(links) == 10
    assert {link.resolve() for link in links} == {path.resolve() for path in Path("in").iterdir()}


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["train=0.5"], "train=0.5 val=0.1 test=0.1: the three must make 1 together"),
        (["train=1.5"], "train: expected a number at least 0 and at most 1, got 1.5"),
        (["train=0.98", "val=0.01", "test=0.01"], "val=0.01: nothing is left for it of 3 in in"),
        (["sed=1"], "sed=1: unknown key; did you mean 'seed'?"),
    ],
)
def test_splits_that_cannot_be_are_refused(
    words: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(3):
        save(f"in/{number}.png", noise(number))
    assert prepare("split", "in", "out", *words) == 2
    assert capsys.readouterr().err == f"gantrain: {complaint}\n"
    assert not Path("out").exists()
    assert no_leftovers()


def test_what_is_divided_already_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for phase in ("trainA", "trainB", "testA", "testB"):
        save(f"in/{phase}/1.png", noise(0))
    assert prepare("split", "in", "out") == 2
    assert "in is divided already, into train and test" in capsys.readouterr().err


def test_no_image_is_left_out_of_a_split(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("trainA/1", "trainB/2", "stray"):
        save(f"in/{name}.png", noise(0))
    assert prepare("split", "in", "out") == 2
    assert "in/stray.png lies in none of in/trainA, in/trainB" in capsys.readouterr().err


class Stopped(BaseException):
    pass


def test_an_interrupted_command_goes_on_where_it_was_and_leaves_no_folder_before(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(60):
        save(f"in/{number:02}.png", noise(number))
    assert prepare("resize", "in", "expected", "size=4") == 0
    monkeypatch.setattr("gantrain.runtime.parallel.MAX_THREADS", 1)
    written: list[str] = []

    def write(path: Path, image: np.ndarray) -> Path:
        written.append(path.name)
        if len(written) == 25:
            path.write_bytes(b"half a pict")
            raise KeyboardInterrupt
        return real(path, image)

    real = preparing.write_pixels
    monkeypatch.setattr(preparing, "write_pixels", write)
    assert prepare("resize", "in", "out", "size=4") == 130
    assert "the same command goes on with what it has made" in capsys.readouterr().err
    assert not Path("out").exists()
    assert prepare("resize", "in", "out", "size=4") == 0
    assert len(written) == 60 + 1  # the one that was cut off was begun anew
    assert contents("out") == contents("expected")
    assert no_leftovers()


def interrupted(monkeypatch: pytest.MonkeyPatch, *words: object) -> None:
    """Run a command that stops when everything has been made but not put in its place."""
    with monkeypatch.context() as patch:
        replace = Path.replace

        def stop(self: Path, target: Any) -> Path:
            if self.name == "whole":
                raise KeyboardInterrupt
            return replace(self, target)

        patch.setattr(Path, "replace", stop)
        assert prepare(*words) == 130


def test_what_is_older_than_its_source_or_has_lost_it_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        save(f"in/{number}.png", noise(number))
    interrupted(monkeypatch, "resize", "in", "out", "size=4")
    Path("in/0.png").unlink()
    changed = save("in/1.png", noise(50))
    later = changed.stat().st_mtime + 10
    os.utime(changed, (later, later))
    assert prepare("resize", "in", "out", "size=4") == 0
    assert prepare("resize", "in", "expected", "size=4") == 0
    assert contents("out") == contents("expected")
    assert files("out") == {"1.png", "2.png"}


def test_another_command_does_not_go_on_with_what_one_has_begun(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save("in/0.png", noise(0))
    interrupted(monkeypatch, "resize", "in", "out", "size=4")
    capsys.readouterr()
    for other in (["resize", "in", "out", "size=5"], ["edges", "in", "out"]):
        assert prepare(*other) == 2
        error = capsys.readouterr().err
        assert error == (
            "gantrain: .out-unfinished holds what another command has begun: finish that one, or remove the folder\n"
        )
    assert prepare("resize", "in", "out", "size=4") == 0


def test_only_one_process_at_a_time_makes_a_folder(capsys: pytest.CaptureFixture[str]) -> None:
    save("in/0.png", noise(0))
    with resumable_dir(Path("out"), [Path("in")], "something else"):
        made = Path(".out-unfinished/whole/0.png")
        save(made, noise(1))
        assert prepare("resize", "in", "out", "size=4") == 2
        assert capsys.readouterr().err == (
            "gantrain: another process is making out: wait for it, or give another folder\n"
        )
        assert made.is_file()
    assert files("out") == {"0.png"}
    assert no_leftovers()


def test_a_killed_command_goes_on() -> None:
    for number in range(200):
        save(f"in/{number:03}.png", noise(number, 64, 64))
    assert prepare("resize", "in", "expected", "size=32") == 0
    words = ["data", "prepare", "resize", "in", "out", "size=32"]
    process = subprocess.Popen([sys.executable, "-m", "gantrain", *words])
    while process.poll() is None and not any(Path(".out-unfinished").glob("whole/1*.png")):
        time.sleep(0.001)
    process.kill()
    process.wait()
    if not Path("out").exists():
        assert main(words) == 0
    assert contents("out") == contents("expected")
    assert no_leftovers()


def test_a_folder_of_that_name_that_is_not_ours_stays_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    save("in/0.png", noise(0))
    save(".out-unfinished/mine.png", noise(1))
    assert prepare("resize", "in", "out", "size=4") == 2
    assert ".out-unfinished holds what another command has begun" in capsys.readouterr().err
    assert (files(".out-unfinished") - {"made_by"}) == {"mine.png"}


def test_a_name_that_ends_like_what_is_made_is_not_taken_for_it() -> None:
    for name in ("a.jpg", "a.png.jpg", "a.npy.bmp"):
        save(f"in/{name}", noise(len(name)))
    assert prepare("resize", "in", "out", "size=4") == 0
    assert files("out") == {"a.png", "a.png.png", "a.npy.png"}


def test_a_link_is_not_made_a_folder(capsys: pytest.CaptureFixture[str]) -> None:
    save("in/0.png", noise(0))
    Path("empty").mkdir()
    for name, goal in (("link", "empty"), ("dangling", "nowhere")):
        Path(name).symlink_to(goal)
        assert prepare("resize", "in", name, "size=4") == 2
        assert capsys.readouterr().err == (
            f"gantrain: {name} is there already: give another folder, or remove it first\n"
        )
    assert no_leftovers()


def test_a_folder_that_holds_something_is_never_written_to(capsys: pytest.CaptureFixture[str]) -> None:
    save("in/0.png", noise(0))
    save("out/mine.png", noise(1))
    Path("empty").mkdir()
    Path("file").write_text("mine")
    for words in (["resize", "in"], ["edges", "in"], ["split", "in"], ["split_pairs", "in"], ["pairs", "in", "in"]):
        for out in ("out", "file"):
            assert prepare(*words, out) == 2
            assert f"{out} is there already: give another folder, or remove it first" in capsys.readouterr().err
    assert files("out") == {"mine.png"}
    assert prepare("resize", "in", "empty", "size=4") == 0
    assert files("empty") == {"0.png"}
    assert no_leftovers()


def test_nothing_is_written_among_what_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    save("in/0.png", noise(0))
    assert prepare("resize", "in", "in/small") == 2
    assert "in/small lies in in, which is read" in capsys.readouterr().err
    assert files("in") == {"0.png"}


def test_inputs_stay_as_they_are() -> None:
    for number in range(10):
        save(f"in/{number}.png", noise(number))
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in Path("in").iterdir()}
    for number, words in enumerate(
        [["resize", "in"], ["edges", "in"], ["split", "in"], ["split_pairs", "in"], ["pairs", "in", "in"]]
    ):
        assert prepare(*words, f"out{number}") == 0
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in Path("in").iterdir()} == before


def test_unreadable_images_and_missing_folders_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    Path("in").mkdir()
    assert prepare("resize", "in", "out") == 2
    assert prepare("resize", "nowhere", "out") == 2
    Path("in/broken.png").write_bytes(b"no image")
    assert prepare("resize", "in", "out") == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert "no image in in (looked for" in lines[0]
    assert lines[1] == "gantrain: there is no folder nowhere"
    assert lines[2].startswith("gantrain: can't read the image in/broken.png: ")
    assert not Path("out").exists()


def test_images_are_loaded_in_their_own_depth_and_colours(tmp_path: Path) -> None:
    for name, image in (
        ("gray.png", noise(0, channels=1)),
        ("colour.png", noise(1)),
        ("deep.png", noise(2, channels=1, dtype=np.uint16)),
        ("stack.npy", noise(3, channels=5)),
        ("gray.npy", noise(4, channels=1).astype(np.float64)),
    ):
        loaded = load(save(tmp_path / name, image))
        assert loaded.dtype == image.dtype
        np.testing.assert_array_equal(loaded, image if image.ndim == 3 else image[..., None])
