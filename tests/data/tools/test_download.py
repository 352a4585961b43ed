"""Downloading data sets from a server on this machine."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from archives import PAIRED, UNPAIRED, files, refused, tarred, zipped, zipped_lmdb
from PIL import Image

from gantrain.cli.main import main
from gantrain.data.sets.catalog import NAMES
from gantrain.data.tools.download import download


def test_a_zip_becomes_the_folder_of_its_name(serve, capsys) -> None:
    serve("horse2zebra", zipped(UNPAIRED))
    assert main(["data", "download", "horse2zebra"]) == 0
    assert files(Path("datasets")) == UNPAIRED
    assert set(Path("datasets").iterdir()) == {Path("datasets/horse2zebra")}
    assert Image.open("datasets/horse2zebra/trainB/2.jpg").size == (16, 16)
    out, err = capsys.readouterr()
    assert out == "datasets/horse2zebra: testA 1, testB 1, trainA 1, trainB 2 images\n"
    assert err == ""  # Progress bars are only for terminals.


def test_a_tar_gz_is_unpacked_below_the_given_root(serve, tmp_path: Path) -> None:
    serve("facades", tarred(PAIRED))
    assert main(["data", "download", "facades", f"root={tmp_path}/deep/er"]) == 0
    assert files(tmp_path / "deep/er") == PAIRED
    assert not Path("datasets").exists()


@pytest.mark.parametrize("held_out", ["test", "val"])
def test_pairs_are_held_out_under_either_name(serve, held_out: str) -> None:
    names = {"maps/train/1.jpg", f"maps/{held_out}/1.jpg"}
    serve("maps", tarred(names))
    download("maps", Path("datasets"))
    assert files(Path("datasets")) == names


def test_domains_named_like_pairs_have_a_separate_folder(serve) -> None:
    assert NAMES["maps_unaligned"].endswith("cyclegan/datasets/maps.zip")
    assert NAMES["maps"].endswith("pix2pix/datasets/maps.tar.gz")
    names = {name.replace("horse2zebra", "maps") for name in UNPAIRED}
    serve("maps_unaligned", zipped(names))
    download("maps_unaligned", Path("datasets"))
    assert files(Path("datasets")) == {name.replace("maps", "maps_unaligned") for name in names}


def test_an_archive_may_have_its_phases_at_the_top(serve) -> None:
    serve("horse2zebra", zipped({name.removeprefix("horse2zebra/") for name in UNPAIRED}))
    download("horse2zebra", Path("datasets"))
    assert files(Path("datasets")) == UNPAIRED


def test_a_server_may_give_no_length(serve) -> None:
    serve("horse2zebra", zipped(UNPAIRED), length=None)
    download("horse2zebra", Path("datasets"))
    assert files(Path("datasets")) == UNPAIRED


def test_an_existing_data_set_is_left_unchanged(capsys) -> None:
    Path("datasets/facades").mkdir(parents=True)
    Path("datasets/.facades-unfinished").mkdir()  # Of a call that was killed at its end.
    assert main(["data", "download", "facades"]) == 0
    assert capsys.readouterr().out == "datasets/facades already exists\n"
    assert os.listdir("datasets") == ["facades"]
    assert files(Path("datasets")) == set()


def test_addresses_are_those_of_the_authors() -> None:
    assert len(NAMES) == 26
    for name, address in NAMES.items():
        if name.startswith("lsun_"):
            assert address == f"http://dl.yf.io/lsun/scenes/{name.removeprefix('lsun_')}_train_lmdb.zip"
            continue
        collection, file = address.removeprefix("http://efrosgans.eecs.berkeley.edu/").split("/datasets/")
        assert file == name.removesuffix("_unaligned") + {"cyclegan": ".zip", "pix2pix": ".tar.gz"}[collection]


def test_both_archives_of_an_lsun_category_are_downloaded(serve_lsun, capsys) -> None:
    serve_lsun(zipped_lmdb("tower_train_lmdb", 5), zipped_lmdb("tower_val_lmdb", 2))
    assert main(["data", "download", "lsun_tower"]) == 0
    out = capsys.readouterr().out
    assert "tower_val_lmdb: 2 images" in out
    assert "tower_train_lmdb: 5 images" in out
    assert {path.name for path in Path("datasets/lsun").iterdir()} == {"tower_train_lmdb", "tower_val_lmdb"}
    assert main(["train", "data=lsun_tower", "trainer.accelerator=cpu", "dry_run=true"]) == 0
    assert "image (N, 3, 64, 64), 5 in an epoch" in capsys.readouterr().out


def test_a_category_with_one_archive_is_completed(serve_lsun, capsys) -> None:
    serve_lsun(zipped_lmdb("tower_train_lmdb", 5)[:-200], zipped_lmdb("tower_val_lmdb", 2))
    assert main(["data", "download", "lsun_tower"]) == 2
    assert "the archive is corrupt" in capsys.readouterr().err
    assert {path.name for path in Path("datasets/lsun").iterdir()} == {"tower_val_lmdb"}
    serve_lsun(zipped_lmdb("tower_train_lmdb", 5), None)
    assert main(["data", "download", "lsun_tower"]) == 0
    out = capsys.readouterr().out
    assert "tower_val_lmdb already exists" in out
    assert "tower_train_lmdb: 5 images" in out


@pytest.mark.parametrize(("count", "part"), [(0, 1), (5, 0.5), (5, 0)])
def test_an_archive_without_a_complete_database_is_refused(serve_lsun, capsys, count: int, part: float) -> None:
    address = serve_lsun(None, zipped_lmdb("tower_val_lmdb", count, part)).replace("_train_", "_val_")
    assert re.search(f"{address}: .* no LMDB, or an empty or corrupt one", refused("lsun_tower", capsys))


@pytest.mark.parametrize("arguments", [["download", "--help"], ["download", "-h"], ["download", "maps", "--help"]])
def test_the_help_lists_every_name(arguments: list[str], capsys) -> None:
    assert main(["data", *arguments]) == 0
    out = capsys.readouterr().out
    assert out.startswith("gantrain data download NAME [root=datasets]\n")
    assert set(NAMES) <= set(out.replace(",", " ").split())
    assert max(len(line) for line in out.splitlines()) <= 100


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (["download"], "expected: gantrain data download NAME [root=datasets]; see gantrain data download --help"),
        (["download", "maps", "facades"], "expected: gantrain data download NAME [root=datasets]; "),
        (["download", "name=maps", "facades"], "expected: gantrain data download NAME [root=datasets]; "),
        (["download", "maps", "rot=x"], "rot=x: unknown key; did you mean 'root'?"),
        (["download", "horse2zbra"], "unknown data set 'horse2zbra'; did you mean 'horse2zebra'?"),
        (["fetch", "maps"], "no command 'data fetch'; "),
        (["download", "cityscapes"], "requested from cityscapes-dataset.com; datasets/cityscapes/train and "),
    ],
)
def test_invalid_arguments_are_refused_with_the_remedy(arguments: list[str], answer: str, capsys) -> None:
    assert main(["data", *arguments]) == 2
    err = capsys.readouterr().err
    assert answer in err
    assert err.count("\n") == 1
    assert list(Path().iterdir()) == []


def test_the_script_runs_the_command() -> None:
    script = Path(__file__).parents[3] / "scripts/download_dataset.sh"
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    result = subprocess.run([script, "cityscape"], capture_output=True, text=True, check=False, env=environment)
    assert result.returncode == 2
    assert "cityscape" in result.stderr
