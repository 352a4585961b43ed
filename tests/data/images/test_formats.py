"""The formats of image files."""

from __future__ import annotations

import subprocess
import sys

from PIL import Image

from gantrain.data.images.formats import EXTENSIONS, FORMATS

CODE = """
import sys
import gantrain.data.images.formats
print(*(name for name in sys.modules if name.endswith("ImagePlugin")))
"""


def test_only_the_readers_of_these_formats_are_imported() -> None:
    ended = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert "PIL.JpegImagePlugin" in ended.stdout
    assert len(ended.stdout.split()) <= len(FORMATS)


def test_the_extensions_are_those_that_pillow_registers() -> None:
    registered = {suffix for suffix, name in Image.registered_extensions().items() if name in FORMATS}
    assert registered | {".npy"} == EXTENSIONS
    assert {".jpg", ".png", ".tif", ".webp", ".bmp"} <= EXTENSIONS
