#!/usr/bin/env python3
"""Draw letters of matplotlib's fonts, a data set of real shapes that needs no download: classes, and pairs of weights.

    pip install matplotlib
    python scripts/make_glyphs.py datasets/glyphs
    gantrain train model=cgan data=single data.root=datasets/glyphs/letters
    gantrain train model=pix2pix data=aligned data.root=datasets/glyphs/weights

``letters`` has one folder for each of the Latin, Greek and Cyrillic letters, ``weights`` the same letters in a regular
(A) and in a bold font (B), for pairs and for unpaired images. Every tenth letter is held out, in all fonts.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

SIZE = 32
SCRIPTS = ("latin", "greek", "cyrillic")
HELD_OUT = 10
WEIGHTS = {
    f"{family}{regular}": f"{family}{bold}"
    for family in ("DejaVuSans", "DejaVuSansMono", "DejaVuSerif")
    for regular, bold in (("", "-Bold"), ("-Oblique", "-BoldOblique"))
    if family != "DejaVuSerif" or not regular
} | {"DejaVuSerif-Italic": "DejaVuSerif-BoldItalic", "STIXGeneral": "STIXGeneralBol"}


def letters() -> Iterator[tuple[str, str]]:
    """Each letter without a diacritic, with its script."""
    for code in range(0x41, 0x530):
        letter = chr(code)
        script = unicodedata.name(letter, "").split(" ")[0].lower()
        if script in SCRIPTS and unicodedata.category(letter)[0] == "L" and not unicodedata.decomposition(letter):
            yield letter, script


def draw(letter: str, font: ImageFont.FreeTypeFont) -> Image.Image:
    """The letter in black on white, gray, 32 x 32 pixels; its base line has the same place in all images."""
    image = Image.new("L", (4 * SIZE, 4 * SIZE), 255)
    ImageDraw.Draw(image).text((2 * SIZE, 3 * SIZE), letter, fill=0, font=font, anchor="ms")
    return image.resize((SIZE, SIZE), Image.Resampling.BOX)


def main() -> int:
    """Write the folders."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="a folder that does not exist yet")
    folder = parser.parse_args().folder
    spec = importlib.util.find_spec("matplotlib")
    if spec is None or importlib.util.find_spec("fontTools") is None:
        print("make_glyphs: the fonts of matplotlib are needed: pip install matplotlib", file=sys.stderr)
        return 2
    if folder.exists():
        print(f"make_glyphs: {folder} exists; give another folder", file=sys.stderr)
        return 2
    from fontTools.ttLib import TTFont

    fonts = Path(str(spec.origin)).parent / "mpl-data/fonts/ttf"
    for regular, bold in tqdm(WEIGHTS.items(), desc="fonts"):
        paths = [fonts / f"{name}.ttf" for name in (regular, bold)]
        known = set.intersection(*(set(TTFont(path).getBestCmap()) for path in paths))
        drawn = [ImageFont.truetype(path, 3 * SIZE) for path in paths]
        for number, (letter, script) in enumerate(letters()):
            if ord(letter) not in known:
                continue
            images = [draw(letter, font) for font in drawn]
            name = f"{regular}_{ord(letter):04x}.png"
            phase = "train" if number % HELD_OUT else "test"
            for domain, image in zip("AB", images, strict=True):
                write(image, folder / "weights" / f"{phase}{domain}" / name)
                write(image, folder / "letters" / phase / script / f"{domain}_{name}")
    return 0


def write(image: Image.Image, path: Path) -> None:
    """Write an image into a folder that may not exist."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


if __name__ == "__main__":
    sys.exit(main())
