"""Malformed images, and a script that reads them as training does: ``python malformed_images.py FOLDER``.

It is a separate process with limited memory and time, since an image may crash it.
"""

from __future__ import annotations

import io
import json
import resource
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image

HEIGHT, WIDTH = 20, 24
SECONDS = 120  # of CPU time for all images
MEMORY = 3 << 30  # bytes in addition to those of Python and torch
DECODERS = ("exact", "fast", "draft")


def plain_image(height: int = HEIGHT, width: int = WIDTH) -> Image.Image:
    rows, columns = np.mgrid[:height, :width]
    return Image.fromarray(
        np.stack([rows * 9 % 256, columns * 7 % 256, (rows + columns) * 5 % 256], axis=2).astype(np.uint8)
    )


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def tiff(pixels: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **options)
    return file.getvalue()


def npy(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, pixels)
    return file.getvalue()


@cache
def good() -> dict[str, bytes]:
    """An intact image of each kind, by file name."""
    image = plain_image()
    deep = np.asarray(image).astype(np.uint16) * 257
    return {
        "plain.jpg": saved(image, "JPEG", quality=90),
        "steps.jpg": saved(image, "JPEG", progressive=True),
        "plain.png": saved(image, "PNG"),
        "gray.png": saved(image.convert("L"), "PNG"),
        "deep.png": saved(Image.fromarray(deep[..., 0]), "PNG"),
        "plain.webp": saved(image, "WEBP", lossless=True),
        "lossy.webp": saved(image, "WEBP"),
        "plain.bmp": saved(image, "BMP"),
        "plain.gif": saved(image.quantize(64), "GIF"),
        "plain.tif": saved(image, "TIFF"),
        "lzw.tif": saved(image, "TIFF", compression="tiff_lzw"),
        "deflated.tif": saved(image, "TIFF", compression="tiff_adobe_deflate"),
        "deep.tif": tiff(deep, photometric="rgb"),
        "deep_deflated.tif": tiff(deep, photometric="rgb", compression="zlib"),
        "gray16.tif": tiff(deep[..., 0]),
        "float.tif": tiff(deep.astype(np.float32) / 65535, photometric="rgb"),
        "float.npy": npy(deep.astype(np.float32) / 65535),
        "plain.npy": npy(np.asarray(image)),
    }


def cut() -> Iterator[tuple[str, bytes]]:
    for name, content in good().items():
        for share in (0.0, 0.03, 0.2, 0.5, 0.8, 0.97):
            yield f"cut_{int(share * 100):02}_{name}", content[: int(share * len(content))]
        yield f"cut_99_{name}", content[:-1]


def flipped() -> Iterator[tuple[str, bytes]]:
    random = np.random.default_rng(0)
    for name, content in good().items():
        for number, (end, count) in enumerate([(64, 1), (64, 4), (None, 1), (None, 3), (None, 30)]):
            damaged = np.frombuffer(content, np.uint8).copy()
            places = random.integers(0, len(damaged[:end]), count)
            damaged[places] ^= random.integers(1, 256, count).astype(np.uint8)
            yield f"flipped_{number}_{name}", damaged.tobytes()


def renamed() -> Iterator[tuple[str, bytes]]:
    """Intact, with the suffix of another kind."""
    names = list(good())
    for name, other in zip(names, [*names[4:], *names[:4]], strict=True):
        yield f"renamed_{name.replace('.', '_')}{Path(other).suffix}", good()[name]


