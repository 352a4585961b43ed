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


def pack(path: Path, *names: str) -> None:
    content = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(content, format="PNG")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = len(content.getvalue())
            tar.addfile(member, io.BytesIO(content.getvalue()))


def read(mode: str, root: Path | str, phase: str = "train", **keys: Any) -> ImageDataset:
    return build_dataset({"mode": mode, "root": str(root), **MODES[mode], **keys}, phase=phase)


def names(dataset: ImageDataset) -> list[str]:
    return [dataset.item(index, 0)["name"] for index in range(len(dataset))]


def lay(layout: str, root: Path, folder: str, name: str) -> None:
    """Write an image, or a pair, for the phase whose folder is named so."""
    if layout == "shards":
        pack(root / folder / "0.tar", name)
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


@pytest.mark.parametrize(("mode", "layout"), LAYOUTS)
@pytest.mark.parametrize(("train", "held_out"), SPLITS)
def test_a_split_folder_is_a_split_in_any_spelling(
    tmp_path: Path, mode: str, layout: str, train: str, held_out: str
) -> None:
    if layout == "lsun" and not (train.isalpha() and held_out.isalpha()):
        pytest.skip("LSUN separates the phase by underscores")
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


def test_natural_order_takes_numbers_as_numbers() -> None:
    ordered = ["0", "01", "1", "2", "10", "10a", "9" * 5000, "-1", "a", "a2", "a10", "a10b2", "a10b10", "b"]
    assert sorted(ordered[7:] + ordered[:7], key=natural_key) == ordered
