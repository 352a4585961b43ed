"""Videos, which need the package av, and animated GIFs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from gantrain.config.extras import require
from gantrain.data.errors import as_config_error
from gantrain.data.images.store import Pixels
from gantrain.errors import ConfigError, reason_of

SUFFIXES = frozenset({".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v", ".mpg", ".mpeg"})


class Video(NamedTuple):
    """A video that is open for reading."""

    frames: Iterator[Pixels]  # Each (H, W, 3) of uint8.
    total: int | None  # Number of frames; None if the file does not say.
    fps: Fraction


def open_video(path: Path) -> Video:
    """A video file, of which frames are decoded as they are needed.

    Raises:
        ConfigError: It can't be read, or av is missing.
    """
    av = import_av(str(path))
    try:
        file = av.open(str(path))
        stream = file.streams.video[0]
    except Exception as error:  # av raises errors of many kinds, and IndexError if there is no video in the file.
        raise ConfigError(f"source={path}: can't read this video: {reason_of(error)}") from None
    return Video(_decoded(file, stream, path), stream.frames or None, Fraction(stream.average_rate or 25))


def _decoded(file: Any, stream: Any, path: Path) -> Iterator[Pixels]:
    with as_config_error(f"read the video {path}"):
        for frame in file.decode(stream):
            yield frame.to_ndarray(format="rgb24")


class VideoWriter:
    """Writes frames of one size to a video file, in H.264 if that is available.

    Args:
        path: The file.
        fps: Frames per second.

    Raises:
        ConfigError: av is missing.
    """

    def __init__(self, path: Path, fps: Fraction) -> None:
        av = import_av(str(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        self._new_frame = av.VideoFrame.from_ndarray
        self._file = av.open(str(path), "w")
        self._stream: Any = self._file.add_stream("libx264" if "libx264" in av.codecs_available else "mpeg4", rate=fps)
        self._started = False

    def write(self, pixels: Pixels) -> None:
        """Add a frame: (H, W, 1 or 3) of uint8."""
        if not self._started:
            self._stream.height, self._stream.width = pixels.shape[:2]
            even = pixels.shape[0] % 2 == pixels.shape[1] % 2 == 0
            self._stream.pix_fmt = "yuv420p" if even else "yuv444p"  # Most players read only the former.
            self._stream.options = {"crf": "16"}
            self._started = True
        frame = np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))
        self._file.mux(self._stream.encode(self._new_frame(frame, format="rgb24")))

    def close(self) -> None:
        """Complete the file."""
        if self._started:
            self._file.mux(self._stream.encode(None))
        self._file.close()


def write_animation(path: Path, frames: Iterable[Image.Image], fps: int) -> None:
    """Write frames as a GIF that is repeated forever, or as a video, as the suffix says.

    Raises:
        ConfigError: It is a video, and av is missing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".gif":
        first, *others = frames
        first.save(path, save_all=True, append_images=others, duration=1000 // fps, loop=0)
        return
    writer = VideoWriter(path, Fraction(fps))
    try:
        for frame in frames:
            writer.write(np.atleast_3d(np.asarray(frame)))
    finally:
        writer.close()


def import_av(by: str) -> ModuleType:
    """The package av.

    Raises:
        ConfigError: It is missing; ``by`` is what needs it.
    """
    require("av", extra="video", by=by)
    import av

    module: ModuleType = av
    return module