def with_dimensions(content: bytes, name: str, height: int, width: int) -> bytes:
    """The same file with another size in its header."""
    kind = Path(name).suffix
    changed = bytearray(content)
    if kind == ".png":
        changed[16:24] = struct.pack(">II", width, height)
        changed[29:33] = struct.pack(">I", zlib.crc32(bytes(changed[12:29])))
    elif kind == ".jpg":
        start = next(content.index(marker) for marker in (b"\xff\xc0", b"\xff\xc2") if marker in content)
        changed[start + 5 : start + 9] = struct.pack(">HH", min(height, 65535), min(width, 65535))
    elif kind == ".bmp":
        changed[18:26] = struct.pack("<ii", width, height)
    elif kind == ".gif":
        changed[6:10] = struct.pack("<HH", min(width, 65535), min(height, 65535))
        start = content.index(b"\x2c", 13 + 3 * 2 ** ((content[10] & 7) + 1))
        changed[start + 5 : start + 9] = struct.pack("<HH", min(width, 65535), min(height, 65535))
    elif name == "plain.webp":  # 14 bits each, minus one.
        size = ((width - 1) & 0x3FFF) | ((height - 1) & 0x3FFF) << 14
        changed[21:25] = struct.pack("<I", size | struct.unpack("<I", content[21:25])[0] & 0xF0000000)
    elif kind == ".tif":
        with tifffile.TiffFile(io.BytesIO(content)) as file:
            tags = file.pages[0].tags
            for tag, value in (("ImageWidth", width), ("ImageLength", height), ("RowsPerStrip", height)):
                size = {3: 2, 4: 4}[int(tags[tag].dtype)]
                place = tags[tag].valueoffset
                changed[place : place + size] = min(value, 256**size - 1).to_bytes(size, "little")
    elif kind == ".npy":
        changed = bytearray(content.replace(b"(20, 24", b"(%d, %d" % (height, width), 1))
    return bytes(changed)


def resized() -> Iterator[tuple[str, bytes]]:
    """Bombs, and images without pixels."""
    for name, content in good().items():
        if name != "lossy.webp":
            yield f"bomb_{name}", with_dimensions(content, name, 60000, 60000)
            yield f"nothing_{name}", with_dimensions(content, name, 0, 0)
            yield f"flat_{name}", with_dimensions(content, name, 0, WIDTH)
    rows = bytes(15001 * 15000)  # 225 megapixels that pack into little
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", 15000, 15000, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    body = b"".join(struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks)
    yield "bomb_true.png", b"\x89PNG\r\n\x1a\n" + body
    yield "bomb_channels.tif", many_channels()
    yield "bomb.npy", npy(np.zeros((2, 2), np.uint8)).replace(b"(2, 2)", b"(999999, 999999)").replace(b" " * 10, b"", 1)
    yield "nothing.npy", npy(np.zeros((0, WIDTH, 3), np.uint8))
    yield "thin_1x60000.png", saved(plain_image(1, 60000), "PNG")


def many_channels() -> bytes:
    """A TIFF of few bytes that claims 25 megapixels of 60 channels."""
    content = bytearray(tiff(np.zeros((4, 4, 7), np.uint16), photometric="minisblack", planarconfig="contig"))
    with tifffile.TiffFile(io.BytesIO(bytes(content))) as file:
        tags = file.pages[0].tags
        for tag, value in (
            ("ImageWidth", 5000),
            ("ImageLength", 5000),
            ("RowsPerStrip", 5000),
            ("SamplesPerPixel", 60),
        ):
            size = {3: 2, 4: 4}[int(tags[tag].dtype)]
            content[tags[tag].valueoffset : tags[tag].valueoffset + size] = value.to_bytes(size, "little")
    return bytes(content)


def odd_shapes() -> Iterator[tuple[str, bytes]]:
    """Intact images that must be read."""
    for kind, suffix in (
        ("JPEG", "jpg"),
        ("PNG", "png"),
        ("WEBP", "webp"),
        ("BMP", "bmp"),
        ("GIF", "gif"),
        ("TIFF", "tif"),
    ):
        yield f"shape_1x1.{suffix}", saved(plain_image(1, 1), kind)
        if kind != "WEBP":
            yield f"shape_3x20000.{suffix}", saved(plain_image(3, 20000), kind)
            yield f"shape_20000x3.{suffix}", saved(plain_image(20000, 3), kind)
    yield "shape_1x1_deep.tif", tiff(np.full((1, 1, 3), 1000, np.uint16), photometric="rgb")
    yield "long_1x60000.png", saved(plain_image(1, 60000), "PNG")
    yield "long_60000x1.jpg", saved(plain_image(60000, 1), "JPEG")


