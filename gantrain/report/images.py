"""Pictures from tensors."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor

from gantrain.data.base import to_uint8

GAP = 2  # pixels between the images of a grid


def to_picture(image: Tensor) -> Image.Image:
    """(C, H, W) in [-1, 1], C being 1 or 3, to a gray or colour picture."""
    pixels = to_uint8(image.detach()).cpu()
    return Image.fromarray(pixels[0].numpy() if len(pixels) == 1 else pixels.permute(1, 2, 0).contiguous().numpy())


def grid(images: Tensor, columns: int) -> Image.Image:
    """(N, C, H, W) in [-1, 1] as one picture, row by row, on black."""
    count, channels, height, width = images.shape
    rows = -(-count // columns)
    canvas = torch.full((channels, rows * (height + GAP) + GAP, columns * (width + GAP) + GAP), -1.0)
    for number, image in enumerate(images.detach().float().cpu()):
        row, column = divmod(number, columns)
        top, left = GAP + row * (height + GAP), GAP + column * (width + GAP)
        canvas[:, top : top + height, left : left + width] = image
    return to_picture(canvas)
