"""Reading, resizing, cropping and flipping pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from gantrain.registry import ConfigError

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"})


def find_images(root: Path) -> list[Path]:
    """All pictures below a folder, sorted, whatever the case of their extensions.

    Raises:
        ConfigError: The folder is missing, or holds no picture.
    """
    if not root.is_dir():
        raise ConfigError(f"data.root: there is no folder {root}")
    found = sorted(path for path in root.rglob("*") if path.suffix.lower() in EXTENSIONS and path.is_file())
    if not found:
        raise ConfigError(f"data.root: no picture in {root} (looked for {', '.join(sorted(EXTENSIONS))})")
    return found


def read_image(path: Path, channels: int) -> Image.Image:
    """A picture upright, in gray (1) or colour (3), transparency laid on white.

    Raises:
        ConfigError: The file is not a picture, or a broken one.
    """
    try:
        with Image.open(path) as file:
            image = ImageOps.exif_transpose(file)
            if image.mode.startswith("I"):  # 16 bits, which Pillow's conversion would clip to 8 instead of scaling
                image = Image.fromarray((np.asarray(image) / 257).round().astype(np.uint8))
            if image.has_transparency_data:
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
            return image.convert("L" if channels == 1 else "RGB")
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ConfigError(f"can't read the picture {path}: {error}") from None


def resize_shorter_side(image: Image.Image, size: int) -> Image.Image:
    """Bicubic, antialiased, to a shorter side of ``size`` pixels with the aspect ratio kept."""
    scale = size / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    return image if image.size == (width, height) else image.resize((width, height), Image.Resampling.BICUBIC)


def crop(image: Image.Image, size: int, seed: int | None) -> Image.Image:
    """A square of ``size`` pixels: at a place drawn from ``seed``, or the middle if it is None."""
    slack_x, slack_y = image.width - size, image.height - size
    if seed is None:
        left, top = slack_x // 2, slack_y // 2
    else:
        generator = torch.Generator().manual_seed(seed)
        left, top = (
            int(torch.randint(slack + 1, (), generator=generator)) if slack else 0 for slack in (slack_x, slack_y)
        )
    return image.crop((left, top, left + size, top + size))


def to_tensor(image: Image.Image) -> Tensor:
    """(C, H, W) uint8."""
    pixels = torch.from_numpy(np.array(image))
    return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)
