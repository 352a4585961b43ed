"""Archives of data sets, and the result of downloading them."""

from __future__ import annotations

import io
import shutil
import stat
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import lmdb
import pytest
from PIL import Image

from gantrain.cli.main import main
from gantrain.data.sets.catalog import NAMES

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


@contextmanager
def serving(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """A server on this machine, as the function ``serve`` inside.

    ``serve(name, body)`` has the archive of ``name`` answered with ``body``, and returns its address. With a ``tag``
    for that version of it, the rest of an archive can be asked for. A connection may break after a ``part`` of what was
    asked for.
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

    def answer(name: str, body: bytes | None, *, length: int | None = -1, tag: str = "", part: float = 1.0) -> str:
        path = "/" + NAMES[name].rpartition("/")[2]
        address = f"http://127.0.0.1:{server.server_port}{path}"
        monkeypatch.setitem(NAMES, name, address)
        if body is not None:
            answers[path] = body, len(body) if length == -1 else length, tag, part
        return address

    try:
        yield answer
    finally:
        server.shutdown()
        server.server_close()
