"""A folder of images: which images are found, and their classes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import assert_mentions
from single_folder import FORMATS, colour, folder, image, noise, paint, save

from gantrain.data.sets.single import SingleFolder
from gantrain.errors import ConfigError


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
def test_every_format_is_read_with_extensions_of_any_case(tmp_path: Path, extension: str) -> None:
    paint(tmp_path / f"image.{extension}")
    found = folder(tmp_path)
    assert len(found) == 1
    pixels = image(found)
    assert pixels.shape == (3, 16, 16)
    assert pixels.dtype == torch.uint8
    assert colour(pixels) == pytest.approx([10, 120, 240], abs=4)  # JPEG and WebP are lossy.


def test_sub_folders_are_classes_if_they_contain_every_image(tmp_path: Path) -> None:
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


@pytest.mark.parametrize("others", [["cat", "dog"], ["cat"]])
def test_a_folder_without_images_beside_classes_is_reported(tmp_path: Path, others: list[str], capsys) -> None:
    for name in others:
        paint(tmp_path / name / "1.png")
    (tmp_path / "owl/young").mkdir(parents=True)
    (tmp_path / "owl/young/1.raw").touch()
    for phase in ("train", "test"):  # It is said once.
        assert folder(tmp_path, phase=phase).spec.num_classes == (2 if others[1:] else 0)
    (line,) = (line for line in capsys.readouterr().err.splitlines() if "no class" in line)
    assert_mentions(line, str(tmp_path / "owl"), "no readable image", ".png")
    folder(f"{tmp_path}/*/*.png")  # Which leaves out folders on purpose.
    paint(tmp_path / "beside.png")
    folder(tmp_path)
    assert "no class" not in capsys.readouterr().err


@pytest.mark.parametrize("names", [("cat/1.png", "dog/2.png", "3.png"), ("cat/1.png", "cat/2.png")])
def test_one_sub_folder_or_an_image_outside_gives_no_classes(tmp_path: Path, names: tuple[str, ...]) -> None:
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


def test_val_replaces_a_missing_test_folder(tmp_path: Path) -> None:
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


def test_classes_of_test_images_alone_are_ignored(tmp_path: Path) -> None:
    for name in ("train/1.png", "test/cat/2.png", "test/dog/3.png"):
        paint(tmp_path / name)
    assert folder(tmp_path, phase="test").labels is None


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"^data\.root: there is no folder {tmp_path}/nowhere$"):
        folder(tmp_path / "nowhere")


def test_a_folder_without_images_is_refused_with_the_formats(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(
        ConfigError, match=rf"^data\.root: no image in {tmp_path} \(looked for .*\.png.*; found: \.txt \(1\)\)$"
    ):
        folder(tmp_path)


@pytest.mark.parametrize("content", [b"this is no image", b"", "half"])
def test_a_corrupt_image_is_named(tmp_path: Path, content: bytes | str) -> None:
    path = tmp_path / "broken.png"
    if content == "half":
        save(path, noise(32, 32))
        content = path.read_bytes()[: path.stat().st_size // 2]
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=rf"^can't read the image {path}: .+"):
        image(folder(tmp_path))


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


def test_the_error_for_a_missing_public_data_set_names_the_download(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no folder .*/ae_photos; gantrain data download ae_photos fetches it$"):
        folder(tmp_path / "ae_photos")


def test_another_phase_reads_its_own_folder_too(tmp_path: Path) -> None:
    for phase in ("train", "test", "val"):
        paint(tmp_path / phase / f"{phase}.png")
    assert found_names(folder(tmp_path, phase="val")) == ["val.png"]
