"""Malicious archives: nothing is extracted outside the folder."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from gantrain.data.tools import download as downloading
from gantrain.errors import ConfigError

OUTSIDE = Path("outside")


def tarred(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for member, content in members:
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def member(
    name: str, kind: bytes = tarfile.REGTYPE, target: str = "", content: bytes = b""
) -> tuple[tarfile.TarInfo, bytes]:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, target
    return made, content


LINKS = {
    "symbolic link": [member("in", tarfile.SYMTYPE, "../outside"), member("in/evil", content=b"x")],
    "absolute link": [member("in", tarfile.SYMTYPE, "{outside}"), member("in/evil", content=b"x")],
    "link within": [member("a", content=b"x"), member("b", tarfile.SYMTYPE, "a")],
    "hard link": [member("in", tarfile.LNKTYPE, "../outside/secret"), member("in", content=b"overwritten")],
    "absolute hard link": [member("in", tarfile.LNKTYPE, "{outside}/secret")],
    "link through a link": [
        *(member("a", tarfile.SYMTYPE, "."), member("a/b", tarfile.SYMTYPE, "../..")),
        *(member("b/outside/evil", content=b"x"), member("a/b/outside/evil", content=b"x")),
    ],
    "device": [member("in", tarfile.CHRTYPE)],
    "pipe": [member("in", tarfile.FIFOTYPE)],
    "parent": [member("../outside/evil", content=b"x")],
    "parent within": [member("a/../../outside/evil", content=b"x")],
}


@pytest.fixture
def outside() -> Path:
    OUTSIDE.mkdir()
    (OUTSIDE / "secret").write_text("secret")
    return OUTSIDE.absolute()


@pytest.mark.parametrize("kind", LINKS)
def test_a_tar_writes_nothing_outside_of_its_folder(kind: str, outside: Path) -> None:
    for info, _ in LINKS[kind]:
        info.linkname = info.linkname.format(outside=outside)
    archive = tarred(Path("archive.tar.gz"), *LINKS[kind])
    with pytest.raises(ConfigError, match="the archive is corrupt"):
        downloading._unpack(archive, Path("unpacked"), "address/archive.tar.gz")
    assert {path.name: path.read_text() for path in outside.iterdir()} == {"secret": "secret"}


def test_an_absolute_name_in_a_tar_is_extracted_inside_its_folder(outside: Path) -> None:
    archive = tarred(Path("archive.tar.gz"), member(f"{outside}/evil", content=b"x"))
    downloading._unpack_tar(archive, Path("unpacked"))
    assert [path.name for path in outside.iterdir()] == ["secret"]


@pytest.mark.parametrize(
    "name", ["../outside/evil", "a/../../outside/evil", "{outside}/evil", "..\\outside\\evil", "C:/evil"]
)
def test_a_zip_writes_nothing_outside_of_its_folder(name: str, outside: Path) -> None:
    with zipfile.ZipFile("archive.zip", "w") as archive:
        archive.writestr(name.format(outside=outside), b"x")
    with pytest.raises(ConfigError, match="outside its folder"):
        downloading._unpack(Path("archive.zip"), Path("unpacked"), "address/archive.zip")
    assert [path.name for path in outside.iterdir()] == ["secret"]
    assert not Path("unpacked").exists()


def test_a_zip_writes_nothing_through_a_link(outside: Path) -> None:
    link = zipfile.ZipInfo("in")
    link.create_system, link.external_attr = 3, 0o120777 << 16
    with zipfile.ZipFile("archive.zip", "w") as archive:
        archive.writestr(link, str(outside))
        archive.writestr("in/evil", b"x")
    with pytest.raises(ConfigError, match="outside its folder"):
        downloading._unpack(Path("archive.zip"), Path("unpacked"), "address/archive.zip")
    assert [path.name for path in outside.iterdir()] == ["secret"]
