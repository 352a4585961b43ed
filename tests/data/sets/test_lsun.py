"""LMDB files in the format of LSUN: what is found in them, by any number of processes, and what is refused."""

from __future__ import annotations

import io
import multiprocessing
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from batches import batches
from conftest import assert_same_bits
from in_processes import brightness
from lmdb_files import encoded, write
from PIL import Image

from gantrain.data.images.cache import Cache, CacheMode
from gantrain.data.sets.lmdb_index import Database
from gantrain.data.sets.lsun import Lsun
from gantrain.data.tools.lmdb_convert import export, write_lmdb
from gantrain.errors import ConfigError
from gantrain.registry import DATASETS


def photo(number: int, kind: str = "JPEG") -> bytes:
    """An image of noise, 20 pixels high and 24 wide."""
    return encoded(kind, number, 20, 24)


def made(path: Path, count: int = 12, *, first: int = 0) -> Path:
    """Keys like those of LSUN, and its two formats."""
    numbers = range(first, first + count)
    return write(path, {b"%040x" % number: photo(number, ("WEBP", "JPEG")[number % 2]) for number in numbers})


PLAIN = {"preprocess": None, "range": None, "depth": "auto", "decoder": "exact"}


def lsun(root: Path | str, *, phase: str = "train", category: str | None = None, **keys: Any) -> Lsun:
    defaults = {"channels": 3, "load_size": 16, "crop_size": 16, "crop": "random", "flip": True, **PLAIN}
    return DATASETS.build({"mode": "lsun", "root": str(root), "category": category, **defaults, **keys}, phase=phase)


def names(dataset: Lsun) -> list[str]:
    return [dataset.item(index, 0)["name"] for index in range(len(dataset))]


def test_values_are_read_in_the_order_of_their_keys(tmp_path: Path) -> None:
    made(tmp_path / "db")
    whole = lsun(tmp_path / "db", load_size=20, crop_size=20, flip=False, crop="center")
    assert names(whole) == [f"{number:040x}" for number in range(12)]
    assert whole.labels is None
    assert whole.keys == {"image"}
    for number in range(12):
        pixels = np.asarray(Image.open(io.BytesIO(photo(number, ("WEBP", "JPEG")[number % 2]))))
        wanted = torch.from_numpy(pixels.copy())[:, 2:22].permute(
            2, 0, 1
        )  # 24 x 20: 2 columns are cropped on either side.
        assert torch.equal(whole.item(number, seed=7)["image"], wanted)


def test_the_phases_of_a_category_are_in_neighbouring_folders(tmp_path: Path) -> None:
    for name, count, first in (("bedroom_train", 5, 0), ("bedroom_val", 3, 100), ("tower_train", 4, 200)):
        made(tmp_path / f"{name}_lmdb", count, first=first)
    by_category = lsun(tmp_path, category="bedroom"), lsun(tmp_path, category="bedroom", phase="test")
    by_root = lsun(tmp_path / "bedroom_train_lmdb"), lsun(tmp_path / "bedroom_train_lmdb", phase="test")
    for train, test in (by_category, by_root):
        assert names(train) == [f"{number:040x}" for number in range(5)]
        assert names(test) == [f"{number:040x}" for number in range(100, 103)]
        assert train.held_out
        assert train.fingerprint != test.fingerprint
    tower = lsun(tmp_path, category="tower"), lsun(tmp_path, category="tower", phase="test")
    assert names(tower[0]) == names(tower[1]) == [f"{number:040x}" for number in range(200, 204)]
    assert not tower[0].held_out


def test_the_default_test_phase_prefers_test_to_val(tmp_path: Path) -> None:
    for phase, count in (("train", 2), ("val", 3), ("test", 4)):
        made(tmp_path / f"x_{phase}_lmdb", count)
    assert {phase: len(lsun(tmp_path, phase=phase)) for phase in ("train", "val", "test")} == {
        "train": 2,
        "val": 3,
        "test": 4,
    }


def test_the_only_category_need_not_be_named(tmp_path: Path) -> None:
    made(tmp_path / "church_outdoor_train_lmdb", 3)
    assert len(lsun(tmp_path)) == 3


def test_a_database_of_any_name_is_read_in_every_phase(tmp_path: Path) -> None:
    made(tmp_path / "mine", 3)
    made(tmp_path / "bedroom_val_lmdb", 3)
    for path in ("mine", "bedroom_val_lmdb"):
        train, test = lsun(tmp_path / path), lsun(tmp_path / path, phase="test")
        assert names(train) == names(test)
        assert not train.held_out


