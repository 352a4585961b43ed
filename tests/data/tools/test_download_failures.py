"""Downloads that fail: corrupt archives, servers that don't respond, and resumption."""

from __future__ import annotations

import io
import shutil
import tarfile
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from archives import PAIRED, UNPAIRED, files, image, link, refused, tarred, zipped

from gantrain.cli.main import main
from gantrain.data.sets.catalog import NAMES
from gantrain.data.tools import download as module
from gantrain.data.tools.download import download
from gantrain.runtime.directories import resumable_dir


def test_a_connection_that_ends_early_is_detected_by_the_length(serve, capsys) -> None:
    body = zipped(UNPAIRED)
    address = serve("horse2zebra", body[:-100], length=len(body))
    message = refused("horse2zebra", capsys)
    for part in (f"{address}: ", f"{len(body) - 100:,} of {len(body):,} bytes", "try again"):
        assert part in message


@pytest.mark.parametrize(("name", "archive"), [("horse2zebra", zipped(UNPAIRED)), ("facades", tarred(PAIRED))])
@pytest.mark.parametrize("part", [0, 0.5, 0.99])
def test_a_truncated_archive_is_refused(serve, capsys, name: str, archive: bytes, part: float) -> None:
    address = serve(name, archive[: int(len(archive) * part)])
    assert f"{address}: the archive is corrupt (" in refused(name, capsys)


def test_a_page_instead_of_an_archive_is_refused(serve, capsys) -> None:
    for name in ("horse2zebra", "facades"):
        serve(name, b"<html>We have moved</html>")
        assert "the archive is corrupt" in refused(name, capsys)


def test_one_wrong_byte_in_a_zip_is_found_by_its_checksum(serve, capsys) -> None:
    archive = bytearray(
        zipped(UNPAIRED)
    )  # Images are stored uncompressed, the first after a header of 30 bytes and its name.
    archive[200] ^= 1
    serve("horse2zebra", bytes(archive))
    assert "checksum mismatch of horse2zebra/testA/1.jpg" in refused("horse2zebra", capsys)


def test_a_wrong_checksum_at_the_end_of_a_tar_gz_is_found(serve, capsys) -> None:
    archive = bytearray(tarred(PAIRED))
    archive[-5] ^= 1  # The last eight bytes are the checksum and the length.
    serve("facades", bytes(archive))
    assert "the archive is corrupt (CRC check failed" in refused("facades", capsys)


@pytest.mark.parametrize(
    "member", ["../evil.jpg", "horse2zebra/../../evil.jpg", "/evil.jpg", "C:\\evil.jpg", "..\\e.jpg"]
)
def test_a_zip_that_would_write_outside_the_folder_is_refused(serve, capsys, member: str) -> None:
    serve("horse2zebra", zipped(UNPAIRED | {member}))
    assert f"it contains a path outside its folder: {member}" in refused("horse2zebra", capsys)


def test_a_link_in_a_zip_is_refused(serve, capsys) -> None:
    serve("horse2zebra", zipped(UNPAIRED, link("horse2zebra/trainA/etc", zipfile.ZipInfo)))
    assert "it contains a path outside its folder: horse2zebra/trainA/etc" in refused("horse2zebra", capsys)


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
def test_a_header_of_any_size_is_refused_before_it_is_read(serve, capsys, kind: bytes) -> None:
    member = tarfile.TarInfo("facades/1.jpg")
    member.type, member.size = kind, 7 << 30
    serve("facades", tarred(PAIRED, member))
    assert "the archive is corrupt (it has a header of 7.51619e+09 bytes)" in refused("facades", capsys)


def test_a_tar_that_would_write_outside_the_folder_is_refused(serve, capsys) -> None:
    serve("facades", tarred(PAIRED | {"../evil.jpg"}))
    assert "../evil.jpg" in refused("facades", capsys)


def test_a_link_in_a_tar_to_outside_the_folder_is_refused(serve, capsys) -> None:
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
    message = refused("horse2zebra", capsys)
    assert f"{address}: " in message
    assert message.endswith(f"no images in {missing}\n")


def test_an_archive_that_is_missing_on_the_server_is_named(serve, capsys) -> None:
    address = serve("horse2zebra", None)
    message = refused("horse2zebra", capsys)
    assert f"can't download {address}: " in message
    assert "404 (Not Found)" in message


