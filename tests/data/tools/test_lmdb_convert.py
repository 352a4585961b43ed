"""Folders to LMDB files and back: every byte kept, whole or not there, and gone on with after an interruption."""

from __future__ import annotations

import csv
import io
import os
import subprocess
import sys
import time
from pathlib import Path

import lmdb
import numpy as np
import pytest
from PIL import Image

from gantrain.cli.main import main
from gantrain.data.sets import lmdb_writer
from gantrain.data.sets.lmdb_index import key_index, open_database
from gantrain.data.tools import lmdb_convert as module
from gantrain.data.tools.lmdb_convert import export, write_lmdb
from gantrain.errors import ConfigError


def encoded(kind: str = "PNG", seed: int = 0, size: int = 8) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def fill(root: Path, files: dict[str, bytes]) -> dict[str, bytes]:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return files


def classes(count: int = 6) -> dict[str, bytes]:
    """That many files in two classes."""
    return {f"{'cat' if n % 2 else 'dog'}/{n}.{('png', 'webp')[n % 3 == 0]}": encoded(seed=n) for n in range(count)}


def write(path: Path, values: dict[bytes, bytes]) -> Path:
    with lmdb.open(str(path), map_size=1 << 26) as environment, environment.begin(write=True) as transaction:
        for key, value in values.items():
            transaction.put(key, value)
    return path


def content(path: Path) -> dict[bytes, bytes]:
    database = open_database(path)
    return {key: database.get(key) for key in [*database.keys()]}


