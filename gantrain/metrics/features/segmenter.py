"""A segmentation network from an ONNX file, run by onnxruntime."""

from __future__ import annotations

import hashlib
import importlib
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from gantrain.errors import ConfigError, reason_of

TYPES = {"tensor(uint8)": torch.uint8, "tensor(float)": torch.float32, "tensor(float16)": torch.float16}


class Segmenter:
    """A network from photos to the number of the class of each pixel.

    Its input is RGB, (N, 3, H, W): uint8, or floats in [0, 1], which it normalises itself. Its output is either scores
    of K classes, (N, K, H', W'), or their numbers, (N, H', W') or (N, 1, H', W'). If the graph has a fixed height and
    width, photos are resized to them. The output is resized to the photo: scores bilinearly, numbers to the nearest
    pixel's.

    Args:
        path: The file.
        classes: The number of classes that it must distinguish at least; those after them are never chosen.

    Raises:
        ConfigError: There is no such file, it is no such network, or onnxruntime is missing.
    """

    def __init__(self, path: str, classes: int) -> None:
        try:
            onnxruntime = importlib.import_module("onnxruntime")
        except ImportError:
            raise ConfigError(
                f"metrics.segmenter={path} needs the package onnxruntime: pip install 'gantrain[export]'"
            ) from None
        self._path, self._classes = path, classes
        file = Path(path).expanduser()
        if not file.is_file():
            raise ConfigError(f"metrics.segmenter={path}: no such file; give the path of an ONNX file")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # Errors alone, which are raised.
        try:
            self._session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # It has one type for each kind of damage.
            raise ConfigError(f"metrics.segmenter={path}: onnxruntime can't read it: {reason_of(error)}") from None
        inputs = self._session.get_inputs()
        shape = inputs[0].shape if inputs else []
        suits = len(inputs) == 1 and inputs[0].type in TYPES and len(shape) == 4
        if not suits or (isinstance(shape[1], int) and shape[1] != 3):
            found = ", ".join(f"{each.name} {each.type} {each.shape}" for each in inputs)
            raise ConfigError(f"metrics.segmenter={path}: it takes {found}, not one photo (N, 3, H, W), uint8 or float")
        self._input, self._dtype = inputs[0].name, TYPES[inputs[0].type]
        self._sides = tuple(side if isinstance(side, int) else None for side in shape[2:])
        self.identity = f"segmenter {file.name} {hashlib.sha256(file.read_bytes()).hexdigest()[:8]}"

    def __call__(self, photos: Tensor) -> Tensor:
        """The class of each pixel, (N, H, W) int64 on the CPU, of photos (N, 3, H, W) uint8, one at a time."""
        return torch.cat([self._one(photo[None]) for photo in photos.cpu()])

    def _one(self, photo: Tensor) -> Tensor:
        size = photo.shape[-2:]
        wanted = [own or side for own, side in zip(self._sides, size, strict=True)]
        pixels = photo.float()
        if wanted != list(size):
            pixels = F.interpolate(pixels, size=wanted, mode="bilinear", antialias=True)
        pixels = pixels.round() if self._dtype == torch.uint8 else pixels / 255
        try:
            found = torch.from_numpy(self._session.run(None, {self._input: pixels.to(self._dtype).numpy()})[0])
        except Exception as error:
            raise ConfigError(
                f"metrics.segmenter={self._path}: it fails for a photo of {wanted[0]} x {wanted[1]}: {reason_of(error)}"
            ) from None
        if found.dim() == 4 and found.shape[1] >= self._classes:
            scores = F.interpolate(found[:, : self._classes].float(), size=size, mode="bilinear")
            return scores.argmax(dim=1)
        numbers = found[:, None] if found.dim() == 3 else found
        if numbers.dim() != 4 or numbers.shape[1] != 1:
            raise ConfigError(
                f"metrics.segmenter={self._path}: its output is {tuple(found.shape)}, neither the numbers of classes "
                f"nor scores of {self._classes} classes or more"
            )
        return F.interpolate(numbers.double(), size=size, mode="nearest-exact")[:, 0].long()
