"""The samples in a tar file: consecutive files whose names are equal up to a dot, the layout of WebDataset."""

from __future__ import annotations

import io
import itertools
import os
import re
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, NamedTuple, cast
from urllib.parse import unquote

from gantrain.config.extras import is_web, without_credentials
from gantrain.data.images.formats import EXTENSIONS
from gantrain.data.images.remote import AT_ONCE, RangeReader, status_of
from gantrain.data.images.sources import state_of
from gantrain.data.names import IGNORED
from gantrain.errors import ConfigError, reason_of

COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"(\xb5/\xfd")  # The first bytes of compressed files.
SUFFIXES = (".gz", ".tgz", ".bz2", ".tbz2", ".xz", ".txz", ".zst", ".tzst")
LABEL = ".cls"
NUMBER = re.compile(rb"\s*(\d{1,9})\s*")
LONGEST_HEADER = 1 << 20  # In bytes.
# Raised for corrupt headers; RecursionError for thousands of headers of one file.
TAR_ERRORS = (tarfile.TarError, ValueError, OverflowError, RecursionError)
MAX_LABEL_SIZE = 32  # In bytes, with white space.


class Shard(NamedTuple):
    """A tar file, as it was when it was listed."""

    path: Path  # Absolute; of a URL, its host and path.
    size: int  # In bytes.
    state: tuple[int | str, ...]  # See ``state_of``; of a URL, ``status_of``.
    url: str = ""

    @classmethod
    def at(cls, path: Path) -> Shard:
        """The current file at ``path``."""
        try:
            status = path.stat()
        except OSError as error:
            raise ConfigError(f"data.root: can't read the shard {path}: {error.strerror}") from None
        return cls(path, status.st_size, state_of(status))

    @classmethod
    def at_url(cls, url: str) -> Shard:
        """The current file at a URL."""
        size, state = status_of(url)
        return cls(path_of(url), size, (state,), url)

    def __str__(self) -> str:
        return without_credentials(self.url) or str(self.path)

    def is_current(self) -> bool:
        """Whether the file is as it was."""
        return (Shard.at_url(self.url) if self.url else Shard.at(self.path)) == self

    def open(self) -> IO[bytes]:
        """The file, to be read from the beginning to the end."""
        if self.url:
            return io.BufferedReader(RangeReader(self.url, self.size), AT_ONCE)
        return self.path.open("rb")

    @property
    def identity(self) -> bytes:
        """The resolved path, or the URL, and the state; the same for every link to the file."""
        where = str(self) if self.url else os.path.realpath(self.path)
        return f"{where} {self.state}\n".encode("utf-8", "surrogateescape")


def path_of(url: str) -> Path:
    """The host and the path of a URL, by which its images are named as those of the same files on a disk."""
    _, _, rest = url.partition("://")
    if is_web(url):
        rest = unquote(re.split(r"[?#]", rest)[0])
    host, _, path = rest.partition("/")
    return Path("/", host.rpartition("@")[2], path.lstrip("/"))


