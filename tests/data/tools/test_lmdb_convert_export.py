"""``gantrain data export``: the files of an LMDB, resumption, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from lmdb_files import Interruption, classes, encoded, files, fill, lsun, rows, write

from gantrain.cli.main import main
from gantrain.data.tools.lmdb_convert import export, write_lmdb


@pytest.mark.parametrize("other", [["layout=tree"], ["fraction=0.5"], ["fraction=0.5", "seed=1"], ["other"]])
def test_files_of_another_export_are_refused(other: list[str], tmp_path: Path, capsys) -> None:
    for name in ("db", "other"):
        lsun(tmp_path / name, 6)
    assert main(["data", "export", "db", "out", *(["fraction=0.5"] if "seed=1" in other else [])]) == 0
    capsys.readouterr()
    typed = ["other", "out"] if other == ["other"] else ["db", "out", *other]
    assert main(["data", "export", *typed]) == 2
    assert "out already exists: give another folder, or remove it" in capsys.readouterr().err


def test_exporting_and_importing_gives_the_same_files(tmp_path: Path) -> None:
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
        [b"x", b"x.png"],  # The first has no suffix.
        [b"x\n", b"x%0A"],  # An invalid file name, and its replacement.
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
def test_no_key_leads_outside_the_folder(tmp_path: Path, key: bytes) -> None:
    write(tmp_path / "db", {key: encoded(), b"good": encoded()})
    for layout in ("flat", "tree"):
        export(Path("db"), Path(layout), layout=layout)
        found = files(tmp_path / layout)
        assert len(found) == 3
        assert set(found.values()) == {encoded(), found["files.csv"]}
        assert {row[0] for row in rows(tmp_path / layout)[1:]} == set(found) - {"files.csv"}
    assert {path.name for path in tmp_path.iterdir()} == {"db", "db.keys", "flat", "tree"}


def test_an_interrupted_export_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
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


def test_an_unfinished_export_of_another_database_is_not_resumed(
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
def test_impossible_exports_are_refused_in_one_line(arguments: list[str], answer: str, capsys) -> None:
    lsun(Path("db"), 2)
    fill(Path("full"), {"x.txt": b"x"})
    assert main(["data", "export", *arguments]) == 2
    err = capsys.readouterr().err
    assert answer in err
    assert err.count("\n") == 1
    assert not Path("out").exists()
