"""Headers of images."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gantrain.data.images.decoding import decode
from gantrain.data.images.headers import Header, read_header
from gantrain.errors import ConfigError


@pytest.mark.parametrize(
    ("name", "mode", "expected"),
    [
        ("1.png", "RGB", Header(10, 12, 3, "uint8")),
        ("1.png", "RGBA", Header(10, 12, 4, "uint8")),
        ("1.png", "P", Header(10, 12, 3, "uint8")),
        ("1.png", "1", Header(10, 12, 1, "uint8")),
        ("1.png", "I;16", Header(10, 12, 1, "uint16")),
        ("1.jpg", "CMYK", Header(10, 12, 4, "uint8")),
        ("1.tif", "F", Header(10, 12, 1, "float32")),
    ],
)
def test_headers_contain_size_channels_and_depth(tmp_path: Path, name: str, mode: str, expected: Header) -> None:
    Image.new(mode, (12, 10)).save(tmp_path / name)
    assert read_header(tmp_path / name, 3, "it") == expected
    assert read_header((tmp_path / name).read_bytes(), 3, "it") == expected


def test_headers_give_the_size_of_the_upright_image_with_channels_last(tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[274] = 6
    Image.new("RGB", (12, 10)).save(tmp_path / "1.jpg", exif=turned)
    assert read_header(tmp_path / "1.jpg", 3, "it")[:2] == (12, 10)
    np.save(tmp_path / "1.npy", np.zeros((3, 10, 12), np.float64))
    assert read_header(tmp_path / "1.npy", 3, "it") == Header(10, 12, 3, "float32")
    assert read_header(tmp_path / "1.npy", 12, "it") == Header(3, 10, 12, "float32")


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("length", [9_000, 60_000, 2**32 - 1])
def test_a_hostile_header_of_an_array_is_refused_in_a_short_line(tmp_path: Path, length: int, packed: bool) -> None:
    """Files are given as their paths, members of archives as their content."""
    path = tmp_path / "1.npy"
    version, size = (b"\1\0", 2) if length < 2**16 else (b"\3\0", 4)
    path.write_bytes(b"\x93NUMPY" + version + length.to_bytes(size, "little") + b"(" * min(length, 10**6))
    if not packed:
        with path.open("r+b") as file:
            file.truncate(8 << 30)
    tracemalloc.start()
    try:
        for read in (read_header, decode):
            with pytest.raises(ConfigError, match=f"can't read the image {path}: ") as error:
                read(path.read_bytes() if packed else path, 3, str(path))
            assert len(str(error.value)) < 700
        assert tracemalloc.get_traced_memory()[1] < 100 << 20
    finally:
        tracemalloc.stop()
