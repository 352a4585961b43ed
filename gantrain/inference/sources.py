"""What `gantrain predict` reads: images, by what the user calls them."""

from __future__ import annotations

import glob
from pathlib import Path
from typing import NamedTuple

from gantrain.data.images.finding import existing, find_images, is_image, matching
from gantrain.errors import ConfigError
from gantrain.inference.model import Readable


class Input(NamedTuple):
    """An image that is to be translated."""

    name: str  # Its path relative to the source, with forward slashes and its suffix.
    location: str  # For messages.
    content: Readable


def find_inputs(source: str) -> list[Input]:
    """The images of a source: a file, a folder with its sub-folders, or a pattern (``photos/**/*.jpg``).

    Raises:
        ConfigError: There is no such file or folder, or no image in it.
    """
    path = existing(Path(source).expanduser())
    if path.is_dir():
        return _files(path, find_images(path, "source: "))
    if path.exists():
        return _files(path.parent, [path])
    if not glob.has_magic(source):
        raise ConfigError(f"source={source}: there is no such file or folder; give an image, a folder or a pattern")
    paths = list(filter(is_image, matching(str(path))))
    if not paths:
        raise ConfigError(f"source={source}: no image matches this pattern")
    return _files(next(parent for parent in path.parents if not glob.has_magic(str(parent))), paths)


def _files(folder: Path, paths: list[Path]) -> list[Input]:
    return [Input(path.relative_to(folder).as_posix(), str(path), path) for path in paths]
