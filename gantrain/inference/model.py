"""A trained model for use: images in, images of the same kind out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from threading import RLock
from typing import Any, TypeAlias, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gantrain.data.base import ImageSpec, to_signed_range, to_uint8
from gantrain.data.images.convert import DEPTHS, ImageFormat, converted, stored_pixels
from gantrain.data.images.decoding import Decoded, decode, decode_opened, depth_of, image_errors
from gantrain.data.images.sources import EncodedImage
from gantrain.data.images.store import Pixels
from gantrain.errors import ConfigError
from gantrain.inference.memory import Memory, images_at_once, in_strips
from gantrain.models.base import GAN, LatentGAN
from gantrain.models.translation import Direction, NetworkMode, Translator, in_mode

Picture = TypeVar("Picture", Image.Image, Pixels, Tensor)
Readable: TypeAlias = EncodedImage | Image.Image | Pixels  # An image file, its content, or what was read of one.


class Model:
    """A trained model in evaluation mode, which several threads may use at once; see ``gantrain.load``.

    ``model(photo)`` translates an image. ``translate``, ``latents``, ``sample`` and all other attributes are those of
    the module.

    Args:
        module: The networks, in evaluation mode and without gradients.
        spec: The images that it was trained on; None if unknown: 8 bits, in the whole range of values.
        step: The step of its checkpoint; None if it is not of a run.
        config: The configuration of its run; empty if it is not of a run.
        autocast: The type in which the networks compute; None for that of their weights.
    """

    def __init__(
        self,
        module: GAN | Translator,
        *,
        spec: ImageSpec | None = None,
        step: int | None = None,
        config: Mapping[str, Any] | None = None,
        autocast: torch.dtype | None = None,
    ) -> None:
        self.module = module
        self.spec = spec
        self.step = step
        self.config = dict(config or {})
        self._autocast = autocast
        # Dropout and batch norm as in training replace methods of the networks while they run.
        self._lock = RLock()

    def __getattr__(self, name: str) -> Any:
        if name == "module":  # While a copy is made, there is none yet.
            raise AttributeError(name)
        return getattr(self.module, name)

    def __repr__(self) -> str:
        return f"Model({type(self.module).__name__}, {self.device}, step={self.step})"

    def __call__(
        self,
        image: Picture,
        direction: Direction | None = None,
        *,
        network_mode: NetworkMode = "train",
        memory: Memory = "auto",
    ) -> Picture:
        """Translate an image of any size; the result is of the same kind and size.

        Args:
            image: A PIL image; an array (H, W), (H, W, C) of the type of the training images, such as uint8; or a
                tensor (C, H, W) or (N, C, H, W), in [-1, 1] or of uint8. PIL images and arrays are converted to the
                channels of the model as image files are; results of one channel are (H, W).
            direction: ``a_to_b`` or ``b_to_a``; None for the first that the model has.
            network_mode: ``train`` applies dropout, always the same, and batch norm as in training; ``per_image`` with
                the statistics of each image, as the code of pix2pix does; ``eval`` does neither.
            memory: ``whole`` computes all layers for the whole image; ``strips`` in strips of rows, with the same
                result in little memory; ``auto`` does so if the whole does not fit.

        Raises:
            ConfigError: The image has the wrong channels or type, the model translates no images, or the network can't
                be computed in strips.
        """
        direction = self.direction(direction)
        if isinstance(image, Tensor):
            batch = image[None] if image.dim() == 3 else image
            result = torch.cat(
                [
                    torch.cat([rows for _, rows in parts], dim=2)
                    for parts in self._apply(batch, direction, range(len(batch)), network_mode, memory)
                ]
            )
            result = to_uint8(result) if image.dtype == torch.uint8 else result.to(image.dtype)
            return (result[0] if image.dim() == 3 else result).to(image.device)
        pixels = self.read(image, direction, "the image")
        (made,) = self.translate_pixels([pixels], direction, names=[0], network_mode=network_mode, memory=memory)
        made = made[..., 0] if made.shape[-1] == 1 else made
        return Image.fromarray(made) if isinstance(image, Image.Image) else made

    # ---- as in the module

    def translate(
        self, image: Tensor, direction: Direction | None = None, *, seeds: Sequence[int] | None = None
    ) -> Tensor:
        """See ``Translator.translate``; without a direction, the first that the model has."""
        with self._inside():
            return self._translator.translate(image, self.direction(direction), seeds=seeds)

    def sample(self, latent: Tensor, labels: Tensor | None = None) -> Tensor:
        """See ``LatentGAN.sample``."""
        with self._inside():
            return self._generating.sample(latent, labels)

    def latents(self, count: int, *, seed: int) -> Tensor:
        """See ``LatentGAN.latents``."""
        return self._generating.latents(count, seed=seed)

    @property
    def device(self) -> torch.device:
        """The device of the networks."""
        return next((weight.device for weight in self.module.parameters()), torch.device("cpu"))

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights."""
        return next((weight.dtype for weight in self.module.parameters()), torch.float32)

    # ---- images as they are stored

    def direction(self, direction: Direction | None) -> Direction:
        """The direction, or the first that the model has.

        Raises:
            ConfigError: The model does not translate, or not in this direction.
        """
        directions = self._translator.directions
        if direction not in (None, *directions):
            raise ConfigError(f"direction={direction}: this model only translates {' and '.join(directions)}")
        return direction or directions[0]

    def format_of(self, domain: str) -> ImageFormat:
        """Channels, depth and range of the images of a domain: ``a`` or ``b``, or ``image`` of a model of noise."""
        channels = self.module.channels if isinstance(self.module, Translator) else self._generating.spec.channels
        key = domain if domain in channels else "image"
        depth, ranges = (self.spec.depth, self.spec.ranges) if self.spec is not None else ({}, {})
        return ImageFormat(channels[key], depth.get(key, "uint8"), ranges.get(key))

    def read(self, image: Readable, direction: Direction, location: str) -> Pixels:
        """An image (H, W, C) as the model takes it, in its own depth where that loses nothing.

        Raises:
            ConfigError: It can't be read or converted; the message names its ``location``.
        """
        target = self.format_of(direction[0])
        if isinstance(image, (bytes, bytearray)) or not isinstance(image, (Image.Image, np.ndarray)):
            decoded = decode(image, target.channels, location)
        else:
            with image_errors(b"", location):
                source = image.copy() if isinstance(image, Image.Image) else image  # It is turned upright in place.
                decoded = decode_opened(source, target.channels)
        return converted(decoded, _acceptable(decoded, target, location), location)

    def translate_pixels(
        self,
        images: Sequence[Pixels],
        direction: Direction,
        *,
        names: Sequence[int | str],
        network_mode: NetworkMode,
        memory: Memory,
    ) -> list[Pixels]:
        """Translate images (H, W, C) of one size from ``read`` to (H, W, C') in the depth of the target domain.

        ``names`` determine the dropout of each image in ``network_mode=train``.
        """
        batch = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
        target = self.format_of(direction[-1])
        results: list[Pixels] = []
        for parts in self._apply(batch, direction, names, network_mode, memory):
            made: list[Pixels] = []
            for first, rows in parts:
                made = made or list(np.empty((len(rows), *images[0].shape[:2], rows.size(1)), target.depth))
                for image, part in zip(made, rows, strict=True):
                    image[first : first + part.size(1)] = stored_pixels(
                        part, depth=target.depth, value_range=target.value_range
                    )
            results += made
        return results

    # ---- inside

    @property
    def _translator(self) -> Translator:
        if not isinstance(self.module, Translator):
            raise ConfigError(
                f"{type(self.module).__name__} generates images from noise and translates none: use sample"
            )
        return self.module

    @property
    def _generating(self) -> LatentGAN:
        if not isinstance(self.module, LatentGAN):
            raise ConfigError(
                f"{type(self.module).__name__} translates images and has no latents or samples: use translate"
            )
        return self.module

    def _apply(
        self,
        images: Tensor,
        direction: Direction,
        names: Sequence[int | str],
        network_mode: NetworkMode,
        memory: Memory,
    ) -> Iterator[Iterable[tuple[int, Tensor]]]:
        """Translate stored images (N, C, H, W), some at a time: strips of each batch, (number of the first row, rows).

        A batch has several images unless they are computed in strips.
        """
        translator = self._translator
        with self._inside():
            count = images_at_once(translator, direction, images.shape, network_mode, memory, self.device)
            for first in range(0, len(images), count or 1):
                some = images[first : first + (count or 1)]
                if not count:
                    yield in_strips(translator, direction, some, network_mode)
                    continue
                signed = to_signed_range(some.to(self.device), self.dtype).contiguous()
                mode = in_mode(names[first : first + count], network_mode)
                output = translator.translate(translator.from_stored(signed), direction, **mode)
                yield [(0, translator.to_stored(output.to(self.dtype), signed))]

    @contextmanager
    def _inside(self) -> Iterator[None]:
        """Inside, no other thread uses the networks, and they compute in the chosen type."""
        precision = torch.autocast(self.device.type, dtype=self._autocast) if self._autocast else nullcontext()
        with self._lock, torch.no_grad(), precision:
            yield


def _acceptable(decoded: Decoded, target: ImageFormat, location: str) -> ImageFormat:
    """The format to convert an image to: of 16 bits for such an image, if all of its values are in the range."""
    stored, channels = depth_of(decoded.pixels.dtype), decoded.pixels.shape[2]
    colours = channels - bool(decoded.alpha)
    if channels != target.channels and not {colours, target.channels} <= {1, 3}:
        raise ConfigError(f"{location} has {channels} channels, and the model takes {target.channels}: convert it")
    if DEPTHS.index(stored) <= DEPTHS.index(target.depth):
        return target
    if stored == "float32" or target.value_range is not None:
        raise ConfigError(f"{location} is of {stored}, and the model takes images of {target.depth}: convert it")
    return replace(target, depth=stored)
