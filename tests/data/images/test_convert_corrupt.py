"""Files that can't be read as images are refused in one line with the reason."""

from __future__ import annotations

import logging
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from deep_images import chunk, deep_png, noise, read, stored_depth
from PIL import Image, ImageFile

from gantrain.errors import ConfigError


def bomb() -> bytes:
    """A small PNG whose header gives a width and height of 100,000 pixels."""
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def corrupt_images(tmp_path: Path) -> dict[str, bytes]:
    made = tmp_path / "whole"
    made.mkdir()
    deep_png(made / "deep.png", noise(40, 40))
    Image.fromarray(noise(40, 40, 3, np.uint8)).save(made / "plain.png")
    Image.fromarray(noise(40, 40, 3, np.uint8)).save(made / "plain.jpg")
    Image.fromarray(noise(40, 40, 3, np.uint8)).save(made / "plain.webp")
    tifffile.imwrite(made / "raw.tif", noise(40, 40), photometric="rgb")
    tifffile.imwrite(made / "zlib.tif", noise(40, 40), photometric="rgb", compression="zlib")
    np.save(made / "1.npy", noise(40, 40))
    damaged = bytearray((made / "deep.png").read_bytes())
    damaged[len(damaged) // 2] ^= 255
    tag = (made / "raw.tif").read_bytes().index(struct.pack("<H", 273))  # The tag of the offset of the pixels.
    lost = bytearray((made / "raw.tif").read_bytes())
    lost[tag + 2 : tag + 4] = b"\xff\xff"  # An unknown type.
    truncated = {f"half_{path.name}": path.read_bytes()[: path.stat().st_size // 2] for path in made.iterdir()}
    np.save(made / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.save(made / "words.npy", np.array([["a", "b"]]))
    np.save(made / "line.npy", np.zeros(3, np.uint8))
    return {
        **truncated,
        **{name: (made / name).read_bytes() for name in ("objects.npy", "words.npy", "line.npy")},
        "empty.png": b"",
        "empty.npy": b"",
        "empty.tif": b"",
        "text.jpg": b"not an image\n",
        "text.npy": b"x" * 99,
        "damaged.png": bytes(damaged),
        "lost.tif": bytes(lost),
        "bomb.png": bomb(),
        "head.tif": b"II*\0",
    }


def test_a_corrupt_image_is_named_in_one_line(tmp_path: Path, capfd: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.root, "handlers", [])  # pytest would capture what is logged.
    for name, content in corrupt_images(tmp_path).items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=rf"^can't read the image {path}: .+") as caught:
            read(path, 3, "uint16")
        assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_an_unreadable_image_is_named_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("this is no image")
    (tmp_path / "bomb.png").write_bytes(bomb())
    np.save(tmp_path / "none.npy", np.zeros((0, 5, 3), np.uint8))
    for name, reason in (
        ("none.npy", r"its shape is \(0, 5, 3\), not \(H, W\), "),
        ("lost.png", "No such file or directory$"),
        ("empty.png", "the file is empty$"),
        ("text.jpg", "this is not an image"),
        ("bomb.png", "its 100000 x 100000 pixels .* could be an attack"),
    ):
        for look in (stored_depth, read):
            with pytest.raises(ConfigError, match=rf"/{name}: {reason}"):
                look(tmp_path / name)


def test_a_compression_that_needs_another_package_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tifffile.imwrite(tmp_path / "1.tif", noise(), photometric="rgb")

    def missing(page: object) -> None:
        raise ValueError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package")

    monkeypatch.setattr(tifffile.TiffPage, "asarray", missing)
    with pytest.raises(ConfigError, match=rf"^can't read the image {tmp_path}/1\.tif: .*pip install imagecodecs$"):
        read(tmp_path / "1.tif")


def test_the_format_depends_on_the_content_not_on_the_name(tmp_path: Path) -> None:
    deep_png(tmp_path / "png.jpg", noise())
    np.testing.assert_array_equal(read(tmp_path / "png.jpg"), noise())


def test_pillow_does_not_complete_truncated_images() -> None:
    assert not ImageFile.LOAD_TRUNCATED_IMAGES
