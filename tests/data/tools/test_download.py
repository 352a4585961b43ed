"""Fetching data sets: whole or not at all, and one line for whatever goes wrong. The server is on this machine."""

from __future__ import annotations

import io
import shutil
import stat
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import lmdb
import pytest
from PIL import Image

from gantrain.cli.main import main
from gantrain.data.sets.catalog import NAMES
from gantrain.data.tools import download as module
from gantrain.data.tools.download import download
from gantrain.errors import ConfigError
from gantrain.runtime.directories import atomic_dir, resumable_dir

UNPAIRED = {"horse2zebra/trainA/1.jpg", "horse2zebra/trainB/1.jpg", "horse2zebra/trainB/2.jpg"} | {
    "horse2zebra/testA/1.jpg",
    "horse2zebra/testB/1.jpg",
}
PAIRED = {"facades/train/1.jpg", "facades/train/2.jpg", "facades/test/1.jpg", "facades/val/1.jpg"}


def image() -> bytes:
    file = io.BytesIO()
    Image.effect_noise((16, 16), 50).save(file, "jpeg")
    return file.getvalue()


def zipped(names: set[str], *extra: tuple[zipfile.ZipInfo, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in sorted(names):
            archive.writestr(name, image())
        for member, content in extra:
            archive.writestr(member, content)
    return file.getvalue()


def tarred(names: set[str], *extra: tarfile.TarInfo) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name in sorted(names):
            member = tarfile.TarInfo(name)
            content = image()
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for member in extra:
            archive.addfile(member)
    return file.getvalue()


def link(
    name: str, kind: type[zipfile.ZipInfo] | type[tarfile.TarInfo]
) -> tuple[zipfile.ZipInfo, bytes] | tarfile.TarInfo:
    """A symbolic link to /etc, as a member of an archive of that kind."""
    member = kind(name)
    if isinstance(member, tarfile.TarInfo):
        member.type, member.linkname = tarfile.SYMTYPE, "/etc"
        return member
    member.create_system, member.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return member, b"/etc"


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """``serve(name, body)`` has the archive of ``name`` answered with ``body``, and returns its address.

    With a ``tag`` for that version of it, the rest of an archive can be asked for. A connection may break after a
    ``part`` of what was asked for.
    """
    answers: dict[str, tuple[bytes, int | None, str, float]] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path not in answers:
                self.send_error(404)
                return
            body, length, tag, part = answers[self.path]
            start = 0
            if tag and self.headers["If-Range"] == tag:
                start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
            if start >= len(body) > 0:
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            if length is not None:
                self.send_header("Content-Length", str(length - start))
            if tag:
                self.send_header("ETag", tag)
            self.end_headers()
            self.wfile.write(body[start:][: int(part * len(body[start:]))])

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setenv("no_proxy", "127.0.0.1")

    def answer(name: str, body: bytes | None, *, says: int | None = -1, tag: str = "", part: float = 1.0) -> str:
        path = "/" + NAMES[name].rpartition("/")[2]
        address = f"http://127.0.0.1:{server.server_port}{path}"
        monkeypatch.setitem(NAMES, name, address)
        if body is not None:
            answers[path] = body, len(body) if says == -1 else says, tag, part
        return address

    yield answer
    server.shutdown()
    server.server_close()


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def refused(name: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What ``gantrain data download`` says, which is one line, and of the data set nothing stays."""
    before = set(Path().rglob("*"))
    assert main(["data", "download", name]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("gantrain: ")
    assert err.endswith("\n")
    assert err.count("\n") == 1
    assert set(Path().rglob("*")) == before
    return err


# ---- what is fetched


def test_a_zip_becomes_the_folder_of_its_name(serve, capsys) -> None:
    serve("horse2zebra", zipped(UNPAIRED))
    assert main(["data", "download", "horse2zebra"]) == 0
    assert files(Path("datasets")) == UNPAIRED
    assert set(Path("datasets").iterdir()) == {Path("datasets/horse2zebra")}
    assert Image.open("datasets/horse2zebra/trainB/2.jpg").size == (16, 16)
    out, err = capsys.readouterr()
    assert out == "datasets/horse2zebra: testA 1, testB 1, trainA 1, trainB 2 images\n"
    assert err == ""  # a bar is for a terminal


def test_a_tar_gz_becomes_the_folder_of_its_name_below_the_root_that_is_typed(serve, tmp_path: Path) -> None:
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


def test_two_domains_that_share_a_name_with_pairs_have_a_folder_of_their_own(serve) -> None:
    assert NAMES["maps_unaligned"].endswith("cyclegan/datasets/maps.zip")
    assert NAMES["maps"].endswith("pix2pix/datasets/maps.tar.gz")
    names = {name.replace("horse2zebra", "maps") for name in UNPAIRED}
    serve("maps_unaligned", zipped(names))
    download("maps_unaligned", Path("datasets"))
    assert files(Path("datasets")) == {name.replace("maps", "maps_unaligned") for name in names}


def test_an_archive_without_a_folder_around_its_phases_is_taken_too(serve) -> None:
    serve("horse2zebra", zipped({name.removeprefix("horse2zebra/") for name in UNPAIRED}))
    download("horse2zebra", Path("datasets"))
    assert files(Path("datasets")) == UNPAIRED


def test_a_server_that_does_not_say_how_much_there_is_is_believed(serve) -> None:
    serve("horse2zebra", zipped(UNPAIRED), says=None)
    download("horse2zebra", Path("datasets"))
    assert files(Path("datasets")) == UNPAIRED


def test_what_is_there_is_left_alone(capsys) -> None:
    Path("datasets/facades").mkdir(parents=True)
    assert main(["data", "download", "facades"]) == 0
    assert capsys.readouterr().out == "datasets/facades already exists\n"
    assert files(Path("datasets")) == set()


def test_the_addresses_are_those_that_the_authors_publish() -> None:
    assert len(NAMES) == 26
    for name, address in NAMES.items():
        if name.startswith("lsun_"):
            assert address == f"http://dl.yf.io/lsun/scenes/{name.removeprefix('lsun_')}_train_lmdb.zip"
            continue
        collection, file = address.removeprefix("http://efrosgans.eecs.berkeley.edu/").split("/datasets/")
        assert file == name.removesuffix("_unaligned") + {"cyclegan": ".zip", "pix2pix": ".tar.gz"}[collection]


# ---- LSUN


def zipped_lmdb(name: str, count: int, part: float = 1) -> bytes:
    """The archive of a database of so many images, of which only a part may be there."""
    with lmdb.open(name, map_size=1 << 24) as environment, environment.begin(write=True) as transaction:
        for number in range(count):
            transaction.put(b"%040x" % number, image())
    data = Path(name, "data.mdb").read_bytes()
    shutil.rmtree(name)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(f"{name}/data.mdb", data[: int(len(data) * part)])
        archive.writestr(f"{name}/lock.mdb", b"")
    return file.getvalue()


@pytest.fixture
def serve_lsun(serve, monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes | None, bytes | None], str]:
    """Has the two archives of LSUN's towers answered, and returns the address of the larger."""

    def answer(train: bytes | None, val: bytes | None) -> str:
        monkeypatch.setitem(NAMES, "of val", "/tower_val_lmdb.zip")
        serve("of val", val)
        return serve("lsun_tower", train)

    return answer


def test_a_category_of_lsun_comes_in_two_archives_and_can_be_trained_on(serve_lsun, capsys) -> None:
    serve_lsun(zipped_lmdb("tower_train_lmdb", 5), zipped_lmdb("tower_val_lmdb", 2))
    assert main(["data", "download", "lsun_tower"]) == 0
    assert capsys.readouterr().out == (
        "datasets/lsun/tower_val_lmdb: 2 images\ndatasets/lsun/tower_train_lmdb: 5 images\n"
    )
    assert {path.name for path in Path("datasets/lsun").iterdir()} == {"tower_train_lmdb", "tower_val_lmdb"}
    assert main(["train", "data=lsun_tower", "trainer.accelerator=cpu", "dry_run=true"]) == 0
    assert "image (N, 3, 64, 64), 5 in an epoch" in capsys.readouterr().out


def test_a_category_of_which_one_archive_came_is_completed(serve_lsun, capsys) -> None:
    serve_lsun(zipped_lmdb("tower_train_lmdb", 5)[:-200], zipped_lmdb("tower_val_lmdb", 2))
    assert main(["data", "download", "lsun_tower"]) == 2
    assert "the archive is corrupt" in capsys.readouterr().err
    assert {path.name for path in Path("datasets/lsun").iterdir()} == {"tower_val_lmdb"}
    serve_lsun(zipped_lmdb("tower_train_lmdb", 5), None)
    assert main(["data", "download", "lsun_tower"]) == 0
    assert capsys.readouterr().out == (
        "datasets/lsun/tower_val_lmdb already exists\ndatasets/lsun/tower_train_lmdb: 5 images\n"
    )


@pytest.mark.parametrize(("count", "part"), [(0, 1), (5, 0.5), (5, 0)])
def test_an_archive_without_a_whole_database_is_refused(serve_lsun, capsys, count: int, part: float) -> None:
    address = serve_lsun(None, zipped_lmdb("tower_val_lmdb", count, part)).replace("_train_", "_val_")
    assert refused("lsun_tower", capsys) == (
        f"gantrain: {address}: the archive contains no LMDB, or an empty or corrupt one\n"
    )


# ---- what goes wrong


def test_a_connection_that_ends_early_is_told_by_the_length(serve, capsys) -> None:
    body = zipped(UNPAIRED)
    address = serve("horse2zebra", body[:-100], says=len(body))
    assert refused("horse2zebra", capsys) == (
        f"gantrain: {address}: the connection ended after {len(body) - 100:,} of {len(body):,} bytes; try again\n"
    )


@pytest.mark.parametrize(("name", "archive"), [("horse2zebra", zipped(UNPAIRED)), ("facades", tarred(PAIRED))])
@pytest.mark.parametrize("part", [0, 0.5, 0.99])
def test_a_part_of_an_archive_is_refused(serve, capsys, name: str, archive: bytes, part: float) -> None:
    address = serve(name, archive[: int(len(archive) * part)])
    assert refused(name, capsys).startswith(f"gantrain: {address}: the archive is corrupt (")


def test_a_page_instead_of_an_archive_is_refused(serve, capsys) -> None:
    for name in ("horse2zebra", "facades"):
        serve(name, b"<html>We have moved</html>")
        assert "the archive is corrupt" in refused(name, capsys)


def test_one_wrong_byte_in_a_zip_is_found_by_its_checksum(serve, capsys) -> None:
    archive = bytearray(zipped(UNPAIRED))  # images are stored as they are, the first after its 30 bytes and its name
    archive[200] ^= 1
    serve("horse2zebra", bytes(archive))
    assert "checksum mismatch of horse2zebra/testA/1.jpg" in refused("horse2zebra", capsys)


def test_a_wrong_checksum_at_the_end_of_a_tar_gz_is_found(serve, capsys) -> None:
    archive = bytearray(tarred(PAIRED))
    archive[-5] ^= 1  # the last eight bytes are the checksum and the length
    serve("facades", bytes(archive))
    assert "the archive is corrupt (CRC check failed" in refused("facades", capsys)


@pytest.mark.parametrize(
    "member", ["../evil.jpg", "horse2zebra/../../evil.jpg", "/evil.jpg", "C:\\evil.jpg", "..\\e.jpg"]
)
def test_a_zip_that_would_write_elsewhere_is_refused_by_name(serve, capsys, member: str) -> None:
    serve("horse2zebra", zipped(UNPAIRED | {member}))
    assert f"it contains a path outside its folder: {member}" in refused("horse2zebra", capsys)


def test_a_link_in_a_zip_is_refused(serve, capsys) -> None:
    serve("horse2zebra", zipped(UNPAIRED, link("horse2zebra/trainA/etc", zipfile.ZipInfo)))
    assert "it contains a path outside its folder: horse2zebra/trainA/etc" in refused("horse2zebra", capsys)


def test_a_tar_that_would_write_elsewhere_is_refused(serve, capsys) -> None:
    serve("facades", tarred(PAIRED | {"../evil.jpg"}))
    assert "../evil.jpg" in refused("facades", capsys)


def test_a_link_in_a_tar_that_leads_elsewhere_is_refused(serve, capsys) -> None:
    serve("facades", tarred(PAIRED, link("facades/train/etc", tarfile.TarInfo)))
    assert "facades/train/etc" in refused("facades", capsys)


def test_an_absolute_name_in_a_tar_stays_below_the_folder(serve, tmp_path: Path) -> None:
    serve("facades", tarred({*PAIRED, f"{tmp_path}/evil.jpg"}))
    download("facades", Path("datasets"))
    assert files(Path("datasets")) == PAIRED
    assert not (tmp_path / "evil.jpg").exists()


@pytest.mark.parametrize("missing", ["trainA", "testB"])
def test_an_archive_without_images_of_a_phase_is_refused(serve, capsys, missing: str) -> None:
    names = {name for name in UNPAIRED if missing not in name} | {f"horse2zebra/{missing}/notes.txt"}
    address = serve("horse2zebra", zipped(names))
    assert refused("horse2zebra", capsys) == f"gantrain: {address}: the archive contains no images in {missing}\n"


def test_an_archive_that_the_server_does_not_have_is_named(serve, capsys) -> None:
    address = serve("horse2zebra", None)
    assert refused("horse2zebra", capsys) == (
        f"gantrain: can't download {address}: the server returns 404 (Not Found)\n"
    )


def test_without_a_server_one_line_says_so(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setitem(NAMES, "horse2zebra", "http://127.0.0.1:1/horse2zebra.zip")
    assert refused("horse2zebra", capsys) == (
        "gantrain: can't reach http://127.0.0.1:1/horse2zebra.zip: Connection refused\n"
    )


def test_an_encrypted_archive_is_refused(serve, capsys) -> None:
    archive = bytearray(zipped(UNPAIRED))
    for place in (archive.index(b"PK\x03\x04") + 6, archive.index(b"PK\x01\x02") + 8):
        archive[place] |= 1  # the flag of encryption, of the first image
    serve("horse2zebra", bytes(archive))
    assert "the archive is corrupt (File 'horse2zebra/testA/1.jpg' is encrypted" in refused("horse2zebra", capsys)


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, zipfile.ZIP_DEFLATED])
def test_broken_compressed_members_are_refused(serve, capsys, compression: int) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("horse2zebra/trainA/1.jpg", image() * 10)
    broken = bytearray(file.getvalue())
    broken[60:90] = bytes(30)
    serve("horse2zebra", bytes(broken))
    assert "the archive is corrupt" in refused("horse2zebra", capsys)


@pytest.mark.parametrize("name", ["horse2zebra", "facades"])
def test_a_full_disk_is_one_line(serve, monkeypatch: pytest.MonkeyPatch, capsys, name: str) -> None:
    serve(name, zipped(UNPAIRED) if name == "horse2zebra" else tarred(PAIRED))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    monkeypatch.setattr(tarfile, "copyfileobj", full)
    assert refused(name, capsys) == f"gantrain: can't write datasets/{name}: No space left on device\n"


def test_what_is_larger_than_the_disk_is_not_begun(serve, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    body = zipped(UNPAIRED)
    address = serve("horse2zebra", body)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    assert refused("horse2zebra", capsys) == (
        f"gantrain: {address} takes {len(body):,} bytes, and only 1,000 are free in datasets\n"
    )


# ---- going on


def begun(serve, capsys: pytest.CaptureFixture[str], body: bytes) -> None:
    """A download of which half has come."""
    serve("horse2zebra", body, tag='"1"', part=0.5)
    assert main(["data", "download", "horse2zebra"]) == 2
    assert "the connection ended after" in capsys.readouterr().err
    assert Path("datasets/.horse2zebra-unfinished/fetched/archive").stat().st_size == len(body) // 2


def test_a_download_goes_on_where_it_was(serve, capsys) -> None:
    body = zipped(UNPAIRED)
    begun(serve, capsys, body)
    marked = Path("datasets/.horse2zebra-unfinished/fetched/archive")
    with marked.open("r+b") as file:  # what has come is not fetched again: an image that is changed stays changed
        file.seek(body.index(b"horse2zebra/testA/1.jpg"))
        file.write(b"horse2zebra/testA/9.jpg")
    changed = body[::-1].replace(b"horse2zebra/testA/1.jpg"[::-1], b"horse2zebra/testA/9.jpg"[::-1], 1)[::-1]
    serve("horse2zebra", changed, tag='"1"')
    assert main(["data", "download", "horse2zebra"]) == 0
    assert files(Path("datasets")) == {name.replace("testA/1", "testA/9") for name in UNPAIRED}


def test_another_archive_by_now_is_fetched_from_its_beginning(serve, capsys) -> None:
    begun(serve, capsys, zipped(UNPAIRED))
    serve("horse2zebra", zipped(UNPAIRED | {"horse2zebra/trainA/new.jpg"}), tag='"2"')
    assert main(["data", "download", "horse2zebra"]) == 0
    assert files(Path("datasets")) == UNPAIRED | {"horse2zebra/trainA/new.jpg"}


def test_what_an_interruption_has_left_whole_is_not_fetched_again(
    serve, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    def interrupted(*_: object) -> None:
        assert any(path.name == "1.jpg" for path in Path().rglob("*"))
        raise KeyboardInterrupt

    serve("horse2zebra", zipped(UNPAIRED), tag='"1"')
    with monkeypatch.context() as patch:
        patch.setattr(module, "_count_images", interrupted)
        assert main(["data", "download", "horse2zebra"]) == 130
    assert capsys.readouterr().err == "gantrain: interrupted; the same command resumes\n"
    assert not Path("datasets/horse2zebra").exists()
    assert not any(path.name == "1.jpg" for path in Path().rglob("*"))
    assert main(["data", "download", "horse2zebra"]) == 0
    assert files(Path("datasets")) == UNPAIRED


def test_a_bad_archive_is_not_gone_on_with(serve, capsys) -> None:
    body = zipped(UNPAIRED)
    begun(serve, capsys, body)
    serve("horse2zebra", body[:-50], tag='"1"')
    assert main(["data", "download", "horse2zebra"]) == 2
    assert "the archive is corrupt" in capsys.readouterr().err
    assert list(Path("datasets").iterdir()) == []


def test_only_one_process_at_a_time_fetches_an_archive(serve, capsys) -> None:
    address = serve("horse2zebra", zipped(UNPAIRED))
    with resumable_dir(Path("datasets/horse2zebra"), (), f"{address}\n"):
        Path("datasets/.horse2zebra-unfinished/fetched").mkdir()
        assert main(["data", "download", "horse2zebra"]) == 2
        assert capsys.readouterr().err == (
            "gantrain: another process is writing datasets/horse2zebra: wait for it, or give another folder\n"
        )


# ---- whole or nothing


def test_a_folder_that_somebody_else_completed_meanwhile_stays(tmp_path: Path) -> None:
    with atomic_dir(tmp_path / "made") as folder:
        folder.mkdir()
        (folder / "ours").touch()
        (tmp_path / "made").mkdir()
        (tmp_path / "made/theirs").touch()
    assert files(tmp_path) == {"made/theirs"}


def test_folders_above_that_others_have_begun_to_use_stay(tmp_path: Path) -> None:
    def fail() -> None:
        with atomic_dir(tmp_path / "a/b/made") as folder:
            folder.mkdir()
            (tmp_path / "a/other").touch()
            raise ConfigError("no")

    with pytest.raises(ConfigError, match="no"):
        fail()
    assert files(tmp_path) == {"a/other"}
    assert list((tmp_path / "a").iterdir()) == [tmp_path / "a/other"]


# ---- the command


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
        (["download"], "usage: gantrain data download NAME [root=datasets]; see gantrain data download --help"),
        (["download", "maps", "facades"], "usage: gantrain data download NAME [root=datasets]; "),
        (["download", "name=maps", "facades"], "usage: gantrain data download NAME [root=datasets]; "),
        (["download", "maps", "rot=x"], "rot=x: unknown key; did you mean 'root'?"),
        (["download", "horse2zbra"], "unknown data set 'horse2zbra'; did you mean 'horse2zebra'?"),
        (["fetch", "maps"], "no command 'data fetch'; "),
        (["download", "cityscapes"], "requested from cityscapes-dataset.com; datasets/cityscapes/train and "),
    ],
)
def test_a_mistake_is_answered_with_what_would_work(arguments: list[str], answer: str, capsys) -> None:
    assert main(["data", *arguments]) == 2
    err = capsys.readouterr().err
    assert answer in err
    assert err.count("\n") == 1
    assert list(Path().iterdir()) == []


def test_the_script_is_the_command() -> None:
    script = Path(__file__).parents[3] / "scripts/download_dataset.sh"
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    result = subprocess.run([script, "cityscape"], capture_output=True, text=True, check=False, env=environment)
    assert result.returncode == 2
    assert "cityscape" in result.stderr
