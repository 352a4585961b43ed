"""A folder of one's own images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from gantrain.data.sets.single import SingleFolder
from gantrain.errors import ConfigError
from gantrain.registry import DATASETS

SIDE = "a whole number at least 1 and at most 65,536"
SIZE = rf"expected {SIDE} or a list of 2 \({SIDE} each\)"
FORMATS = ["png", "jpg", "jpeg", "bmp", "webp", "tif", "tiff", "PNG", "JPG", "Jpeg", "TIFF"]


def paint(path: Path, colour: Any = (10, 120, 240), size: tuple[int, int] = (24, 16), mode: str = "RGB") -> Path:
    """An image of one colour, of (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)
    return path


def save(path: Path, pixels: Tensor, **options: Any) -> None:
    """An image of these pixels, (H, W) or (H, W, C)."""
    Image.fromarray(pixels.numpy()).save(path, **options)


def noise(height: int, width: int, seed: int = 0) -> Tensor:
    """(H, W, 3) of random pixels, each place telling itself from every other."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (height, width, 3), dtype=torch.uint8, generator=generator)


def folder(root: Path, *, phase: str = "train", **keys: Any) -> SingleFolder:
    defaults = {
        "channels": 3,
        "load_size": 16,
        "crop_size": 16,
        "crop": "center",
        "flip": False,
        "preprocess": None,
        "range": None,
        "depth": "auto",
        "decoder": "exact",
        "list": None,
    }
    return DATASETS.build({"mode": "single", "root": str(root), **defaults, **keys}, phase=phase)


def image(dataset: SingleFolder, index: int = 0, seed: int = 0) -> Tensor:
    return dataset.item(index, seed)["image"]


def colour(pixels: Tensor) -> list[int]:
    """Of the middle of (C, H, W)."""
    return pixels[:, pixels.size(1) // 2, pixels.size(2) // 2].tolist()


# ---- what is found


def test_images_are_found_at_any_depth_in_the_order_of_their_paths(tmp_path: Path) -> None:
    for name in ("b.png", "a/z.png", "a/deep/er/x.png", "c.png"):
        paint(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "folder.png").mkdir()
    found = folder(tmp_path)
    assert [found.item(index, 0)["name"] for index in range(len(found))] == sorted(
        ["b.png", "a/z.png", "a/deep/er/x.png", "c.png"]
    )
    assert found.labels is None
    assert found.keys == {"image"}
    assert "label" not in found.item(0, 0)


@pytest.mark.parametrize("extension", FORMATS)
def test_every_format_is_read_whatever_the_case_of_its_extension(tmp_path: Path, extension: str) -> None:
    paint(tmp_path / f"image.{extension}")
    found = folder(tmp_path)
    assert len(found) == 1
    pixels = image(found)
    assert pixels.shape == (3, 16, 16)
    assert pixels.dtype == torch.uint8
    assert colour(pixels) == pytest.approx([10, 120, 240], abs=4)  # JPEG and WebP lose a little


def test_sub_folders_that_hold_every_image_are_the_classes(tmp_path: Path) -> None:
    for name in ("dog/1.png", "cat/2.png", "cat/kittens/3.png", "dog/0.png"):
        paint(tmp_path / name)
    found = folder(tmp_path)
    items = [found.item(index, 0) for index in range(4)]
    assert found.spec.class_names == ("cat", "dog")
    assert [(item["name"], item["label"]) for item in items] == [
        ("cat/2.png", 0),
        ("cat/kittens/3.png", 0),
        ("dog/0.png", 1),
        ("dog/1.png", 1),
    ]
    assert found.labels == [0, 0, 1, 1]
    assert found.keys == {"image", "label"}


@pytest.mark.parametrize("names", [("cat/1.png", "dog/2.png", "3.png"), ("cat/1.png", "cat/2.png")])
def test_one_sub_folder_or_a_image_outside_makes_no_classes(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        paint(tmp_path / name)
    assert folder(tmp_path).labels is None
    assert folder(tmp_path).spec.num_classes == 0


def test_folders_named_train_and_test_are_the_phases(tmp_path: Path) -> None:
    for name in ("train/cat/1.png", "train/dog/2.png", "test/cat/3.png", "test/dog/4.png", "test/dog/5.png"):
        paint(tmp_path / name)
    train, test = folder(tmp_path), folder(tmp_path, phase="test")
    assert [train.item(index, 0)["name"] for index in range(len(train))] == ["cat/1.png", "dog/2.png"]
    assert [test.item(index, 0)["name"] for index in range(len(test))] == ["cat/3.png", "dog/4.png", "dog/5.png"]
    assert train.held_out
    assert test.held_out
    assert train.spec.class_names == test.spec.class_names == ("cat", "dog")


def test_a_hidden_folder_is_no_class(tmp_path: Path) -> None:
    for name in ("cat/1.png", "dog/2.png", "dog/._2.png", ".ipynb_checkpoints/1.png"):
        paint(tmp_path / name)
    assert folder(tmp_path).spec.class_names == ("cat", "dog")
    assert len(folder(tmp_path)) == 2


def test_the_folder_val_stands_in_for_one_named_test(tmp_path: Path) -> None:
    for name in ("train/cat/1.png", "train/dog/2.png", "val/cat/3.png"):
        paint(tmp_path / name)
    train, test = folder(tmp_path), folder(tmp_path, phase="test")
    assert [train.item(index, 0)["name"] for index in range(len(train))] == ["cat/1.png", "dog/2.png"]
    assert [test.item(index, 0)["name"] for index in range(len(test))] == ["cat/3.png"]
    assert train.held_out
    assert train.spec.class_names == test.spec.class_names == ("cat", "dog")
    paint(tmp_path / "test/dog/4.png")
    assert folder(tmp_path, phase="test").item(0, 0)["name"] == "dog/4.png"


@pytest.mark.parametrize("names", [("train/1.png", "other/2.png"), ("test/1.png", "other/2.png"), ("1.png", "2.png")])
def test_without_both_folders_both_phases_read_the_same_images(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        paint(tmp_path / name)
    for phase in ("train", "test"):
        found = folder(tmp_path, phase=phase)
        assert {found.item(index, 0)["name"] for index in range(len(found))} == set(names)
        assert not found.held_out


def test_the_classes_are_those_of_the_training_images_in_both_phases(tmp_path: Path) -> None:
    for name in ("train/ant/1.png", "train/cat/2.png", "train/dog/3.png", "test/dog/4.png"):
        paint(tmp_path / name)
    test = folder(tmp_path, phase="test")
    assert folder(tmp_path).spec == test.spec
    assert test.spec.class_names == ("ant", "cat", "dog")
    assert test.labels == [2]


@pytest.mark.parametrize("stray", ["bird/4.png", "4.png"])
def test_a_test_image_of_an_unknown_class_is_refused_by_name(tmp_path: Path, stray: str) -> None:
    for name in ("train/cat/1.png", "train/dog/2.png", "test/cat/3.png", f"test/{stray}"):
        paint(tmp_path / name)
    with pytest.raises(
        ConfigError, match=rf"^data\.root: {tmp_path}/test/{stray} is in none of the classes .*cat.*dog"
    ):
        folder(tmp_path, phase="test")


def test_classes_of_test_images_alone_are_none(tmp_path: Path) -> None:
    for name in ("train/1.png", "test/cat/2.png", "test/dog/3.png"):
        paint(tmp_path / name)
    assert folder(tmp_path, phase="test").labels is None


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"^data\.root: there is no folder {tmp_path}/nowhere$"):
        folder(tmp_path / "nowhere")


def test_a_folder_without_images_is_named_with_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(ConfigError, match=rf"^data\.root: no image in {tmp_path} \(looked for .*\.png.*\.webp\)$"):
        folder(tmp_path)


@pytest.mark.parametrize("content", [b"this is no image", b"", "half"])
def test_a_broken_image_is_named(tmp_path: Path, content: bytes | str) -> None:
    path = tmp_path / "broken.png"
    if content == "half":
        save(path, noise(32, 32))
        content = path.read_bytes()[: path.stat().st_size // 2]
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=rf"^can't read the image {path}: .+"):
        image(folder(tmp_path))


# ---- what is made of them


def test_gray_and_colour_images_become_what_is_asked_for(tmp_path: Path) -> None:
    paint(tmp_path / "colour.png", (10, 120, 240))
    paint(tmp_path / "gray.png", 77, mode="L")
    paint(tmp_path / "palette.png", 3, mode="P")
    in_colour, in_gray = folder(tmp_path), folder(tmp_path, channels=1)
    # ITU-R 601: 0.299 * 10 + 0.587 * 120 + 0.114 * 240 = 100.79
    assert colour(image(in_gray, 0)) == pytest.approx([101], abs=1)
    assert colour(image(in_colour, 0)) == [10, 120, 240]
    assert colour(image(in_gray, 1)) == [77]
    assert colour(image(in_colour, 1)) == [77, 77, 77]
    assert image(in_colour, 2).shape == (3, 16, 16)
    assert in_gray.spec.shape("image") == (1, 16, 16)
    assert in_colour.spec.shape("image") == (3, 16, 16)


@pytest.mark.parametrize("extension", ["png", "tif"])
def test_16_bit_gray_asked_for_in_8_bits_is_scaled_not_clipped(tmp_path: Path, extension: str) -> None:
    values = torch.tensor([0, 257, 257 * 100, 257 * 100 + 100, 257 * 254, 65535], dtype=torch.int32)
    pixels = values.to(torch.uint16).repeat_interleave(4)[None].expand(16, -1)
    Image.fromarray(np.ascontiguousarray(pixels.numpy())).save(tmp_path / f"deep.{extension}")
    row = image(folder(tmp_path, channels=1, depth="uint8"))[0, 8]
    assert set(row.tolist()) <= {0, 1, 100, 254, 255}
    assert row[8] == 100


def test_transparency_is_laid_on_white(tmp_path: Path) -> None:
    paint(tmp_path / "a_clear.png", (0, 0, 0, 0), mode="RGBA")
    paint(tmp_path / "b_half.png", (0, 0, 200, 128), mode="RGBA")
    paint(tmp_path / "c_solid.png", (10, 20, 30, 255), mode="RGBA")
    paint(tmp_path / "d_gray.png", (0, 0), mode="LA")
    found = folder(tmp_path)
    assert colour(image(found, 0)) == [255, 255, 255]
    # alpha 128 / 255: 0.498 of white beside 0.502 of the colour
    assert colour(image(found, 1)) == pytest.approx([127, 127, 227], abs=1)
    assert colour(image(found, 2)) == [10, 20, 30]
    assert colour(image(found, 3)) == [255, 255, 255]


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, lambda pixels: pixels),
        (3, lambda pixels: pixels.flip(0, 1)),
        (6, lambda pixels: pixels.rot90(-1, (0, 1))),
        (8, lambda pixels: pixels.rot90(1, (0, 1))),
    ],
)
def test_images_are_turned_upright(tmp_path: Path, orientation: int, upright: Callable[[Tensor], Tensor]) -> None:
    stored = noise(16, 16)
    exif = Image.Exif()
    exif[0x0112] = orientation
    save(tmp_path / "turned.png", stored, exif=exif)
    assert torch.equal(image(folder(tmp_path)), upright(stored).permute(2, 0, 1))


@pytest.mark.parametrize("size", [(24, 16), (16, 24), (50, 31), (7, 9), (16, 16), (300, 20)])
def test_the_shorter_side_becomes_load_size_and_the_square_is_cut_from_the_middle(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    width, height = size
    original = Image.fromarray(noise(height, width).numpy())
    original.save(tmp_path / "image.png")
    for load, crop in ((16, 16), (20, 12)):
        scale = load / min(size)
        scaled = original.resize((round(width * scale), round(height * scale)), Image.Resampling.BICUBIC)
        left, top = (scaled.width - crop) // 2, (scaled.height - crop) // 2
        expected = torch.from_numpy(np.array(scaled)).permute(2, 0, 1)[:, top : top + crop, left : left + crop]
        assert torch.equal(image(folder(tmp_path, load_size=load, crop_size=crop)), expected)


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"crop_size": 17}, r"data\.crop_size \(17\) must not exceed data\.load_size \(16\)"),
        ({"crop_size": [8, 17]}, r"data\.crop_size \(\[8, 17\]\) must not exceed data\.load_size \(16\)"),
        ({"crop_size": 0}, rf"data\.crop_size: {SIZE}, got 0"),
        ({"load_size": 0}, rf"data\.load_size: {SIZE}, got 0"),
        ({"load_size": [16]}, rf"data\.load_size: {SIZE}, got \[16\]"),
        ({"channels": 0}, r"data\.channels: expected a whole number at least 1, got 0"),
    ],
)
def test_a_size_that_does_not_fit_is_refused(tmp_path: Path, keys: dict[str, Any], text: str) -> None:
    paint(tmp_path / "1.png")
    with pytest.raises(ConfigError, match=f"^{text}$"):
        folder(tmp_path, **keys)


# ---- what is random


def place_of(crop: Tensor, whole: Tensor) -> tuple[int, int]:
    """Row and column at which ``crop`` stands in ``whole``, the only place."""
    size = crop.size(-1)
    windows = whole.unfold(1, size, 1).unfold(2, size, 1)  # (C, rows, columns, size, size)
    same = (windows == crop[:, None, None]).all(dim=4).all(dim=3).all(dim=0)
    ((row, column),) = same.nonzero().tolist()
    return row, column


def test_a_random_crop_depends_on_the_seed_alone_and_reaches_every_place(tmp_path: Path) -> None:
    save(tmp_path / "image.png", noise(8, 10))
    whole = noise(8, 10).permute(2, 0, 1)
    found = folder(tmp_path, load_size=8, crop_size=6, crop="random")
    first = [image(found, seed=seed) for seed in range(200)]
    torch.rand(3)
    again = [image(folder(tmp_path, load_size=8, crop_size=6, crop="random"), seed=seed) for seed in range(200)]
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    places = {place_of(crop, whole) for crop in first}
    assert places == {(row, column) for row in range(3) for column in range(5)}


def test_about_half_of_the_images_are_mirrored_by_the_seed_alone(tmp_path: Path) -> None:
    save(tmp_path / "image.png", noise(8, 8))
    plain = noise(8, 8).permute(2, 0, 1)
    found = folder(tmp_path, load_size=8, crop_size=8, flip=True)
    mirrored = []
    for seed in range(1000):
        pixels = image(found, seed=seed)
        mirrored.append(torch.equal(pixels, plain.flip(-1)))
        assert mirrored[-1] or torch.equal(pixels, plain)
    # standard error of a share of 1000: 0.016
    assert sum(mirrored) / 1000 == pytest.approx(0.5, abs=0.08)
    assert torch.equal(image(found, seed=5), image(found, seed=5))


def test_whether_a_image_is_mirrored_says_nothing_of_its_crop(tmp_path: Path) -> None:
    save(tmp_path / "image.png", noise(8, 8))
    whole = noise(8, 8).permute(2, 0, 1)
    cropped = folder(tmp_path, load_size=8, crop_size=7, crop="random")
    both = folder(tmp_path, load_size=8, crop_size=7, crop="random", flip=True)
    outcomes = set()
    for seed in range(60):
        place = place_of(image(cropped, seed=seed), whole)
        outcomes.add((place, torch.equal(image(both, seed=seed), image(cropped, seed=seed))))
    assert len(outcomes) == 8


def test_nothing_is_taken_from_torchs_own_numbers(tmp_path: Path) -> None:
    save(tmp_path / "image.png", noise(8, 8))
    before = torch.get_rng_state()
    image(folder(tmp_path, load_size=8, crop_size=6, crop="random", flip=True), seed=4)
    assert torch.equal(torch.get_rng_state(), before)


def test_in_testing_the_middle_is_cut_and_nothing_is_mirrored(tmp_path: Path) -> None:
    save(tmp_path / "image.png", noise(8, 10))
    found = folder(tmp_path, phase="test", load_size=8, crop_size=6, crop="random", flip=True)
    expected = noise(8, 10).permute(2, 0, 1)[:, 1:7, 2:8]
    assert all(torch.equal(image(found, seed=seed), expected) for seed in range(20))


# ---- one image, and patterns


def found_names(dataset: SingleFolder) -> list[str]:
    return [dataset.item(index, 0)["name"] for index in range(len(dataset))]


def test_the_root_may_be_one_image(tmp_path: Path) -> None:
    for name in ("1.png", "2.png"):
        paint(tmp_path / name)
    for phase in ("train", "test"):
        dataset = folder(tmp_path / "2.png", phase=phase)
        assert found_names(dataset) == ["2.png"]
        assert not dataset.held_out
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(ConfigError, match=rf"^can't read the image {tmp_path}/notes\.txt: "):
        folder(tmp_path / "notes.txt")


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.jpg", ["1.jpg"]),
        ("?.*", ["1.jpg", "2.png"]),
        ("**/*.jpg", ["1.jpg", "deep/3.jpg", "deep/er/4.jpg"]),
        ("deep/**/*.jpg", ["3.jpg", "er/4.jpg"]),
        ("deep/[3-9].jpg", ["3.jpg"]),
        ("*/*", ["deep/3.jpg"]),
    ],
)
def test_the_root_may_be_a_pattern(tmp_path: Path, pattern: str, expected: list[str]) -> None:
    for name in ("1.jpg", "2.png", "deep/3.jpg", "deep/er/4.jpg"):
        paint(tmp_path / name)
    (tmp_path / "5.txt").write_text("no image")
    dataset = folder(tmp_path / pattern)
    assert found_names(dataset) == expected
    assert not dataset.held_out


def test_a_pattern_that_matches_nothing_is_named(tmp_path: Path) -> None:
    (tmp_path / "1.txt").write_text("no image")
    with pytest.raises(ConfigError, match=rf"^data\.root: no image matches {tmp_path}/\*$"):
        folder(tmp_path / "*")


def test_a_folder_whose_name_looks_like_a_pattern_is_a_folder(tmp_path: Path) -> None:
    paint(tmp_path / "[1]/2.png")
    assert found_names(folder(tmp_path / "[1]")) == ["2.png"]


def test_a_missing_folder_that_is_handed_out_is_named_with_the_way_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no folder .*/ae_photos; gantrain data download ae_photos fetches it$"):
        folder(tmp_path / "ae_photos")


def test_another_phase_reads_its_own_folder_too(tmp_path: Path) -> None:
    for phase in ("train", "test", "val"):
        paint(tmp_path / phase / f"{phase}.png")
    assert found_names(folder(tmp_path, phase="val")) == ["val.png"]


# ---- preprocessing, depth and channels


def test_a_named_way_of_preprocessing_takes_the_place_of_the_usual_one(tmp_path: Path) -> None:
    save(tmp_path / "1.png", noise(20, 30))
    original = Image.open(tmp_path / "1.png")
    keys = {"preprocess": "resize_and_crop", "load_size": [12, 16], "crop_size": [10, 14]}
    assert folder(tmp_path, **keys).spec.shape("image") == (3, 10, 14)
    whole = torch.from_numpy(np.array(original.resize((16, 12), Image.Resampling.BICUBIC))).permute(2, 0, 1)
    assert torch.equal(image(folder(tmp_path, **keys)), whole[:, 1:11, 1:15])
    small = torch.from_numpy(np.array(original.resize((14, 10), Image.Resampling.BICUBIC))).permute(2, 0, 1)
    assert torch.equal(image(folder(tmp_path, **keys, phase="test")), small)


def test_by_default_testing_scales_as_training_does_and_by_name_to_the_window(tmp_path: Path) -> None:
    save(tmp_path / "1.png", noise(40, 40))
    usual = folder(tmp_path, phase="test", load_size=20, crop_size=10)
    named = folder(tmp_path, phase="test", load_size=20, crop_size=10, preprocess="scale_shortside_and_crop")
    original = Image.open(tmp_path / "1.png")
    for dataset, scaled, edge in ((usual, 20, 5), (named, 10, 0)):
        pixels = np.asarray(original.resize((scaled, scaled), Image.Resampling.BICUBIC))
        expected = torch.from_numpy(pixels[edge : edge + 10, edge : edge + 10].copy()).permute(2, 0, 1)
        assert torch.equal(image(dataset), expected)


@pytest.mark.parametrize("phase", ["train", "test"])
def test_16_bits_stay_16_bits(tmp_path: Path, phase: str) -> None:
    pixels = np.arange(256, dtype=np.uint16).reshape(16, 16) * 257 + 1
    Image.fromarray(pixels).save(tmp_path / "1.png")
    dataset = folder(tmp_path, channels=1, phase=phase)
    assert dataset.spec.depth == {"image": "uint16"}
    assert dataset.spec.ranges == {}
    np.testing.assert_array_equal(image(dataset)[0].numpy(), pixels)


def test_arrays_of_floats_are_read_by_their_range(tmp_path: Path) -> None:
    np.save(tmp_path / "1.npy", np.linspace(-500, 500, 5 * 16 * 16, dtype=np.float32).reshape(16, 16, 5))
    dataset = folder(tmp_path, channels=5, range=[-500, 500])
    assert (dataset.spec.depth, dataset.spec.ranges) == ({"image": "float32"}, {"image": (-500.0, 500.0)})
    torch.testing.assert_close(
        image(dataset).permute(1, 2, 0).reshape(-1), torch.linspace(-1, 1, 5 * 16 * 16), atol=1e-6, rtol=0
    )
    with pytest.raises(ConfigError, match=r"^floating-point images need data\.range=\[LOW,HIGH\]"):
        folder(tmp_path, channels=5)


def test_four_channels_are_taken_as_they_are_stored(tmp_path: Path) -> None:
    four = torch.cat([noise(16, 16), noise(16, 16, 1)[..., :1]], dim=2)
    save(tmp_path / "1.png", four)
    assert torch.equal(image(folder(tmp_path, channels=4)), four.permute(2, 0, 1))