class HeaderReader:
    """A file from which tarfile can't read more than ``LONGEST_HEADER`` bytes at once.

    It reads the content of some headers in one piece, and their sizes may be any number.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int) -> bytes:
        """At most ``size`` bytes.

        Raises:
            ValueError: The size can't be that of a header.
        """
        if not 0 <= size <= LONGEST_HEADER:
            raise ValueError(f"it has a header of {size:.6g} bytes")
        return self._file.read(size)


class Sample(NamedTuple):
    """An image in a shard."""

    name: str  # The path of the member.
    start: int  # The offset of its first byte.
    size: int  # In bytes.
    label: int  # -1 for none.


class TarFile(NamedTuple):
    """A file in a shard."""

    name: str  # The path of the member.
    key: str  # The name up to the first dot that is not in the name of a folder.
    kind: str  # The rest, with that dot and in lower case; empty if there is no dot.
    start: int  # The offset of its first byte.
    size: int  # In bytes.

    @property
    def is_image(self) -> bool:
        """Whether its kind is the suffix of an image and nothing else: False for ``1.seg.png``."""
        return self.kind in EXTENSIONS


def compressed(path: Path | Shard | str) -> ConfigError:
    """The error for a compressed shard."""
    return ConfigError(
        f"data.root: the shard {path} is compressed, so that single images can't be read: unpack it to a .tar (with "
        "gunzip, bunzip2, unxz or unzstd)"
    )


def samples(shard: Shard, ignore: Callable[[str], None]) -> Iterator[Sample]:
    """Yield the images of a shard with their labels.

    ``ignore`` is called with the kind of every file that is neither an image nor the label of one.
    """
    try:
        with shard.open() as tar:
            for _, files in itertools.groupby(_files(shard, tar), key=lambda file: file.key):
                sample, others = _sample(shard, tar, [*files])
                if sample is not None:
                    yield sample
                for file in others:
                    ignore(file.kind or file.name)
    except OSError as error:
        raise ConfigError(f"data.root: can't read the shard {shard}: {error.strerror or error}") from None


def _sample(shard: Shard, tar: IO[bytes], files: list[TarFile]) -> tuple[Sample | None, list[TarFile]]:
    """The image among the files of a key, if there is one, and the files that are not read."""
    images = [file for file in files if file.is_image]
    images = [file for file in images if file.kind != ".npy"] or images  # Beside an image, an array is an annotation.
    if not images:
        return None, files
    image, *more = images
    if more:
        raise ConfigError(
            f"data.root: the shard {shard} contains {image.name} and {more[0].name}, two images of one sample: "
            f"rename the one that is not to be read, as to {more[0].key}.other{more[0].kind}"
        )
    label = next((file for file in files if file.kind == LABEL), None)
    number = -1 if label is None else _label(shard, tar, label)
    sample = Sample(image.name, image.start, image.size, number)
    return sample, [file for file in files if file not in (image, label)]


def _label(shard: Shard, tar: IO[bytes], file: TarFile) -> int:
    size = min(file.size, MAX_LABEL_SIZE)
    if shard.url:
        tar.seek(file.start)
        text = tar.read(size)
    else:
        text = os.pread(tar.fileno(), size, file.start)  # This keeps the buffer.
    found = NUMBER.fullmatch(text)
    if not found or file.size > MAX_LABEL_SIZE:
        found_text = text.decode(errors="replace").strip()
        raise ConfigError(
            f"data.root: {shard}/{file.name}: a label must be an integer from 0 to 999999999, not {found_text!r}"
        )
    return int(found[1])


def _files(shard: Shard, tar: IO[bytes]) -> Iterator[TarFile]:
    """Yield the files of a shard without hidden ones."""
    for member in _members(shard, tar):
        name = re.sub(r"^(\./+)+", "", member.name)
        folder, slash, last = name.rpartition("/")
        stem, dot, kind = last.partition(".")
        file = TarFile(name, folder + slash + stem, (dot + kind).lower(), member.offset_data, member.size)
        if not stem or member.isdir() or IGNORED.intersection(name.lower().split("/")):
            continue
        if member.isreg() and not member.issparse():
            yield file
        elif file.is_image or file.kind == LABEL:
            what = "a sparse file: pack the shard without --sparse"
            if not member.issparse():
                what = "a link without content: pack the shard with tar --dereference --hard-dereference"
            raise ConfigError(f"data.root: {shard}/{name} is {what}")


def _members(shard: Shard, tar: IO[bytes]) -> Iterator[tarfile.TarInfo]:
    """Yield all members without storing them; the end mark of a tar shows that it is complete."""
    beginning = tar.read(8)
    if beginning.startswith(COMPRESSED):
        raise compressed(shard)
    tar.seek(0)
    try:
        archive = tarfile.TarFile(
            fileobj=cast(IO[bytes], HeaderReader(tar)), encoding="utf-8", errors="surrogateescape"
        )
    except TAR_ERRORS as error:
        raise ConfigError(f"data.root: {shard} is not a tar file ({reason_of(error)})") from None
    offset = 0
    while True:
        tar.seek(min(offset, shard.size))  # A corrupt size may be any number.
        block = tar.read(tarfile.BLOCKSIZE)
        if block == bytes(tarfile.BLOCKSIZE):
            while rest := tar.read(tarfile.RECORDSIZE):
                if any(rest):
                    raise ConfigError(
                        f"data.root: the shard {shard} continues after its end mark at byte {offset:,}, as if "
                        "several were joined by cat: keep each in a separate file"
                    )
            return
        if len(block) < tarfile.BLOCKSIZE:
            raise ConfigError(
                f"data.root: the shard {shard} is truncated, or was never closed: its end mark is missing after "
                f"{shard.size:,} bytes"
            )
        tar.seek(offset)
        try:
            member = tarfile.TarInfo.fromtarfile(archive)
            if member.size < 0 or archive.offset <= offset or "\0" in member.name:
                raise ValueError("invalid size or name")
        except TAR_ERRORS as error:
            raise ConfigError(
                f"data.root: the shard {shard} is corrupt at byte {offset:,} ({reason_of(error)})"
            ) from None
        yield member
        offset = archive.offset
