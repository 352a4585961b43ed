"""Optional libraries, which come with an extra of the package, among them those that open URLs."""

from __future__ import annotations

import re
from importlib.util import find_spec
from typing import Any

from gantrain.errors import ConfigError

WEB = ("http", "https")
# The extra that installs the driver of a protocol.
EXTRAS = {"s3": "s3", "gs": "gcs", "gcs": "gcs", "abfs": "azure", "az": "azure", **dict.fromkeys(WEB, "http")}
SILENCE = 30  # Seconds without a byte after which a connection is lost.


def require(*libraries: str, extra: str, by: str) -> None:
    """Refuse to go on without some importable libraries.

    Raises:
        ConfigError: One is missing; the message has the command that installs them. ``by`` is what needs them.
    """
    for library in libraries:
        if find_spec(library) is None:
            raise ConfigError(f"{by} needs the package {library}: pip install 'gantrain[{extra}]'")


def is_url(path: str) -> bool:
    """Whether this is a URL instead of a path: ``s3://bucket/folder``."""
    return re.match(r"[A-Za-z][\w+.-]*://", path) is not None


def is_web(url: str) -> bool:
    """Whether this is a URL of a web server."""
    return url.partition("://")[0].lower() in WEB


def without_credentials(text: str) -> str:
    """The text with every URL in it for messages: without user, password and query, which may be a signature."""
    text = re.sub(r"(\w://)[^\s/@]*@", r"\1", text)
    return re.sub(r"(\bhttps?://[^\s?'\"]*)\?[^\s'\")]*", r"\1", text)


def open_url(url: str, key: str) -> tuple[Any, str]:
    """The file system of a URL in this process, and the path in it; without ``://``, of this machine.

    Raises:
        ConfigError: The protocol is unknown, or its driver is not installed. The message begins with ``key``.
    """
    import fsspec  # Torch depends on it.

    protocol = url.partition("://")[0].lower() if is_url(url) else "file"
    if not url.strip():
        raise ConfigError(f"{key} is empty: give a URL or a folder, or null")
    where = f"{key}={without_credentials(url)}"
    try:
        if is_web(url):
            import aiohttp

            # Instead of five minutes for each file: a server that is silent for half a minute is lost.
            silence = aiohttp.ClientTimeout(total=None, sock_connect=SILENCE, sock_read=SILENCE)
            files, root = fsspec.core.url_to_fs(url, client_kwargs={"timeout": silence, "trust_env": True})
        else:
            files, root = fsspec.core.url_to_fs(url)
    except ImportError:
        extra = EXTRAS.get(protocol)
        remedy = f"pip install 'gantrain[{extra}]'" if extra else f"install what fsspec needs for {protocol}://"
        raise ConfigError(f"{where}: {remedy}") from None
    except Exception as error:  # Drivers have their own.
        if protocol in fsspec.available_protocols():
            raise ConfigError(f"{where} can't be opened: {str(error) or type(error).__name__}") from error
        read_only = ["https"] if key.startswith("data.") else []  # Runs are also written.
        known = ", ".join(f"{name}://" for name in ("s3", "gs", "abfs", *read_only))
        raise ConfigError(f"{where}: fsspec knows no {protocol}://; there are {known} and others") from None
    return files, str(root)
