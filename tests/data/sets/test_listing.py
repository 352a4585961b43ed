"""A CSV file that lists the images of a folder."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gantrain.cli.main import main
from gantrain.data.images.cache import Cache
from gantrain.data.sets import layout
from gantrain.data.sets.listing import read_list
from gantrain.data.sets.single import SingleFolder
from gantrain.errors import ConfigError
from gantrain.registry import DATASETS


def paint(*names: str, root: str = "photos") -> None:
    for number, name in enumerate(names):
        path = Path(root, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (16, 16), number).save(path)


def listed(text: str, *, phase: str = "train", **keys: Any) -> SingleFolder:
    """The images of a list with this content."""
    Path("list.csv").write_text(text, encoding="utf-8")
    config = {"mode": "single", "root": "photos", "list": "list.csv", "channels": 1, "load_size": 16, "crop_size": 16}
    plain = {"preprocess": None, "range": None, "depth": "auto", "decoder": "exact"}
    return DATASETS.build({**config, **plain, "crop": "center", "flip": False, **keys}, phase=phase)


def shades(dataset: SingleFolder) -> list[tuple[str, int]]:
    items = [dataset.item(index, 0) for index in range(len(dataset))]
    return [(item["name"], int(item["image"][0, 0, 0])) for item in items]


@pytest.mark.parametrize("heading", ["", "path\n", "\ufeffpath\r\n"])
def test_images_are_read_in_the_order_of_the_list(heading: str, monkeypatch: pytest.MonkeyPatch) -> None:
    paint("a.png", "deep/er/b.png", "c, d.png", "é.png")
    monkeypatch.setattr(layout, "find_images", None)  # No folder is searched.
    found = listed(f'{heading}é.png\ndeep/er/b.png\n\n"c, d.png"\n')
    assert shades(found) == [("é.png", 3), ("deep/er/b.png", 1), ("c, d.png", 2)]
    assert found.labels is None
    assert not found.held_out


def test_a_second_column_gives_labels() -> None:
    paint("1.png", "2.png", "3.png")
    found = listed("path,label\n3.png,dog\n1.png,cat\n2.png,dog\n")
    assert found.spec.class_names == ("cat", "dog")
    assert [(found.item(index, 0)["name"], found.item(index, 0)["label"]) for index in range(3)] == [
        ("3.png", 1),
        ("1.png", 0),
        ("2.png", 1),
    ]
    assert found.labels == [1, 0, 1]


@pytest.mark.parametrize("heading", ["Path,Label", " path , LABEL", "PATH"])
def test_a_header_may_have_capitals_and_spaces(heading: str) -> None:
    paint("1.png", "2.png")
    assert shades(listed(f"{heading}\n1.png,a\n2.png,b\n")) == [("1.png", 0), ("2.png", 1)]


@pytest.mark.parametrize("heading", ["file,label", "filename,class", "image"])
def test_another_header_is_refused_with_the_valid_ones(heading: str) -> None:
    paint("1.png", "2.png")
    with pytest.raises(ConfigError) as error:
        listed(f"{heading}\n1.png,a\n2.png,b\n")
    name = heading.partition(",")[0]
    for part in ("data.list: list.csv, line 1", f"no image photos/{name}", "'path' or 'path,label'"):
        assert part in str(error.value)


def test_the_first_image_may_have_no_suffix() -> None:
    paint("1.png")
    Path("photos/1.png").rename("photos/1")
    assert shades(listed("1\n")) == [("1", 0)]


def test_labels_are_in_natural_order() -> None:
    paint("1.png", "2.png", "3.png")
    assert listed("1.png,10\n2.png,9\n3.png,010").spec.class_names == ("9", "010", "10")
    assert listed("1.png,10\n2.png,9\n3.png,x").spec.class_names == ("9", "10", "x")


def test_every_phase_reads_all_listed_images() -> None:
    paint("train/1.png", "test/2.png")
    assert shades(listed("train/1.png\ntest/2.png", phase="test")) == shades(listed("train/1.png\ntest/2.png"))


def test_a_list_in_the_folder_comes_first() -> None:
    paint("1.png", "2.png")
    Path("photos/list.csv").write_text("2.png\n")
    assert shades(listed("1.png\n")) == [("2.png", 1)]
    Path("photos/list.csv").unlink()
    assert shades(listed("1.png\n")) == [("1.png", 0)]


def test_the_fingerprint_depends_on_the_images() -> None:
    paint("1.png", "2.png")
    one = listed("1.png\n2.png").fingerprint
    assert one == listed("path\n1.png\n2.png\n").fingerprint != listed("2.png\n1.png").fingerprint


def test_the_fingerprint_depends_on_the_labels() -> None:
    paint("1.png", "2.png")
    one = listed("1.png,cat\n2.png,dog\n").fingerprint
    assert one == listed("path,label\n1.png, cat\n2.png, dog\n").fingerprint  # Spaces are not part of a label.
    assert len({one, listed("1.png,dog\n2.png,cat\n").fingerprint, listed("1.png\n2.png\n").fingerprint}) == 3


def test_the_stamp_changes_with_the_files() -> None:
    paint("1.png", "2.png")
    source = listed("1.png\n2.png").readers["image"].source
    stamps = [source.stamp([0, 1]), source.stamp([0, 1])]
    Path("photos/2.png").write_bytes(b"other")
    stamps.append(source.stamp([0, 1]))
    Path("photos/2.png").unlink()
    stamps.append(source.stamp([0, 1]))
    assert stamps[0] == stamps[1]
    assert len(set(stamps)) == 3


@pytest.mark.parametrize("cache", ["off", "auto"])
def test_files_that_no_epoch_reads_are_not_checked(cache: str, monkeypatch: pytest.MonkeyPatch) -> None:
    paint("1.png", "2.png")
    found = listed("".join(f"{number}.png\n" for number in range(1, 100))).first(2)
    asked: list[str] = []
    stat = Path.stat
    monkeypatch.setattr(Path, "stat", lambda path, **keys: (asked.append(path.name), stat(path, **keys))[1])
    found.use_cache(Cache(cache=cache))
    assert sorted(name for name in asked if name.endswith(".png")) == {"off": [], "auto": ["1.png", "2.png"]}[cache]


def test_the_names_are_a_single_object_for_workers() -> None:
    Path("photos").mkdir()
    Path("list.csv").write_text("".join(f"{number:08}.png\n" for number in range(100_000)))
    source, _, _ = read_list(Path("photos"), "list.csv")
    assert len(source) == 100_000
    assert (source.name(0), source.name(99_999)) == ("00000000.png", "00099999.png")
    assert len(pickle.dumps(source)) < 100_000 * (12 + 8) + 1000


def test_a_missing_file_is_named_when_it_is_read() -> None:
    paint("1.png")
    found = listed("1.png\n2.png\n")
    with pytest.raises(ConfigError, match=r"^can't read the image photos/2\.png: No such file or directory$"):
        found.item(1, 0)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "list.csv lists no images"),
        ("path,label\n", "list.csv lists no images"),
        ("1.png,a,b\n", "line 1: expected 'path' or 'path,label', got '1.png,a,b'"),
        ("1.png\n2\0.png\n", r"line 2: expected 'path' or 'path,label', got '2\x00.png'"),
        ("1.png\n,a\n", "line 2: expected 'path' or 'path,label', got ',a'"),
        ("1.png,a\n\n2.png\n", "line 3: either all images have a label or none"),
        ("1.png\n2.png,a\n", "line 2: either all images have a label or none"),
        ("1.png,\n2.png,a\n", "line 2: either all images have a label or none"),
    ],
)
def test_an_invalid_row_is_named_by_its_line(text: str, reason: str) -> None:
    paint("1.png", "2.png")
    with pytest.raises(ConfigError) as error:
        listed(text)
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_folder_or_list_is_named() -> None:
    paint("1.png")
    with pytest.raises(ConfigError, match=r"^data\.list=no\.csv: there is neither photos/no\.csv nor a file no\.csv"):
        listed("1.png", list="no.csv")
    with pytest.raises(ConfigError, match=r"^data\.root: there is no folder nowhere"):
        listed("1.png", root="nowhere")


def test_the_command_trains_on_a_list(capsys) -> None:
    paint(*(f"{number}.png" for number in range(20)))
    Path("photos/files.csv").write_text("".join(f"{number}.png,{number % 2}\n" for number in range(20)))
    typed = ["data=single", "data.root=photos", "data.list=files.csv", "model=cgan", "data.channels=1"]
    assert main(["train", *typed, "data.fraction=0.5", "data.max_size=8", "dry_run=true"]) == 0, capsys.readouterr()
    assert "image (N, 1, 64, 64), 8 in an epoch" in capsys.readouterr().out
