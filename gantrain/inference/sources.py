"""What `gantrain predict` reads: images, by what the user calls them."""

from __future__ import annotations

import glob
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal, NamedTuple

from gantrain.data.images.finding import existing, find_images, is_image, matching
from gantrain.data.images.opening import open_npy
from gantrain.data.images.store import Pixels
from gantrain.errors import ConfigError
from gantrain.inference.model import Readable
from gantrain.inference.video import SUFFIXES, open_video

STDIN = "-"
NPY = ".npy"


class Input(NamedTuple):
    """An image that is to be translated."""

    name: str  # Its path relative to the source, with forward slashes and its suffix.
    location: str  # For messages.
    content: Readable


@dataclass(frozen=True)
class Source:
    """The images of a source."""

    kind: Literal["images", "stdin", "stack", "video"]
    inputs: Iterable[Input]
    total: int | None  # Number of images; None if unknown.
    path: Path | None = None  # Of the file, if all images are in one.
    fps: Fraction | None = None  # Frames per second of a video.


def find_source(source: str) -> Source:
    """The images of a file, a folder with its sub-folders, a pattern, or of standard input for ``-``.

    A file is an image, a video, or a stack of images: a ``.npy`` file of the shape (N, H, W, C).

    Raises:
        ConfigError: There is no such file or folder, or no image in it.
    """
    if source == STDIN:
        return Source("stdin", [Input("stdin", "on standard input", sys.stdin.buffer.read())], 1)
    path = existing(Path(source).expanduser())
    if path.is_dir():
        return _files(path, find_images(path, "source: "))
    if path.suffix.lower() in SUFFIXES and path.exists():
        video = open_video(path)
        frames = (Input(f"{number:06}", f"{path}, frame {number}", frame) for number, frame in enumerate(video.frames))
        return Source("video", frames, video.total, path, video.fps)
    if path.exists():
        stack = _stack(path) if path.suffix == NPY else None
        if stack is None:
            return _files(path.parent, [path])
        images = [Input(f"{number:06}", f"{path}[{number}]", image) for number, image in enumerate(stack)]
        return Source("stack", images, len(images), path)
    if not glob.has_magic(source):
        raise ConfigError(f"source={source}: there is no such file or folder; give an image, a folder or a pattern")
    paths = list(filter(is_image, matching(str(path))))
    if not paths:
        raise ConfigError(f"source={source}: no image matches this pattern")
    return _files(next(parent for parent in path.parents if not glob.has_magic(str(parent))), paths)


def _files(folder: Path, paths: list[Path]) -> Source:
    inputs = [Input(path.relative_to(folder).as_posix(), str(path), path) for path in paths]
    return Source("images", inputs, len(inputs))


def _stack(path: Path) -> Pixels | None:
    """A stack of images; None if the file is a single image, or can't be read (which its decoder explains)."""
    try:
        values = open_npy(path)
    except Exception:  # Corrupt bytes lead to errors of every kind.
        return None
    return values if values.ndim == 4 and values.size else None