BAD_EXIF = {
    "garbage": b"Exif\0\0" + bytes(range(256)),
    "cut": b"Exif\0\0II*\0\x08\0\0\0\x05\0",
    "loop": b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x01\0\0\0\x08\0\0\0",
    "turn99": b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x63\0\0\0\0\0\0\0",
    "turn_text": b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x04\0\0\0abc\0\0\0\0\0",
    "far": b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\xff\xff\xff\x7f\xff\xff\xff\x7f\0\0\0\0",
    "empty": b"Exif\0\0",
}


def bad_exif() -> Iterator[tuple[str, bytes]]:
    """Intact images with corrupt EXIF orientation."""
    image = plain_image()
    for what, exif in BAD_EXIF.items():
        yield f"exif_{what}_plain.jpg", saved(image, "JPEG", quality=90, exif=exif)
        yield f"exif_{what}_plain.png", saved(image, "PNG", exif=exif)
        yield f"exif_{what}_plain.webp", saved(image, "WEBP", lossless=True, exif=exif)


def foreign() -> Iterator[tuple[str, bytes]]:
    """Formats that Pillow reads but gantrain refuses: an EPS would be run by Ghostscript."""
    yield "foreign_eps.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(x) print showpage\n"
    yield "foreign_svg.png", b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
    yield "foreign_pdf.jpg", b"%PDF-1.4\n%%EOF"
    yield "foreign_pickle.npy", npy(np.array([{}], dtype=object))


MAKERS: tuple[Callable[[], Iterator[tuple[str, bytes]]], ...] = (
    *(lambda: iter(good().items()), cut, flipped, renamed, resized, odd_shapes, bad_exif, foreign),
)


def make(folder: Path) -> list[str]:
    """Write all images, and return their names."""
    folder.mkdir()
    files = {name: content for maker in MAKERS for name, content in maker()}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return list(files)


def keys_for(name: str, decoder: str) -> dict[str, Any]:
    """The keys that fit the image."""
    side = 256 if name.startswith("thin") else 16
    range_ = (0.0, 1.0) if "float" in name else None
    depth = "float32" if "float" in name else "uint16" if "deep" in name or "16" in name else "uint8"
    return {
        **{
            "root": "",
            "channels": 3,
            "load_size": side,
            "crop_size": side,
            "crop": "center",
            "flip": False,
            "phase": "train",
        },
        **{"preprocess": None, "range": range_, "depth": depth, "decoder": decoder, "list": None},
    }


def limit() -> None:
    """Limit memory and time of this process from now on."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    spent = int(resource.getrusage(resource.RUSAGE_SELF).ru_utime)
    resource.setrlimit(resource.RLIMIT_CPU, (spent + SECONDS, spent + SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main(folder: Path) -> None:
    """Read every image with every decoder, and print a line of JSON for each: name, decoder, result or error."""
    from gantrain.data.images.headers import read_header
    from gantrain.data.sets.single import SingleFolder
    from gantrain.errors import ConfigError

    SingleFolder(**keys_for("", "fast") | {"root": str(folder / "plain.png")}).item(0, 0)  # imports modules
    limit()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name in sorted(path.name for path in folder.iterdir()):
        path = folder / name
        for decoder in ("header", *DECODERS):
            print(json.dumps({"name": name, "decoder": decoder}), flush=True)  # in case this one kills the process
            line: dict[str, Any] = {"name": name, "decoder": decoder}
            try:
                if decoder == "header":
                    line["header"] = list(read_header(path, 3, str(path)))
                else:
                    image = SingleFolder(**keys_for(name, decoder) | {"root": str(path)}).item(0, 0)["image"]
                    line |= {"shape": list(image.shape), "digest": zlib.crc32(image.numpy().tobytes())}
            except ConfigError as error:
                line["error"] = str(error)
            except Exception as error:
                line["trace"] = f"{type(error).__name__}: {error}"
            print(json.dumps(line), flush=True)
    print(json.dumps({"grown": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
