"""TIFF files of several pages: channels, thumbnails and masks, and what is ambiguous."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from data_check import SMALL, check

from gantrain.data.images.convert import ImageFormat, read_image
from gantrain.data.images.decoding import decode
from gantrain.data.images.headers import read_header
from gantrain.errors import ConfigError


def noise(*shape: int, dtype: Any = np.uint8) -> np.ndarray:
    return (np.random.default_rng(list(shape)).random(shape) * 250).astype(dtype)


def pages(path: Path, *written: tuple[np.ndarray, dict[str, Any]]) -> Path:
    with tifffile.TiffWriter(path) as file:
        for pixels, options in written:
            file.write(pixels, photometric="rgb" if pixels.ndim == 3 else "minisblack", **options)
    return path


@pytest.mark.parametrize("in_memory", [False, True])
@pytest.mark.parametrize("options", [{}, {"imagej": True}, {"compression": "zlib"}, {"metadata": None}])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("count", [2, 3, 5])
def test_equal_pages_are_the_channels_that_are_asked_for(
    count: int, dtype: Any, options: dict[str, Any], in_memory: bool, tmp_path: Path
) -> None:
    stored = noise(count, 6, 9, dtype=dtype)
    if options.get("imagej"):
        options = {**options, "metadata": {"axes": "CYX"}}
    path = tmp_path / "1.tif"
    tifffile.imwrite(path, stored, photometric="minisblack", **options)
    encoded = path.read_bytes() if in_memory else path
    depth = np.dtype(dtype).name
    assert read_header(encoded, count) == (6, 9, count, depth)
    for channels in (count, 0):
        assert np.array_equal(decode(encoded, channels).pixels, stored.transpose(1, 2, 0))
    read = read_image(encoded, ImageFormat(count, depth, None if dtype != np.float32 else (0, 250)))
    assert read.shape == (6, 9, count)
    for other in (1, 4):
        for action in (decode, read_header):
            with pytest.raises(ConfigError, match=rf"has {count} pages of 9 x 6 pixels: data\.channels={count} reads"):
                action(encoded, other)


SMALL_PAGE, MASK = noise(3, 4, 3), noise(6, 9) > 9
THUMBNAIL, MASKED = {"subfiletype": 1}, {"subfiletype": 4}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([(SMALL_PAGE, THUMBNAIL)], []),
        ([], [(SMALL_PAGE, THUMBNAIL), (noise(2, 2, 3), THUMBNAIL)]),
        ([(SMALL_PAGE, {})], []),  # By its size alone.
        ([(noise(6, 9, 3), THUMBNAIL)], [(MASK, MASKED)]),  # By the tag alone.
        ([(SMALL_PAGE, THUMBNAIL)], [(MASK, MASKED)]),
    ],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_full_page_is_read_wherever_it_is(before: list[Any], after: list[Any], dtype: Any, tmp_path: Path) -> None:
    full = noise(6, 9, 3, dtype=dtype) * dtype(1) ^ dtype(1)
    path = pages(tmp_path / "1.tif", *before, (full, {}), *after)
    assert np.array_equal(decode(path, 3).pixels, full)
    assert read_header(path, 3) == (6, 9, 3, np.dtype(dtype).name)


@pytest.mark.parametrize(
    "written",
    [
        [noise(6, 9), noise(6, 8)],  # Two sizes.
        [noise(6, 9, 3), noise(6, 9, 3) + 1],  # Two images in colour.
        [noise(6, 9), noise(6, 9, dtype=np.uint16)],  # Two depths.
    ],
)
@pytest.mark.parametrize("channels", [0, 1, 2, 3, 6])
def test_other_pages_are_refused_with_the_remedy(written: list[np.ndarray], channels: int, tmp_path: Path) -> None:
    path = pages(tmp_path / "1.tif", *((pixels, {"contiguous": False}) for pixels in written))
    with pytest.raises(ConfigError, match=rf"{path}: it has 2 pages of .*not the channels.*save one as a file"):
        decode(path, channels)


def test_a_data_set_of_pages_is_checked_in_its_channels() -> None:
    Path("d").mkdir()
    tifffile.imwrite("d/1.tif", noise(5, 16, 16), photometric="minisblack")
    assert check("data=single", "data.root=d", "data.channels=5", *SMALL)[0] == 0
    status, printed = check("data=single", "data.root=d", "data.channels=3", *SMALL)
    assert status == 1
    assert "d/1.tif: it has 5 pages of 16 x 16 pixels: data.channels=5 reads them as channels" in printed
