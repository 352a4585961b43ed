"""A web server of a folder that answers requests for ranges, and can fail."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any


class Handler(SimpleHTTPRequestHandler):
    """Serves ``server.folder`` with ``server.failures``: what becomes of the next requests for content."""

    server: Any
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            return super().do_GET()
        self.server.requests += 1
        failure = self.server.failures.pop(0) if self.server.failures else 0
        if failure == "always 401" or (isinstance(failure, int) and failure):
            if failure == "always 401":
                self.server.failures.insert(0, failure)
            return self.send_error(failure if isinstance(failure, int) else 401)
        content, found = path.read_bytes(), re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        ranges = found and self.server.ranges
        first = int(found[1]) if ranges else 0
        last = min(int(found[2] or len(content)), len(content) - 1) if ranges else len(content) - 1
        self.send_response(206 if ranges else 200)
        self.send_header("Content-Length", str(last - first + 1))
        if ranges:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        self.end_headers()
        if failure == "cut":
            self.wfile.write(content[first : (first + last) // 2])
            self.close_connection = True
        else:
            self.wfile.write(content[first : last + 1])
        return None

    def log_message(self, *words: Any) -> None:
        pass


@contextmanager
def serving(folder: Path) -> Iterator[ThreadingHTTPServer]:
    """The server, with ``url``, ``requests`` (their number), ``failures`` and ``ranges``, on a free port."""
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    server.daemon_threads = True
    server.requests, server.failures, server.ranges = 0, [], True
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
