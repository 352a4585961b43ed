"""Which shards ``data.root`` stands for."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from sharded import made, names, pack, png, refusal, samples, shards

from gantrain.cli.main import main
from gantrain.data.sets.shards import expanded

pytestmark = pytest.mark.usefixtures("shard_indices")


@pytest.mark.parametrize(
    "pattern",
    [
        "plain",
        "{000..012}",
        "a{8..11}b",
        "{9..11}",
        "{03..1}",
        "{1..1}",
        "{a,b}",
        "{a,}x",
        "x{a,b}-{0..1}{c,d}",
        "{a,b{1,2}c}",
        "{a,{8..10}}",
        "{single}",
        "{1..}",
        "{a..3}",
        "a}b{c",
        "{}",
    ],
)
def test_braces_are_expanded_as_by_a_shell(pattern: str) -> None:
    by_shell = subprocess.run(["bash", "-c", f"printf '%s\\n' {pattern}"], capture_output=True, text=True, check=True)
    assert [*expanded(pattern)] == by_shell.stdout.splitlines()


def test_a_root_is_a_folder_a_file_or_a_pattern(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(tmp_path, each=1)
    pack(tmp_path / "part-0002.tar", samples([20]))
    (tmp_path / "part-000.txt").write_text("no shard")
    (tmp_path / "._part-000.tar").write_text("of another computer")
    (tmp_path / "folder.tar").mkdir()
    shutil.copy(tmp_path / "part-003.tar", tmp_path / "odd{1,2}.TAR")
    monkeypatch.setenv("HOME", str(tmp_path))

    def found(root: str) -> list[str]:
        source = shards(root).readers["image"].source
        return [shard.path.relative_to(tmp_path).as_posix() for shard in source.shards]

    some = [f"part-{number:03}.tar" for number in range(12)]
    everything = ["odd{1,2}.TAR", "part-000.tar", "part-0002.tar", *some[1:]]
    assert found(str(tmp_path)) == found(".") == found("~") == everything
    assert found("part-*.tar") == everything[1:]
    assert found("part-{003..005}.tar") == some[3:6]
    assert found("~/part-{005..003}.tar") == some[5:2:-1]
    assert found("part-{003,00*}.tar") == [some[3], some[0], "part-0002.tar", *some[1:3], *some[4:10]]
    assert found("part-004.tar") == ["part-004.tar"]
    assert found("odd{1,2}.TAR") == ["odd{1,2}.TAR"]


def test_names_of_shards_in_several_folders_differ(tmp_path: Path) -> None:
    for part in ("a", "b/c"):
        made(tmp_path / part, 1)
    assert names(shards(tmp_path / "{a,b/c}/part-000.tar")) == ["a/part-000/00000.png", "b/c/part-000/00000.png"]


@pytest.mark.parametrize(
    ("root", "parts"),
    [
        ("nowhere", ["no folder nowhere"]),
        ("nowhere.tar", ["no shard nowhere.tar"]),
        ("good/part-{000..004}.tar", ["no shard good/part-003.tar"]),
        ("good/*.tgz", ["no shard matches good/*.tgz"]),
        ("images", ["no .tar files in images", "data=single reads images"]),
        ("above", ["no .tar files in above", "some in above/one, above/two"]),
        ("packed", ["packed/1.tar.gz is compressed", "unpack"]),
        ("packed/1.tar.gz", ["packed/1.tar.gz is compressed", "unpack"]),
        ("packed/*", ["packed/1.tar.gz is compressed", "unpack"]),
        ("disguised", ["/disguised/1.tar is compressed", "unpack"]),
        ("pipe:cat 1.tar", ["data.root=pipe:cat 1.tar: ", "s3://"]),
        ("text.tar", ["/text.tar is not a tar file ("]),
        ("empty.tar", ["/empty.tar is not a tar file ("]),
    ],
)
def test_an_invalid_root_is_refused_in_one_line(root: str, parts: list[str]) -> None:
    made(Path("good"))
    for part in ("one", "two"):
        made(Path("above") / part, 1)
    Path("images").mkdir()
    Path("images/1.png").write_bytes(png(0))
    for path in ("packed/1.tar.gz", "disguised/1.tar"):
        Path(path).parent.mkdir()
        with tarfile.open(path, "w:gz") as archive:
            archive.add("images/1.png")
    Path("text.tar").write_text("no shard\n" * 999)
    Path("empty.tar").touch()
    message = refusal(root)
    assert message.startswith("data.root")
    for part in parts:
        assert part in message


def test_a_pattern_that_the_shell_expanded_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    made(Path("data"))
    words = [f"data.root=data/part-{number:03}.tar" for number in range(3)]
    for command in (["train"], ["test", "run=checkpoints/run"], ["data", "check"]):
        assert main([*command, "data=shards", *words]) == 2
        message = capsys.readouterr().err
        for part in ("data.root is given 3 times", "data.root=data/part-000.tar", "data.root=data/part-002.tar"):
            assert part in message
        assert message.endswith("quote it: 'data.root=shards/{000..012}.tar'\n")
    assert main(["train", "data=shards", "data.root='data/part-{000..002}.tar'", "dry_run=true"]) == 0
    assert "12 in an epoch" in capsys.readouterr().out