def test_keys_that_begin_with_a_class_give_labels(tmp_path: Path) -> None:
    keys = ["cat/1", "cat/\u00e9t\u00e9", "cat-2/1", "cat-2/2", "dog/1", "dog/deep/2"]
    write(tmp_path / "db", {key.encode(): photo(0) for key in keys})
    found = lsun(tmp_path / "db")
    assert found.spec.class_names == ("cat", "cat-2", "dog")
    items = [found.item(index, 0) for index in range(6)]
    assert {item["name"]: item["label"] for item in items} == dict(zip(keys, [0, 0, 1, 1, 2, 2], strict=True))
    assert found.labels == [item["label"] for item in items]


@pytest.mark.parametrize("keys", [["cat/1", "catalogue", "dog/2"], ["cat/1", "cat/2"], ["1", "2"]])
def test_keys_outside_classes_or_a_single_class_give_no_labels(tmp_path: Path, keys: list[str]) -> None:
    write(tmp_path / "db", {key.encode(): photo(0) for key in keys})
    assert lsun(tmp_path / "db").labels is None
    assert lsun(tmp_path / "db").spec.num_classes == 0


def test_the_classes_are_those_of_the_training_images(tmp_path: Path) -> None:
    write(tmp_path / "x_train_lmdb", {key: photo(0) for key in (b"cat/1", b"dog/1", b"owl/1")})
    write(tmp_path / "x_val_lmdb", {key: photo(0) for key in (b"dog/1", b"owl/1")})
    test = lsun(tmp_path, phase="test")
    assert (test.labels, test.spec.class_names) == ([1, 2], ("cat", "dog", "owl"))
    del test
    write(tmp_path / "x_val_lmdb", {b"emu/9": photo(0)})
    with pytest.raises(ConfigError, match=r"^data\.root: emu/9 in .*x_val_lmdb is in none of the classes .*'owl'"):
        lsun(tmp_path, phase="test")


def test_a_folder_its_database_and_an_export_are_the_same_data(tmp_path: Path) -> None:
    for number in range(9):
        path = tmp_path / f"in/{'ab'[number % 2]}/{number}.{('png', 'webp', 'jpg')[number % 3]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(photo(number, ("PNG", "WEBP", "JPEG")[number % 3]))
    write_lmdb(Path("in"), Path("db"))
    export(Path("db"), Path("out"), layout="tree")
    keys = {"channels": 3, "load_size": 16, "crop_size": 12, "crop": "random", "flip": True, **PLAIN}
    folder = DATASETS.build({"mode": "single", "root": "in", "list": None, **keys}, phase="train")
    listed = DATASETS.build({"mode": "single", "root": "out", "list": "files.csv", **keys}, phase="train")
    database = lsun("db", **keys)
    assert folder.spec == database.spec == listed.spec
    assert folder.labels == database.labels == listed.labels
    for index in range(9):
        items = [dataset.item(index, seed=index) for dataset in (folder, database, listed)]
        assert items[2].pop("name").endswith(items[1]["name"])
        assert items[0].pop("name") == items[1].pop("name")
        assert_same_bits(items[0], items[1])
        assert_same_bits(items[0], items[2])


def test_the_index_of_keys_is_reused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(tmp_path / "x_train_lmdb")
    made(tmp_path / "x_val_lmdb")
    first = names(lsun(tmp_path, phase="test"))
    monkeypatch.setattr(Database, "keys", None)
    assert names(lsun(tmp_path, phase="test")) == first
    assert len(lsun(tmp_path)) == 12


def test_data_sets_share_an_open_file(tmp_path: Path) -> None:
    made(tmp_path / "db")
    one, other = lsun(tmp_path / "db"), lsun(tmp_path / "db", phase="test")
    assert one.readers["image"].source.database is other.readers["image"].source.database
    del one
    assert len(names(other)) == 12


def test_a_pickled_data_set_contains_neither_keys_nor_images(tmp_path: Path) -> None:
    whole = lsun(made(tmp_path / "db", 300))
    item = whole.item(5, 1)
    packed = pickle.dumps(whole)
    assert len(packed) < 5000
    assert_same_bits(pickle.loads(packed).item(5, 1), item)


@pytest.mark.usefixtures("warm_python")
@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_many_processes_read_the_same_images(tmp_path: Path, start: str) -> None:
    whole = lsun(made(tmp_path / "db", 24))
    mine = [whole.item(index, index)["image"].sum().item() for index in range(24)]
    with multiprocessing.get_context(start).Pool(2) as pool:
        assert pool.starmap(brightness, [(whole, index) for index in range(24)]) == mine


