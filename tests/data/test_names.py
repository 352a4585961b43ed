"""Names of phases, classes and files in any usual spelling, order and form, by every reader and tool."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gantrain.cli.main import main
from gantrain.data.base import ImageDataset
from gantrain.data.names import SPELLINGS, natural_key, phase_of
from gantrain.data.settings import build_dataset
from gantrain.data.tools.lmdb_convert import write_lmdb
from gantrain.errors import ConfigError

PLAIN = {
    "channels": 3,
    "load_size": 8,
    "crop_size": 8,
    "flip": False,
    "range": None,
    "depth": "auto",
    "decoder": "exact",
}
ONE = {**PLAIN, "crop": "center", "preprocess": None}
TWO = {**PLAIN, "channels_b": 3, "range_b": None, "preprocess": "resize_and_crop", "direction": "a_to_b"}
MODES: dict[str, dict[str, Any]] = {
    "single": {**ONE, "list": None},
    "lsun": {**ONE, "category": None},
    "shards": ONE,
    "aligned": TWO,
    "unaligned": {**TWO, "serial": True},
}
SPLITS = [
    *[
        ("train", "valid"),
        ("training", "testing"),
        ("Train", "Test"),
        ("TRAIN", "VAL"),
        ("trn", "tst"),
        ("train", "dev"),
    ],
    *[("Training", "Validation"), ("train_set", "test_set"), ("Train", "Eval"), ("train", "validation set")],
]


def save(*paths: Path | str, width: int = 8) -> None:
    for path in map(Path, paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (width, 8), "red").save(path)


def pack(path: Path, files: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def png() -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(content, format="PNG")
    return content.getvalue()


def read(mode: str, root: Path | str, phase: str = "train", **keys: Any) -> ImageDataset:
    return build_dataset({"mode": mode, "root": str(root), **MODES[mode], **keys}, phase=phase)


def names(dataset: ImageDataset) -> list[str]:
    return [dataset.item(index, 0)["name"] for index in range(len(dataset))]


def lay(layout: str, root: Path, folder: str, name: str) -> None:
    """Write an image, or a pair, for the phase whose folder is named so."""
    if layout == "shards":
        pack(root / folder / "0.tar", {name: png()})
    elif layout == "lsun":
        save(root / "unpacked" / folder / name)
        write_lmdb(root / "unpacked" / folder, root / f"room_{folder}_lmdb")
    elif layout in ("single", "side by side"):
        save(root / folder / name, width=16)
    else:
        save(*(root / layout.format(phase=folder, domain=domain) / name for domain in "AB"))


TWO_DOMAINS = ["{phase}{domain}", "{domain}/{phase}", "{phase}/{domain}"]
LAYOUTS = [("single", "single"), ("shards", "shards"), ("lsun", "lsun"), ("aligned", "side by side")]
LAYOUTS += [(mode, layout) for mode in ("aligned", "unaligned") for layout in TWO_DOMAINS]


@pytest.mark.parametrize(
    ("mode", "layout", "train", "held_out"),
    [
        (*each, *split)
        for each in LAYOUTS
        for split in SPLITS
        if "lsun" not in each or "".join(split).isalpha()  # LSUN separates the phase by underscores.
    ],
)
def test_a_split_folder_is_a_split_in_any_spelling(
    tmp_path: Path, mode: str, layout: str, train: str, held_out: str
) -> None:
    lay(layout, tmp_path, train, "1.png")
    lay(layout, tmp_path, held_out, "2.png")
    (tmp_path / "notes").mkdir()
    phases = {"train": "1.png", "test": "2.png", held_out: "2.png"}
    for phase, name in phases.items():
        assert [found.rpartition("/")[2] for found in names(read(mode, tmp_path, phase))] == [name]
    assert read(mode, tmp_path).held_out
    assert read(mode, tmp_path).labels is None


@pytest.mark.parametrize("spelling", ["train_A", "Train-a", "trainingA", "TRN B"])
def test_a_domain_may_be_separated_from_its_phase(tmp_path: Path, spelling: str) -> None:
    for domain in "AB":
        save(tmp_path / f"{spelling[:-1]}{domain}" / "1.png", tmp_path / f"test{domain}" / "2.png")
    for mode in ("aligned", "unaligned"):
        assert names(read(mode, tmp_path)) == ["1.png"]
        assert names(read(mode, tmp_path, "test")) == ["2.png"]


def test_two_folders_for_one_phase_are_named(tmp_path: Path) -> None:
    save(tmp_path / "train/1.png", tmp_path / "valid/2.png", tmp_path / "Validation/3.png")
    with pytest.raises(ConfigError, match=r"Validation and .*valid are both named as the folder val: rename"):
        read("single", tmp_path)
    save(tmp_path / "val/4.png")
    assert names(read("single", tmp_path, "val")) == ["4.png"]  # As it was before others were recognised.


@pytest.mark.parametrize("other", ["bus", "car", "trains", "testament", "devil"])
def test_classes_with_similar_names_stay_classes(tmp_path: Path, other: str) -> None:
    save(tmp_path / "train/1.png", tmp_path / f"{other}/2.png")
    assert read("single", tmp_path).spec.class_names == tuple(sorted(["train", other]))


def test_the_tools_read_splits_in_any_spelling(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(tmp_path / "set/Training/1.png", tmp_path / "set/Valid/2.png", width=16)
    assert main(["data", "lmdb", str(tmp_path / "set"), "out"]) == 2
    assert "contains the folders Training and Valid: write an LMDB of each, out_train_lmdb" in capsys.readouterr().err
    assert main(["data", "prepare", "split", str(tmp_path / "set"), "out"]) == 2
    assert "is split already, into train and val" in capsys.readouterr().err
    assert main(["data", "prepare", "split_pairs", str(tmp_path / "set"), "out"]) == 0
    assert sorted(path.as_posix() for path in Path("out").rglob("*.png")) == [
        *("out/trainA/1.png", "out/trainB/1.png", "out/valA/2.png", "out/valB/2.png")
    ]


def test_every_spelling_has_one_phase() -> None:
    spellings = [spelling for names in SPELLINGS.values() for spelling in names]
    assert len(spellings) == len(set(spellings))
    assert phase_of("night") == "night"


# ---- classes


CLASSES = ["0", "1", "2", "9", "10", "11", "a2", "a10"]


def of_classes(mode: str, root: Path, classes: list[str]) -> ImageDataset:
    """A data set with an image of each class."""
    if mode == "shards":
        files = [(f"{n}.png", png(), f"{n}.cls", name.encode()) for n, name in enumerate(classes)]
        pack(root / "0.tar", {key: value for file in files for key, value in (file[:2], file[2:])})
        return read("shards", root)
    save(*(root / f"set/{name}/1.png" for name in classes))
    if mode == "lsun":
        write_lmdb(root / "set", root / "db")
        return read("lsun", root / "db")
    lines = [f"set/{name}/1.png,{name}" for name in reversed(classes)]
    (root / "list.csv").write_text("\n".join(lines), encoding="utf-8")
    return read("single", root, list="list.csv") if mode == "list" else read("single", root / "set")


@pytest.mark.parametrize("mode", ["single", "list", "lsun", "shards"])
def test_classes_are_numbered_alike_in_every_container(tmp_path: Path, mode: str) -> None:
    ordered = [name for name in CLASSES if name.isdecimal()] if mode == "shards" else CLASSES
    dataset = of_classes(mode, tmp_path, sorted(ordered))
    assert dataset.spec.class_names == tuple(ordered)
    found = {name: dataset.item(index, 0)["label"] for index, name in enumerate(names(dataset))}
    if mode != "shards":
        assert {name.split("/")[-2]: label for name, label in found.items()} == dict(
            zip(ordered, range(8), strict=True)
        )
    else:
        assert dataset.labels == [ordered.index(name) for name in sorted(ordered)]


@pytest.mark.parametrize("mode", ["single", "list", "lsun"])
@pytest.mark.parametrize("select", [False, True])
def test_the_order_of_a_run_is_adopted(tmp_path: Path, mode: str, select: bool) -> None:
    dataset = of_classes(mode, tmp_path, CLASSES)
    dataset = dataset.first(5) if select else dataset
    before = [dataset.spec.class_names[label] for label in dataset.labels or ()]
    for other in (["0", "1"], [*CLASSES[:-1], "a11"]):  # Other classes are no order of these.
        dataset.use_class_names(other)
        assert dataset.spec.class_names == tuple(CLASSES)
    dataset.use_class_names(sorted(CLASSES))
    assert dataset.spec.class_names == tuple(sorted(CLASSES))
    assert [dataset.spec.class_names[label] for label in dataset.labels or ()] == before
    assert [dataset.item(index, 0)["label"] for index in range(len(dataset))] == dataset.labels


@pytest.mark.parametrize("count", [1, 7])
@pytest.mark.parametrize("mode", ["single", "lsun"])
def test_an_image_beside_class_folders_is_named(tmp_path: Path, mode: str, count: int, capsys) -> None:
    strays = [f"{number}.png" for number in range(count)]
    save(*(tmp_path / "set" / name for name in ("cat/1.png", "dog/2.png", *strays)))
    root = tmp_path / "set"
    if mode == "lsun":
        write_lmdb(root, tmp_path / "db")
        root = tmp_path / "db"
    common = [f"data={mode}" if mode == "single" else "data=lsun", f"data.root={root}", "data.num_workers=0"]
    for more in (["model=cgan"], ["model=sgan", "data.labelled=2"]):
        assert main(["train", *common, *more, "dry_run=true"]) == 2
        error = capsys.readouterr().err
        assert "0.png" in error
        assert "label" in error
    assert read(mode, root).labels is None
    main(["data", "check", *common, "out=page", "data.load_size=8"])
    assert "0.png" in capsys.readouterr().out


# ---- Unicode


COMPOSED, DECOMPOSED = "\u00e9t\u00e9", "e\u0301te\u0301"


@pytest.mark.parametrize("folders", [("A", "B"), ("a", "b")])
def test_pairs_are_matched_in_any_unicode_form(tmp_path: Path, folders: tuple[str, str], capsys) -> None:
    a, b = (tmp_path / folder for folder in folders)
    save(a / f"{COMPOSED}/{DECOMPOSED}.png", a / "1.png", b / f"{DECOMPOSED}/{COMPOSED}.png", b / "1.png")
    save(*(folder / f"both/{name}.png" for folder in (a, b) for name in (COMPOSED, DECOMPOSED)))  # Matched exactly.
    assert names(read("aligned", tmp_path)) == names(read("unaligned", tmp_path))
    assert len(names(read("aligned", tmp_path))) == 4
    assert main(["data", "prepare", "pairs", str(a), str(b), "out"]) == 0
    assert len(list(Path("out").rglob("*.png"))) == 4
    save(a / f"{COMPOSED}.png", b / "other.png")
    with pytest.raises(ConfigError, match=r"1 in .* and 1 in .* have no partner"):
        read("aligned", tmp_path)


def test_lists_and_roots_may_name_files_in_another_form(tmp_path: Path) -> None:
    save(tmp_path / f"{DECOMPOSED}/{DECOMPOSED}.png", tmp_path / f"{DECOMPOSED}/2.png")
    text = f"{COMPOSED}.png,{COMPOSED}\n2.png,{DECOMPOSED}\n{COMPOSED}.png,b"
    (tmp_path / DECOMPOSED / f"{DECOMPOSED}.csv").write_text(text, encoding="utf-8")
    dataset = read("single", tmp_path / COMPOSED, list=f"{COMPOSED}.csv")
    assert dataset.labels == [1, 1, 0]
    assert dataset.item(0, 0)["image"].shape == (3, 8, 8)
    assert len(read("single", tmp_path / COMPOSED)) == 2
    assert len(read("single", tmp_path / COMPOSED / f"{COMPOSED}.png")) == 1


@pytest.mark.parametrize("mode", ["single", "lsun"])
def test_classes_of_both_phases_match_in_any_form(tmp_path: Path, mode: str) -> None:
    for phase, name in (("train", COMPOSED), ("test", DECOMPOSED)):
        folder = tmp_path if mode == "single" else tmp_path / "unpacked"
        save(folder / phase / name / "1.png", folder / phase / "b/2.png")
        if mode == "lsun":
            write_lmdb(folder / phase, tmp_path / f"{name}_{phase}_lmdb")
    for phase, name in (("train", COMPOSED), ("test", DECOMPOSED)):
        dataset = read(mode, tmp_path, phase)
        assert dataset.spec.class_names == ("b", COMPOSED)
        assert dict(zip(names(dataset), dataset.labels or (), strict=True)) == {"b/2.png": 0, f"{name}/1.png": 1}


def test_natural_order_takes_numbers_as_numbers() -> None:
    ordered = ["0", "01", "1", "2", "10", "10a", "9" * 5000, "-1", "a", "a2", "a10", "a10b2", "a10b10", "b"]
    assert sorted(ordered[7:] + ordered[:7], key=natural_key) == ordered
