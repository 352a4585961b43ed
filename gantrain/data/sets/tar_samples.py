"""The samples in a tar file, as WebDataset lays them out: files one after another whose names are equal up to a dot."""

from __future__ import annotations

import itertools
import os
import re
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

from gantrain.data.images.convert import EXTENSIONS
from gantrain.errors import ConfigError

# how compressed files begin, and the suffixes of their names
COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"(\xb5/\xfd")
SUFFIXES = (".gz", ".tgz", ".bz2", ".tbz2", ".xz", ".txz", ".zst", ".tzst")
LABEL = ".cls"
NUMBER = re.compile(rb"\s*(\d{1,9})\s*")
LONGEST_LABEL = 32  # bytes, with what stands around the digits


class Shard(NamedTuple):
    """A tar file, as it was when it was listed.

    Attributes:
        path: Absolute.
        size: In bytes.
        modified: When it was changed last, in nanoseconds.
    """

    path: Path
    size: int
    modified: int

    @classmethod
    def at(cls, path: Path) -> Shard:
        """The file as it is now.

        Raises:
            ConfigError: There is none.
        """
        try:
            status = path.stat()
        except OSError as error:
            raise ConfigError(f"data.root: can't read the shard {path}: {error.strerror}") from None
        return cls(path, status.st_size, status.st_mtime_ns)

    @property
    def identity(self) -> bytes:
        """Of the file as it was: that of another one behind the same link differs, and by whatever link it is alike."""
        return f"{os.path.realpath(self.path)} {self.size} {self.modified}\n".encode("utf-8", "surrogateescape")


class Sample(NamedTuple):
    """An image in a shard.

    Attributes:
        name: Of the member.
        start: Of its first byte in the shard.
        size: In bytes.
        label: -1 for none.
    """

    name: str
    start: int
    size: int
    label: int


class File(NamedTuple):
    """A file in a shard.

    Attributes:
        name: Of the member.
        key: The name up to the first dot that is not in the name of a folder.
        kind: What follows it, with that dot and in small letters; empty if there is none.
        start: Of its first byte in the shard.
        size: In bytes.
    """

    name: str
    key: str
    kind: str
    start: int
    size: int

    @property
    def is_image(self) -> bool:
        """Whether its kind is that of images alone: ``1.seg.png`` is none."""
        return self.kind in EXTENSIONS


def compressed(path: Path) -> ConfigError:
    """What to say of a shard of which only the beginning could be found at once."""
    return ConfigError(
        f"data.root: the shard {path} is compressed, so that no image can be read without all before it: unpack it "
        "into a .tar (with gunzip, or the like)"
    )


def samples(shard: Shard, ignore: Callable[[str], None]) -> Iterator[Sample]:
    """The images of a shard, in their order, each with what its ``.cls`` says.

    Args:
        shard: Which.
        ignore: Told the kind of every file that is neither an image nor the label of one.

    Raises:
        ConfigError: The shard is damaged, cut off or compressed, or a sample is not as it should be.
    """
    try:
        with shard.path.open("rb") as tar:
            for _, files in itertools.groupby(_files(shard, tar), key=lambda file: file.key):
                sample, others = _sample(shard, tar, [*files])
                if sample is not None:
                    yield sample
                for file in others:
                    ignore(file.kind or file.name)
    except OSError as error:
        raise ConfigError(f"data.root: can't read the shard {shard.path}: {error.strerror or error}") from None


def _sample(shard: Shard, tar: IO[bytes], files: list[File]) -> tuple[Sample | None, list[File]]:
    """The image among files that share a key, if there is one, and the files that are not read."""
    images = [file for file in files if file.is_image]
    images = [file for file in images if file.kind != ".npy"] or images  # beside an image, an array is about it
    if not images:
        return None, files
    image, *more = images
    if more:
        raise ConfigError(
            f"data.root: the shard {shard.path} holds {image.name} and {more[0].name}, two images of one sample: "
            f"one that is not to be read has another name, like {more[0].key}.other{more[0].kind}"
        )
    label = next((file for file in files if file.kind == LABEL), None)
    number = -1 if label is None else _label(shard, tar, label)
    sample = Sample(image.name, image.start, image.size, number)
    return sample, [file for file in files if file not in (image, label)]


def _label(shard: Shard, tar: IO[bytes], file: File) -> int:
    text = os.pread(tar.fileno(), min(file.size, LONGEST_LABEL), file.start)
    found = NUMBER.fullmatch(text)
    if not found or file.size > LONGEST_LABEL:
        start = text.decode(errors="replace").strip()
        raise ConfigError(f"data.root: {shard.path}/{file.name}: a label is a whole number from 0 on, not {start!r}")
    return int(found[1])


def _files(shard: Shard, tar: IO[bytes]) -> Iterator[File]:
    """The files whose names don't begin with a dot, which are none of the user's."""
    for member in _members(shard, tar):
        name = re.sub(r"^(\./+)+", "", member.name)
        folder, slash, last = name.rpartition("/")
        stem, dot, kind = last.partition(".")
        file = File(name, folder + slash + stem, (dot + kind).lower(), member.offset_data, member.size)
        if not stem or member.isdir():
            continue
        if member.isreg() and not member.issparse():
            yield file
        elif file.is_image or file.kind == LABEL:
            what = "a sparse file: pack the shard without --sparse"
            if not member.issparse():
                what = "a link without content: pack the shard with tar --dereference --hard-dereference"
            raise ConfigError(f"data.root: {shard.path}/{name} is {what}")


def _members(shard: Shard, tar: IO[bytes]) -> Iterator[tarfile.TarInfo]:
    """All, without keeping any; a tar has an end mark, without which something is missing."""
    beginning = tar.read(8)
    if beginning.startswith(COMPRESSED):
        raise compressed(shard.path)
    tar.seek(0)
    try:
        archive = tarfile.TarFile(fileobj=tar, encoding="utf-8", errors="surrogateescape")
    except (tarfile.TarError, ValueError, OverflowError) as error:
        raise ConfigError(f"data.root: {shard.path} is no tar file ({error})") from None
    place = 0
    while True:
        tar.seek(place)
        block = tar.read(tarfile.BLOCKSIZE)
        if block == bytes(tarfile.BLOCKSIZE):
            while rest := tar.read(tarfile.RECORDSIZE):
                if any(rest):
                    raise ConfigError(
                        f"data.root: the shard {shard.path} goes on after its end mark at byte {place:,}, as where "
                        "tars were joined by cat: give each a file of its own"
                    )
            return
        if len(block) < tarfile.BLOCKSIZE:
            raise ConfigError(
                f"data.root: the shard {shard.path} is cut off, or was never closed: its end mark is missing after "
                f"{shard.size:,} bytes"
            )
        tar.seek(place)
        try:
            member = tarfile.TarInfo.fromtarfile(archive)
            if member.size < 0 or archive.offset <= place or "\0" in member.name:
                raise ValueError("no size or name that a file can have")
        except (tarfile.TarError, ValueError, OverflowError) as error:
            raise ConfigError(f"data.root: the shard {shard.path} is damaged at byte {place:,} ({error})") from None
        yield member
        place = archive.offset
