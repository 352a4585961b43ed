"""Where `gantrain predict` writes translated images: files, a stack, a video, or standard output."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from gantrain.data.images.convert import ImageFormat, as_png, write_pixels, write_pixels_to
from gantrain.data.images.store import Pixels
from gantrain.errors import ConfigError
from gantrain.inference.image_folder import UniqueNames
from gantrain.inference.sources import NPY, Source
from gantrain.inference.video import SUFFIXES, VideoWriter
from gantrain.runtime.storage import storage_errors

STDOUT = "-"


class Results(ABC):
    """The results of a source.

    Args:
        paths: The files that will be written.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = paths

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Inside, results may be written; at the end they are complete."""
        yield

    @abstractmethod
    def write(self, number: int, pixels: Pixels) -> None:
        """Write the result (H, W, C) for image ``number``."""


class Files(Results):
    """A file for each image: PNG, or ``.npy`` where PNG can't store it without loss."""

    def write(self, number: int, pixels: Pixels) -> None:
        """See ``Results``."""
        with storage_errors(f"write {self.paths[number]}"):
            write_pixels(self.paths[number], pixels)


class Stdout(Results):
    """A single image, on standard output."""

    def write(self, number: int, pixels: Pixels) -> None:
        """See ``Results``."""
        write_pixels_to(sys.stdout.buffer, pixels)
        sys.stdout.buffer.flush()


class OneFile(Results):
    """All images in one file, which gets its name when it is complete.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__([path])
        self.part = path.with_name(f"{path.stem}.part{path.suffix}")

    @contextmanager
    def writing(self) -> Iterator[None]:
        """See ``Results``."""
        with storage_errors(f"write {self.paths[0]}"):
            self.part.parent.mkdir(parents=True, exist_ok=True)
            try:
                yield
                self.close()
                self.part.replace(self.paths[0])
            finally:
                self.part.unlink(missing_ok=True)

    @abstractmethod
    def close(self) -> None:
        """Complete the file."""


class Stack(OneFile):
    """A ``.npy`` file (N, H, W, C), or (N, H, W) for one channel.

    Args:
        path: The file.
        count: The number of images.
    """

    def __init__(self, path: Path, count: int) -> None:
        super().__init__(path)
        self._count = count
        self._values: Any = None

    def write(self, number: int, pixels: Pixels) -> None:
        """See ``Results``."""
        pixels = pixels[..., 0] if pixels.shape[2] == 1 else pixels
        if self._values is None:
            shape = (self._count, *pixels.shape)
            self._values = np.lib.format.open_memmap(self.part, "w+", dtype=pixels.dtype, shape=shape)
        self._values[number] = pixels

    def close(self) -> None:
        """See ``OneFile``."""
        if self._values is None:
            raise ConfigError(f"{self.paths[0]} is not written: no image could be read")
        self._values.flush()


class Frames(OneFile):
    """A video.

    Args:
        path: The file.
        fps: Frames per second.
    """

    def __init__(self, path: Path, fps: Fraction) -> None:
        super().__init__(path)
        self._writer: VideoWriter | None = None
        self._fps = fps

    def write(self, number: int, pixels: Pixels) -> None:
        """See ``Results``."""
        if self._writer is None:
            self._writer = VideoWriter(self.part, self._fps)
        self._writer.write(pixels)

    def close(self) -> None:
        """See ``OneFile``."""
        if self._writer is None:
            raise ConfigError(f"{self.paths[0]} is not written: no frame could be read")
        self._writer.close()


def results_of(source: Source, out: str, target: ImageFormat) -> Results:
    """Where the results of a source are written.

    Args:
        source: What is translated.
        out: A folder; or a file, for a single image, a stack or a video; or ``-`` for a single image.
        target: The format of the results.

    Raises:
        ConfigError: The results do not fit there.
    """
    path = Path(out).expanduser()
    single = source.kind == "stdin" or (source.kind == "images" and source.total == 1)
    suffix = ".png" if as_png(target.depth, target.channels) else NPY
    if out == STDOUT:
        if not single:
            raise ConfigError("out=-: standard output takes a single image; give out=FOLDER")
        return Stdout([])
    if source.kind == "stack":
        return Stack(_file(path, source, NPY), source.total or 0)
    if source.kind == "video":
        if target.depth != "uint8" or target.channels not in (1, 3):
            raise ConfigError(
                f"source={source.path}: a video has 3 channels of uint8, and the results have {target.channels} of "
                f"{target.depth}: give a folder of images"
            )
        return Frames(_file(path, source, *SUFFIXES), source.fps or Fraction(25))
    if single and path.suffix in (".png", NPY):
        if path.suffix != suffix:
            raise ConfigError(f"out={out}: the results of this model are stored as {suffix}: give out=FILE{suffix}")
        return Files([path])
    names = UniqueNames()
    return Files([path / f"{names[each.name]}{suffix}" for each in source.inputs])


def _file(path: Path, source: Source, *suffixes: str) -> Path:
    """The file itself, or that with the name of the source in the folder."""
    if path.suffix.lower() in suffixes or source.path is None:
        return path
    return path / source.path.name