def test_batches_do_not_depend_on_workers_or_resumption(tmp_path: Path) -> None:
    whole = lsun(made(tmp_path / "db"))
    alone = [*batches(whole)]
    assert_same_bits(alone, [*batches(whole, num_workers=2)])
    assert_same_bits(alone[4:], [*batches(whole, num_workers=2, start=4, count=5)])
    assert len({name for batch in alone for name in batch["name"]}) == 12


def test_databases_of_equal_keys_sizes_and_times_are_distinct(tmp_path: Path, image_cache: Path) -> None:
    for name, value in (("one", 10), ("other", 200)):
        file = io.BytesIO()
        Image.new("RGB", (20, 20), (value,) * 3).save(file, "BMP")
        path = write(tmp_path / name, {b"%d" % number: file.getvalue() for number in range(4)})
        os.utime(path / "data.mdb", (1e9, 1e9))
        plain, stored = lsun(path), lsun(path)
        stored.use_cache(Cache(cache="disk"))
        assert_same_bits([*batches(plain)], [*batches(stored)])
    (tmp_path / "link").symlink_to("other")
    again = lsun(tmp_path / "link")
    again.use_cache(Cache(cache="disk"))
    assert len(list(image_cache.iterdir())) == 2


@pytest.mark.usefixtures("cache_folder")
@pytest.mark.parametrize("cache", ["disk", "memory"])
def test_batches_are_the_same_from_a_cache_until_the_database_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: CacheMode
) -> None:
    made(tmp_path / "db")
    for _ in range(2):
        plain, stored = lsun(tmp_path / "db"), lsun(tmp_path / "db")
        stored.use_cache(Cache(cache=cache))
        with monkeypatch.context() as without:
            without.setattr(Database, "get", None)
            cached = [*batches(stored, num_workers=2)]
        assert_same_bits([*batches(plain)], cached)
        shutil.rmtree(tmp_path / "db")
        write(made(tmp_path / "new"), {b"%040x" % 3: photo(99)}).rename(tmp_path / "db")


@pytest.mark.parametrize(
    ("root", "category", "parts"),
    [
        ("nowhere", None, ["data.root: ", "no folder nowhere"]),
        ("nowhere", "tower", ["data.root: ", "no folder nowhere", "gantrain data download lsun_tower"]),
        ("several", None, ["data.category is missing", "several contains bedroom, tower"]),
        ("several", "towr", ["data.category", "several/towr_train_lmdb", "did you mean 'tower'?"]),
        ("several", "kitchen", ["several/kitchen_train_lmdb", "gantrain data download lsun_kitchen"]),
        ("several/bedroom_train_lmdb", "bedroom", ["several/bedroom_train_lmdb", "give the folder that contains it"]),
        ("plain", None, ["data.root: plain ", "an LMDB"]),
        ("notes.txt", None, ["notes.txt is not an LMDB", "corrupt"]),
        ("empty", None, ["empty is empty"]),
        ("text", None, ["can't read the image 1 in ", "/text: this is not an image"]),
    ],
)
def test_an_invalid_root_is_refused_in_one_line(root: str, category: str | None, parts: list[str]) -> None:
    made(Path("several/bedroom_train_lmdb"), 2)
    made(Path("several/tower_train_lmdb"), 2)
    Path("plain").mkdir()
    Path("notes.txt").write_text("no database" * 1000)
    write(Path("empty"), {})
    write(Path("text"), {b"1": b"no image"})
    with pytest.raises(ConfigError) as error:
        lsun(root, category=category)
    for part in parts:
        assert part in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_phase_is_named(tmp_path: Path) -> None:
    made(tmp_path / "x_train_lmdb", 2)
    with pytest.raises(ConfigError, match=r"^data\.root: no database for the phase val \(found: x_train_lmdb\)"):
        lsun(tmp_path, phase="val")


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_corrupt_value_is_named_with_its_database(tmp_path: Path, num_workers: int) -> None:
    made(tmp_path / "db", 6)
    write(tmp_path / "db", {b"broken": photo(0)[:200]})
    with pytest.raises(ConfigError, match=rf"^can't read the image broken in {tmp_path}/db: ") as error:
        [*batches(lsun(tmp_path / "db"), num_workers=num_workers)]
    assert "\n" not in str(error.value)
