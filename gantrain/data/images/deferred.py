"""JPEGs that are decoded after they are in a batch, on the device of the run: nvJPEG, through torchvision.

What is random about an image is drawn where all others are prepared, so the order, crops and flips are the same.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from torch import Tensor

from gantrain.data.images.opening import open_image, orientation_of
from gantrain.errors import ConfigError, reason_of
from gantrain.runtime import console

DecodeDevice: TypeAlias = Literal["cpu", "cuda"]
MODES = {1: "L", 3: "RGB"}  # Pillow's names of the images that are deferred, by channels.
KEYS = "keys"  # The key of a batch with deferred images for what it is made from again.
END = re.compile(rb"\xff\xd9\0*\Z")  # Without the marker of its end, a JPEG is truncated.


@dataclass(frozen=True)
class Deferred:
    """An encoded JPEG, or a column of one, and what is to be done after decoding."""

    content: bytes
    channels: int
    scaled: tuple[int, int]  # Height and width.
    column: int = 0
    columns: int = 1  # Number of images of the same width side by side.
    window: tuple[int, int, int, int] | None = None  # Top, left, height and width of the crop; None before ``cut``.
    flip: bool = False

    @property
    def shape(self) -> tuple[int, int, int]:
        """(H, W, C) as scaled, or (C, H, W) as cropped: as the arrays and tensors have it that it replaces."""
        return (*self.scaled, self.channels) if self.window is None else (self.channels, *self.window[2:])

    def cut(self, top: int, left: int, height: int, width: int, *, flip: bool) -> Deferred:
        """The same with a crop, and perhaps mirrored."""
        return replace(self, window=(top, left, height, width), flip=flip)


def jpeg_size(content: bytes, channels: int) -> tuple[int, int] | None:
    """Height and width of an upright JPEG that is complete and in gray or colour as the data set; None for others."""
    if not content.startswith(b"\xff\xd8\xff") or not END.search(content):
        return None
    with ExitStack() as stack:
        image = open_image(content, stack, channels)[0]
        plain = isinstance(image, JpegImageFile) and image.mode == MODES.get(channels) and orientation_of(image) == 1
        return (image.height, image.width) if isinstance(image, Image.Image) and plain else None


def decode_deferred(images: Sequence[Deferred | Tensor], device: torch.device) -> Tensor:
    """Images of one size as a batch (N, C, H, W) uint8 on a device.

    Scaling is bicubic and antialiased, in float32, rounded to the nearest. Decoders differ by a few gray levels.

    Raises:
        RuntimeError: One of them can't be decoded there.
    """
    from torchvision import io  # It takes a second to import.

    jpegs = {id(image.content): image for image in images if isinstance(image, Deferred)}  # Columns share a file.
    decoded: dict[int, Tensor] = {}
    for channels, mode in ((1, io.ImageReadMode.GRAY), (3, io.ImageReadMode.RGB)):
        chosen = {key: image.content for key, image in jpegs.items() if image.channels == channels}
        if chosen:
            encoded = [torch.frombuffer(bytearray(content), dtype=torch.uint8) for content in chosen.values()]
            with warnings.catch_warnings():  # From 0.29 on, torchvision recommends TorchCodec.
                warnings.simplefilter("ignore", DeprecationWarning)
                decoded |= zip(chosen, io.decode_jpeg(encoded, mode=mode, device=device), strict=True)
    return torch.stack(
        [
            _finished(decoded[id(image.content)], image) if isinstance(image, Deferred) else image.to(device)
            for image in images
        ]
    )


def _finished(pixels: Tensor, image: Deferred) -> Tensor:
    assert image.window is not None
    width = pixels.shape[2] // image.columns
    pixels = pixels[:, :, image.column * width : (image.column + 1) * width]
    if pixels.shape[1:] != image.scaled:
        scaled = torch.nn.functional.interpolate(pixels[None].float(), image.scaled, mode="bicubic", antialias=True)[0]
        pixels = scaled.round_().clamp_(0, 255).to(torch.uint8)
    top, left, height, width = image.window
    cropped = pixels[:, top : top + height, left : left + width]
    return cropped.flip(2) if image.flip else cropped


def check_decoder(device: torch.device) -> None:
    """Raise a ConfigError unless JPEGs can be decoded on the device of the run."""
    if device.type != "cuda":
        raise ConfigError(
            f"data.decode_device=cuda needs a GPU, and this run is on {device.type}: leave it out, or give "
            "trainer.accelerator=cuda"
        )
    file = BytesIO()
    Image.fromarray(np.zeros((16, 16, 3), dtype=np.uint8)).save(file, format="JPEG")
    try:
        decode_deferred([Deferred(file.getvalue(), 3, (16, 16)).cut(0, 0, 16, 16, flip=False)], device)
    except RuntimeError as error:
        raise ConfigError(f"data.decode_device=cuda: torchvision can't decode on it ({reason_of(error)})") from None


class DeferredDecoder:
    """Decodes the deferred images of batches on the device of the run.

    Raises:
        ConfigError: It can't decode JPEGs.
    """

    def __init__(self, device: torch.device) -> None:
        check_decoder(device)
        self._device = device
        self._warned = False

    def __call__(self, batch: dict[str, Any], on_cpu: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        """The batch with (N, C, H, W) uint8 for its images; made by ``on_cpu`` where one can't be decoded here."""
        keys = batch.pop(KEYS, None)
        if keys is None:
            return batch
        try:
            return {
                key: decode_deferred(value, self._device) if _defers(value) else value for key, value in batch.items()
            }
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            if not self._warned:
                self._warned = True
                console.err(
                    f"warning: data.decode_device=cuda: an image can't be decoded there ({reason_of(error)}); batches "
                    "with such images are decoded on the CPU"
                )
            return on_cpu(keys)


def _defers(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(each, Deferred) for each in value)