def files(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file() and path != folder / ".made_by"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def rows(folder: Path) -> list[list[str]]:
    with (folder / "files.csv").open(newline="") as file:
        return [*csv.reader(file)]


# ---- gantrain data lmdb


def test_a_database_holds_the_files_as_they_are_under_their_paths(tmp_path: Path, capsys) -> None:
    made = fill(tmp_path / "in", classes())
    (tmp_path / "in/notes.txt").write_text("no image")
    assert main(["data", "lmdb", "in", "out"]) == 0
    assert capsys.readouterr().out == "out: 6 images in 2 classes\n"
    assert content(tmp_path / "out") == {name.encode(): value for name, value in made.items()}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [".made_by", "data.mdb"]


def test_a_finished_one_is_left_alone_and_says_so(tmp_path: Path, capsys) -> None:
    fill(tmp_path / "in", classes())
    write_lmdb(Path("in"), Path("out"))
    before = (tmp_path / "out/data.mdb").stat()
    capsys.readouterr()
    assert main(["data", "lmdb", "in", "out"]) == 0
    assert capsys.readouterr().out == "out already exists\n"
    assert (tmp_path / "out/data.mdb").stat() == before


def test_one_of_another_folder_is_not_taken_for_it(tmp_path: Path, capsys) -> None:
    for name in ("in", "other"):
        fill(tmp_path / name, classes())
    write_lmdb(Path("in"), Path("out"))
    write(tmp_path / "found", {b"1": encoded()})
    for out in ("out", "found"):
        capsys.readouterr()
        assert main(["data", "lmdb", "other", out]) == 2
        refusal = f"gantrain: {out} already exists: give another folder, or remove it first\n"
        assert capsys.readouterr() == ("", refusal)
    (tmp_path / "link").symlink_to("in")
    assert main(["data", "lmdb", "link", "out"]) == 0


@pytest.mark.parametrize("other", [["layout=tree"], ["fraction=0.5"], ["fraction=0.5", "seed=1"], ["other"]])
def test_files_of_another_export_are_not_taken_for_it(other: list[str], tmp_path: Path, capsys) -> None:
    for name in ("db", "other"):
        lsun(tmp_path / name, 6)
    assert main(["data", "export", "db", "out", *(["fraction=0.5"] if "seed=1" in other else [])]) == 0
    capsys.readouterr()
    typed = ["other", "out"] if other == ["other"] else ["db", "out", *other]
    assert main(["data", "export", *typed]) == 2
    assert capsys.readouterr().err == "gantrain: out already exists: give another folder, or remove it first\n"


def test_more_images_than_a_transaction_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COMMIT_BYTES", 3000)
    made = fill(tmp_path / "in", {f"{number}.png": encoded(seed=number, size=32) for number in range(20)})
    write_lmdb(Path("in"), Path("out"))
    assert content(tmp_path / "out") == {name.encode(): value for name, value in made.items()}


@pytest.mark.parametrize("size", [20, 5000, 300_000])
def test_there_is_room_for_files_of_any_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(lmdb_writer, "COMMIT_BYTES", 1 << 16)  # The only margin.
    made = fill(tmp_path / "in", {f"{'x' * 200}{number}.png": os.urandom(size) for number in range(300)})
    write_lmdb(Path("in"), Path("out"))
    assert content(tmp_path / "out") == {name.encode(): value for name, value in made.items()}


def test_a_path_that_is_too_long_for_a_key_keeps_its_class_and_suffix(tmp_path: Path) -> None:
    deep = "/".join(["d" * 200] * 3)
    fill(tmp_path / "in", {f"cat/{deep}/1.png": b"1", f"cat/{deep}/2.png": b"2", "dog/3.png": b"3"})
    write_lmdb(Path("in"), Path("out"))
    keys = sorted(content(tmp_path / "out"))
    assert sorted(content(tmp_path / "out").values()) == [b"1", b"2", b"3"]
    assert [key[:4] for key in keys] == [b"cat/", b"cat/", b"dog/"]
    assert all(key.endswith(b".png") and len(key) <= 511 for key in keys)


class Interruption:
    """Ctrl-C at the call number ``count`` of a method of paths, until it is over, and the paths of which it is called.

    Attributes:
        seen: These paths.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str, count: int) -> None:
        original = getattr(Path, name)
        self.seen: list[Path] = []
        self._over = False

        def counted(path: Path, *arguments: object) -> object:
            if len(self.seen) == count and not self._over:
                raise KeyboardInterrupt
            self.seen.append(path)
            return original(path, *arguments)

        monkeypatch.setattr(Path, name, counted)

    def end(self) -> None:
        """No more of it; the paths are forgotten."""
        self._over = True
        self.seen.clear()


def test_an_interrupted_one_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(module, "COMMIT_BYTES", 1)  # a transaction for each
    made = fill(tmp_path / "in", classes(10))
    time.sleep(0.01)  # for the clock of the file system
    interruption = Interruption(monkeypatch, "read_bytes", 4)
    assert main(["data", "lmdb", "in", "out"]) == 130
    assert "the same command resumes" in capsys.readouterr().err
    assert not Path("out").exists()
    interruption.end()
    assert main(["data", "lmdb", "in", "out"]) == 0
    assert len([path for path in interruption.seen if path.suffix in (".png", ".webp")]) == 6
    assert content(tmp_path / "out") == {name.encode(): value for name, value in made.items()}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


def test_what_was_changed_or_removed_after_an_interruption_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "COMMIT_BYTES", 1)
    made = fill(tmp_path / "in", {f"{number}.png": b"%d" % number for number in range(10)})
    Interruption(monkeypatch, "read_bytes", 6)
    assert main(["data", "lmdb", "in", "out"]) == 130
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    time.sleep(0.01)
    made |= fill(tmp_path / "in", {"1.png": b"X", "older": b"Y"})  # of the same size
    os.utime(tmp_path / "in/older", (1, 1))
    (tmp_path / "in/older").replace(tmp_path / "in/3.png")
    made["3.png"] = made.pop("older")
    (tmp_path / "in/2.png").unlink()
    del made["2.png"]
    assert main(["data", "lmdb", "in", "out"]) == 0
    assert content(tmp_path / "out") == {name.encode(): value for name, value in made.items()}
    assert len(key_index(open_database(tmp_path / "out"))) == 9


def test_a_killed_one_goes_on(tmp_path: Path) -> None:
    made = fill(tmp_path / "in", {f"{number}.png": b"%d" % number for number in range(10)})
    script = (
        "import os\nfrom pathlib import Path\nfrom gantrain.data.tools import lmdb_convert as module\n"
        "module.COMMIT_BYTES, put, seen = 0, module._put, []\n"
        "def counted(*of):\n    seen.append(1)\n    if len(seen) == 5: os._exit(9)\n    return put(*of)\n"
        "module._put = counted\nmodule.write_lmdb(Path('in'), Path('out'))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 9
    assert not Path("out").exists()
    assert main(["data", "lmdb", "in", "out"]) == 0
    assert content(tmp_path / "out") == {name.encode(): value for name, value in made.items()}


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (["nowhere", "out"], "there is no folder nowhere"),
        (["empty", "out"], "no image in empty"),
        (["in", "in/out"], "in/out is inside in, which is read"),
        (["in", "full"], "full already exists"),
        (["phases", "sets/cats"], "write an LMDB of each, sets/cats_train_lmdb and sets/cats_test_lmdb; data=lsun "),
        (["chosen_by", "sets/cats"], "write an LMDB of each, sets/cats_train_lmdb and sets/cats_val_lmdb; data=lsun "),
    ],
)
def test_a_folder_that_will_not_do_is_refused_in_one_line(arguments: list[str], answer: str, capsys) -> None:
    Path("empty").mkdir()
    fill(Path("full"), {"x.txt": b"x"})
    fill(Path("in"), {"1.png": b"1"})
    fill(Path("phases"), {"train/1.png": b"1", "test/1.png": b"1"})
    fill(Path("chosen_by"), {"train/1.png": b"1", "val/1.png": b"1"})
    before = set(Path().rglob("*"))
    assert main(["data", "lmdb", *arguments]) == 2
    err = capsys.readouterr().err
    assert answer in err
    assert err.count("\n") == 1
    assert set(Path().rglob("*")) == before


# ---- gantrain data export


def test_out_and_in_again_gives_the_same_files(tmp_path: Path) -> None:
    made = fill(tmp_path / "in", classes())
    write_lmdb(Path("in"), Path("db"))
    assert main(["data", "export", "db", "out"]) == 0
    assert {name: value for name, value in files(tmp_path / "out").items() if name != "files.csv"} == made
    assert rows(tmp_path / "out") == [["path", "label"], *([name, name[:3]] for name in sorted(made))]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["db", "db.keys", "in", "out"]


@pytest.mark.parametrize("layout", ["flat", "tree"])
@pytest.mark.parametrize(
    "keys",
    [
        [b"x", b"x.png"],  # the former has no suffix of its own
        [b"x\n", b"x%0A"],  # which no file should be called, and what it is called instead
        [b"a", b"a.png/b.png"],
        [b"a.png", b"a.png/b.png"],
        [b"files.csv/a.png", b"b.png"],
    ],
)
def test_every_key_has_a_file_of_its_own(layout: str, keys: list[bytes], tmp_path: Path) -> None:
    values = {key: encoded(seed=number) for number, key in enumerate(keys)}
    write(tmp_path / "db", values)
    assert main(["data", "export", "db", "out", f"layout={layout}"]) == 0
    listed = [(tmp_path / "out" / path).read_bytes() for path, *_ in rows(tmp_path / "out")[1:]]
    assert listed == [values[key] for key in sorted(keys)]
    assert len(files(tmp_path / "out")) == 3


def lsun(path: Path, count: int = 40) -> dict[bytes, bytes]:
    """Keys as LSUN's, and its two formats."""
    values = {
        os.fsencode(f"{number * 7919 * 7919:040x}"[::-1]): encoded(("WEBP", "JPEG")[number % 2], number)
        for number in range(count)
    }
    write(path, values)
    return values


def test_the_suffix_is_that_of_the_format(tmp_path: Path, capsys) -> None:
    values = lsun(tmp_path / "db", 6)
    assert main(["data", "export", "db", "out"]) == 0
    assert capsys.readouterr().out == "out: 6 images\n"
    named = {key.decode() + (".webp" if value[:4] == b"RIFF" else ".jpg"): value for key, value in values.items()}
    found = files(tmp_path / "out")
    listed = found.pop("files.csv").decode()
    assert found == named
    assert listed == "".join(f"{line}\n" for line in ["path", *sorted(named)])


@pytest.mark.parametrize(
    ("value", "suffix"),
    [(encoded(kind), suffix) for kind, suffix in [("PNG", ".png"), ("BMP", ".bmp"), ("TIFF", ".tif")]]
    + [(b"\x93NUMPY\x01", ".npy"), (b"RIFF1234WAVE", ".bin"), (b"", ".bin"), (b"text", ".bin")],
)
def test_every_format_has_its_suffix(tmp_path: Path, value: bytes, suffix: str) -> None:
    write(tmp_path / "db", {b"key": value})
    export(Path("db"), Path("out"))
    assert (tmp_path / f"out/key{suffix}").read_bytes() == value


def test_the_tree_has_three_levels_of_first_letters(tmp_path: Path) -> None:
    write(tmp_path / "db", {b"abcdef": encoded(), b"xyz": encoded(), b"ab": encoded(), b"a/b/c": encoded()})
    assert main(["data", "export", "db", "out", "layout=tree"]) == 0
    names = ["a/_/b/a/b/c.png", "a/b/_/ab.png", "a/b/c/abcdef.png", "x/y/z/xyz.png"]
    assert sorted(files(tmp_path / "out")) == sorted([*names, "files.csv"])
    assert sorted(row[0] for row in rows(tmp_path / "out")[1:]) == sorted(names)


def test_a_fraction_is_drawn_by_seed(tmp_path: Path) -> None:
    values = lsun(tmp_path / "db", 40)
    for out, seed in (("one", 1), ("again", 1), ("other", 2)):
        assert main(["data", "export", "db", out, "fraction=0.25", f"seed={seed}"]) == 0
    one, again, other = (set(files(tmp_path / out)) for out in ("one", "again", "other"))
    assert one == again != other
    assert len(one) == 11
    assert {name.partition(".")[0].encode() for name in one - {"files.csv"}} <= set(values)
    assert len(rows(tmp_path / "one")) == 11


@pytest.mark.parametrize("key", [b"../up", b"/root", b"a//b", b"..", b"a\\b", b"nul\0", b"x" * 400, b"\xff" * 200])
def test_no_key_leads_out_of_the_folder(tmp_path: Path, key: bytes) -> None:
    write(tmp_path / "db", {key: encoded(), b"good": encoded()})
    for layout in ("flat", "tree"):
        export(Path("db"), Path(layout), layout=layout)
        found = files(tmp_path / layout)
        assert len(found) == 3
        assert set(found.values()) == {encoded(), found["files.csv"]}
        assert {row[0] for row in rows(tmp_path / layout)[1:]} == set(found) - {"files.csv"}
    assert {path.name for path in tmp_path.iterdir()} == {"db", "db.keys", "flat", "tree"}


def test_an_interrupted_export_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    values = lsun(tmp_path / "db", 40)
    interruption = Interruption(monkeypatch, "write_bytes", 15)
    assert main(["data", "export", "db", "out"]) == 130
    assert "the same command resumes" in capsys.readouterr().err
    assert not Path("out").exists()
    done = [path for path in Path(".out-unfinished/whole").iterdir() if path.name != "files.csv"]
    assert all(path.read_bytes() == values[path.stem.encode()] for path in done)
    interruption.end()
    assert main(["data", "export", "db", "out"]) == 0
    assert len([path for path in interruption.seen if path.name != ".made_by"]) <= 40 - len(done)
    assert len(done) > 5
    made = {Path(name).stem.encode(): value for name, value in files(Path("out")).items() if name != "files.csv"}
    assert made == values
    assert len(rows(tmp_path / "out")) == 41
    assert sorted(path.name for path in tmp_path.iterdir()) == ["db", "db.keys", "out"]
    capsys.readouterr()
    assert main(["data", "export", "db", "out"]) == 0
    assert capsys.readouterr().out == "out already exists\n"


def test_what_an_interrupted_export_of_others_left_is_not_taken_for_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    lsun(tmp_path / "db", 40)
    interruption = Interruption(monkeypatch, "write_bytes", 15)
    assert main(["data", "export", "db", "out", "fraction=0.9"]) == 130
    interruption.end()
    assert main(["data", "export", "db", "out"]) == 2
    assert "the unfinished work of another command" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (["nowhere", "out"], "there is no LMDB"),
        (["db", "full"], "full already exists"),
        (["db", "out", "fraction=0"], "fraction: expected a number above 0 and at most 1, got 0"),
        (["db", "out", "layout=deep"], "layout: expected one of 'flat', 'tree', got 'deep'"),
    ],
)
def test_what_can_not_be_exported_is_refused_in_one_line(arguments: list[str], answer: str, capsys) -> None:
    lsun(Path("db"), 2)
    fill(Path("full"), {"x.txt": b"x"})
    assert main(["data", "export", *arguments]) == 2
    err = capsys.readouterr().err
    assert answer in err
    assert err.count("\n") == 1
    assert not Path("out").exists()


def test_a_full_disk_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "in", {"1.png": os.urandom(500_000)})
    writing = module.open_for_writing
    monkeypatch.setattr(module, "open_for_writing", lambda path, room: writing(path, 1 << 14))
    with pytest.raises(ConfigError, match=r"can't write the LMDB .*whole: "):
        write_lmdb(Path("in"), Path("out"))
