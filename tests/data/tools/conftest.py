"""A server of archives on this machine."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from gantrain.data.sets.catalog import NAMES


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

    def answer(name: str, body: bytes | None, *, length: int | None = -1, tag: str = "", part: float = 1.0) -> str:
        path = "/" + NAMES[name].rpartition("/")[2]
        address = f"http://127.0.0.1:{server.server_port}{path}"
        monkeypatch.setitem(NAMES, name, address)
        if body is not None:
            answers[path] = body, len(body) if length == -1 else length, tag, part
        return address

    yield answer
    server.shutdown()
    server.server_close()


@pytest.fixture
def serve_lsun(serve, monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes | None, bytes | None], str]:
    """Has the two archives of LSUN's towers answered, and returns the address of the larger."""

    def answer(train: bytes | None, val: bytes | None) -> str:
        monkeypatch.setitem(NAMES, "of val", "/tower_val_lmdb.zip")
        serve("of val", val)
        return serve("lsun_tower", train)

    return answer
