"""Archives of data sets, and the result of downloading them."""

from __future__ import annotations

import io
import shutil
import stat
import tarfile
import zipfile
from pathlib import Path

import lmdb
import pytest
from PIL import Image

from gantrain.cli.main import main

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


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def refused(name: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The error of ``gantrain data download``: one line, and no files of the data set remain."""
    before = set(Path().rglob("*"))
    assert main(["data", "download", name]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("gantrain: ")
    assert err.endswith("\n")
    assert err.count("\n") == 1
    assert set(Path().rglob("*")) == before
    return err


def zipped_lmdb(name: str, count: int, part: float = 1) -> bytes:
    """The archive of a database of ``count`` images, truncated to a ``part`` of its bytes."""
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