def test_a_refused_connection_is_reported_in_one_line(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setitem(NAMES, "horse2zebra", "http://127.0.0.1:1/horse2zebra.zip")
    assert "http://127.0.0.1:1/horse2zebra.zip: Connection refused" in refused("horse2zebra", capsys)


def test_an_encrypted_archive_is_refused(serve, capsys) -> None:
    archive = bytearray(zipped(UNPAIRED))
    for place in (archive.index(b"PK\x03\x04") + 6, archive.index(b"PK\x01\x02") + 8):
        archive[place] |= 1  # The encryption flag of the first image.
    serve("horse2zebra", bytes(archive))
    assert "the archive is corrupt (File 'horse2zebra/testA/1.jpg' is encrypted" in refused("horse2zebra", capsys)


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, zipfile.ZIP_DEFLATED])
def test_corrupt_compressed_members_are_refused(serve, capsys, compression: int) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("horse2zebra/trainA/1.jpg", image() * 10)
    broken = bytearray(file.getvalue())
    broken[60:90] = bytes(30)
    serve("horse2zebra", bytes(broken))
    assert "the archive is corrupt" in refused("horse2zebra", capsys)


@pytest.mark.parametrize("name", ["horse2zebra", "facades"])
def test_a_full_disk_is_reported_in_one_line(serve, monkeypatch: pytest.MonkeyPatch, capsys, name: str) -> None:
    serve(name, zipped(UNPAIRED) if name == "horse2zebra" else tarred(PAIRED))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    monkeypatch.setattr(tarfile, "copyfileobj", full)
    assert f"datasets/{name}: No space left on device; free some space" in refused(name, capsys)


def test_an_archive_larger_than_the_free_space_is_refused(serve, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    body = zipped(UNPAIRED)
    address = serve("horse2zebra", body)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    message = refused("horse2zebra", capsys)
    for part in (address, f"{len(body):,} bytes", "1,000 are free in datasets"):
        assert part in message


def begun(serve, capsys: pytest.CaptureFixture[str], body: bytes) -> None:
    """Interrupt a download halfway."""
    serve("horse2zebra", body, tag='"1"', part=0.5)
    assert main(["data", "download", "horse2zebra"]) == 2
    assert "the connection ended after" in capsys.readouterr().err
    assert Path("datasets/.horse2zebra-unfinished/fetched/archive").stat().st_size == len(body) // 2


def test_a_download_is_resumed(serve, capsys) -> None:
    body = zipped(UNPAIRED)
    begun(serve, capsys, body)
    marked = Path("datasets/.horse2zebra-unfinished/fetched/archive")
    with marked.open("r+b") as file:  # This part is not downloaded again: the change remains.
        file.seek(body.index(b"horse2zebra/testA/1.jpg"))
        file.write(b"horse2zebra/testA/9.jpg")
    changed = body[::-1].replace(b"horse2zebra/testA/1.jpg"[::-1], b"horse2zebra/testA/9.jpg"[::-1], 1)[::-1]
    serve("horse2zebra", changed, tag='"1"')
    assert main(["data", "download", "horse2zebra"]) == 0
    assert files(Path("datasets")) == {name.replace("testA/1", "testA/9") for name in UNPAIRED}


def test_a_changed_archive_is_downloaded_from_its_beginning(serve, capsys) -> None:
    begun(serve, capsys, zipped(UNPAIRED))
    serve("horse2zebra", zipped(UNPAIRED | {"horse2zebra/trainA/new.jpg"}), tag='"2"')
    assert main(["data", "download", "horse2zebra"]) == 0
    assert files(Path("datasets")) == UNPAIRED | {"horse2zebra/trainA/new.jpg"}


def test_a_complete_archive_is_not_downloaded_again(serve, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    def interrupted(*_: object, **__: object) -> None:
        assert any(path.name == "1.jpg" for path in Path().rglob("*"))
        raise KeyboardInterrupt

    serve("horse2zebra", zipped(UNPAIRED), tag='"1"')
    with monkeypatch.context() as patch:
        patch.setattr(module, "_images_of_phases", interrupted)
        assert main(["data", "download", "horse2zebra"]) == 130
    assert "the same command resumes" in capsys.readouterr().err
    assert not Path("datasets/horse2zebra").exists()
    assert not any(path.name == "1.jpg" for path in Path().rglob("*"))
    assert main(["data", "download", "horse2zebra"]) == 0
    assert files(Path("datasets")) == UNPAIRED


def test_a_corrupt_archive_is_not_resumed(serve, capsys) -> None:
    body = zipped(UNPAIRED)
    begun(serve, capsys, body)
    serve("horse2zebra", body[:-50], tag='"1"')
    assert main(["data", "download", "horse2zebra"]) == 2
    assert "the archive is corrupt" in capsys.readouterr().err
    assert list(Path("datasets").iterdir()) == []


def test_only_one_process_at_a_time_downloads_an_archive(serve, capsys) -> None:
    address = serve("horse2zebra", zipped(UNPAIRED))
    with resumable_dir(Path("datasets/horse2zebra"), (), f"{address}\n"):
        Path("datasets/.horse2zebra-unfinished/fetched").mkdir()
        assert main(["data", "download", "horse2zebra"]) == 2
        message = capsys.readouterr().err
        for part in ("another process", "datasets/horse2zebra", "wait for it, or give another folder"):
            assert part in message
