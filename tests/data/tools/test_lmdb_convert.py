"""``gantrain data lmdb``: the content of the LMDB, resumption, and what is refused."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from lmdb_files import Interruption, classes, content, encoded, fill, write
from warm import Warm

from gantrain.cli.main import main
from gantrain.data.sets import lmdb_index
from gantrain.data.sets.lmdb_index import key_index, open_database
from gantrain.data.tools import lmdb_convert as module
from gantrain.data.tools.lmdb_convert import write_lmdb
from gantrain.errors import ConfigError


def test_a_database_contains_unchanged_files_under_their_paths(tmp_path: Path, capsys) -> None:
    made = fill(tmp_path / "in", classes())
    (tmp_path / "in/notes.txt").write_text("no image")
    assert main(["data", "lmdb", "in", "out"]) == 0
    assert capsys.readouterr().out == "out: 6 images in 2 classes\n"
    assert content(tmp_path / "out") == {name.encode(): value for name, value in made.items()}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [".made_by", "data.mdb"]


def test_a_complete_database_is_left_unchanged(tmp_path: Path, capsys) -> None:
    fill(tmp_path / "in", classes())
    write_lmdb(Path("in"), Path("out"))
    Path(".out-unfinished").mkdir()  # Of a call that was killed at its end.
    before = (tmp_path / "out/data.mdb").stat()
    capsys.readouterr()
    assert main(["data", "lmdb", "in", "out"]) == 0
    assert capsys.readouterr().out == "out already exists\n"
    assert (tmp_path / "out/data.mdb").stat() == before
    assert not Path(".out-unfinished").exists()


def test_a_database_of_another_folder_is_refused(tmp_path: Path, capsys) -> None:
    for name in ("in", "other"):
        fill(tmp_path / name, classes())
    write_lmdb(Path("in"), Path("out"))
    write(tmp_path / "found", {b"1": encoded()})
    for out in ("out", "found"):
        capsys.readouterr()
        assert main(["data", "lmdb", "other", out]) == 2
        printed, message = capsys.readouterr()
        assert printed == ""
        assert f"{out} already exists: give another folder, or remove it" in message
    (tmp_path / "link").symlink_to("in")
    assert main(["data", "lmdb", "link", "out"]) == 0


def test_several_transactions_contain_all_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COMMIT_BYTES", 3000)
    made = fill(tmp_path / "in", {f"{number}.png": encoded(seed=number, height=32) for number in range(20)})
    write_lmdb(Path("in"), Path("out"))
    assert content(tmp_path / "out") == {name.encode(): value for name, value in made.items()}


@pytest.mark.parametrize(("size", "count"), [(20, 300), (5000, 300), (300_000, 60)])
def test_a_database_has_space_for_files_of_any_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, count: int
) -> None:
    monkeypatch.setattr(lmdb_index, "COMMIT_BYTES", 1 << 16)  # The only margin.
    made = fill(tmp_path / "in", {f"{'x' * 200}{number}.png": os.urandom(size) for number in range(count)})
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


def test_an_interrupted_lmdb_command_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(module, "COMMIT_BYTES", 1)  # One transaction per file.
    made = fill(tmp_path / "in", classes(10))
    time.sleep(0.01)  # For the resolution of file times.
    interruption = Interruption(monkeypatch, "read_bytes", 4)
    assert main(["data", "lmdb", "in", "out"]) == 130
    assert "the same command resumes" in capsys.readouterr().err
    assert not Path("out").exists()
    interruption.end()
    assert main(["data", "lmdb", "in", "out"]) == 0
    assert len([path for path in interruption.seen if path.suffix in (".png", ".webp")]) == 6
    assert content(tmp_path / "out") == {name.encode(): value for name, value in made.items()}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


def test_files_changed_after_an_interruption_are_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COMMIT_BYTES", 1)
    made = fill(tmp_path / "in", {f"{number}.png": b"%d" % number for number in range(10)})
    Interruption(monkeypatch, "read_bytes", 6)
    assert main(["data", "lmdb", "in", "out"]) == 130
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    time.sleep(0.01)
    made |= fill(tmp_path / "in", {"1.png": b"X", "older": b"Y"})  # The same size.
    os.utime(tmp_path / "in/older", (1, 1))
    (tmp_path / "in/older").replace(tmp_path / "in/3.png")
    made["3.png"] = made.pop("older")
    (tmp_path / "in/2.png").unlink()
    del made["2.png"]
    assert main(["data", "lmdb", "in", "out"]) == 0
    assert content(tmp_path / "out") == {name.encode(): value for name, value in made.items()}
    assert len(key_index(open_database(tmp_path / "out"))) == 9


def test_a_killed_lmdb_command_resumes(tmp_path: Path, warm: Warm) -> None:
    made = fill(tmp_path / "in", {f"{number}.png": b"%d" % number for number in range(10)})
    script = (
        "import os\nfrom pathlib import Path\nfrom gantrain.data.tools import lmdb_convert as module\n"
        "module.COMMIT_BYTES, put, seen = 0, module._put, []\n"
        "def counted(*of):\n    seen.append(1)\n    if len(seen) == 5: os._exit(9)\n    return put(*of)\n"
        "module._put = counted\nmodule.write_lmdb(Path('in'), Path('out'))"
    )
    assert warm.run(["-c", script]).returncode == 9
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
def test_an_unsuitable_folder_is_refused_in_one_line(arguments: list[str], answer: str, capsys) -> None:
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


def test_a_full_disk_is_reported_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "in", {"1.png": os.urandom(500_000)})
    writing = module.open_for_writing
    monkeypatch.setattr(module, "open_for_writing", lambda path, room: writing(path, 1 << 14))
    with pytest.raises(ConfigError, match=r"can't write the LMDB .*whole: "):
        write_lmdb(Path("in"), Path("out"))
