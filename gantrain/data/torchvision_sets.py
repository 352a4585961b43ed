"""The full data sets that torchvision downloads."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np

from gantrain import distributed
from gantrain.data.base import Batch, ImageDataset, ImageSpec
from gantrain.data.transforms import Preprocess
from gantrain.registry import DATASETS, ConfigError, Side


@DATASETS.register("torchvision")
class TorchvisionDataset(ImageDataset):
    """MNIST, FashionMNIST, CIFAR10 or CelebA through torchvision's downloaders.

    A picture is scaled to a shorter side of ``load_size``, then a square of ``crop_size`` is cut from its middle.

    Args:
        dataset: torchvision's name.
        root: Folder for downloads.
        load_size: Shorter side after scaling, in pixels.
        crop_size: Side of the square, at most ``load_size``.
        flip: Whether half of the pictures are mirrored in training.
        phase: ``train`` or ``test``.
    """

    def __init__(
        self,
        *,
        dataset: Literal["MNIST", "FashionMNIST", "CIFAR10", "CelebA"],
        root: str,
        load_size: Side,
        crop_size: Side,
        flip: bool,
        phase: Literal["train", "test"],
    ) -> None:
        from torchvision import datasets  # costs more to import than torch itself

        self._preprocess = Preprocess(
            preprocess="scale_shortside_and_crop",
            load_size=load_size,
            crop_size=crop_size,
            flip=flip and phase == "train",
            training=True,  # else testing would scale to crop_size
            crop="center",
        )
        choose: dict[str, Any] = {"split": phase} if dataset == "CelebA" else {"train": phase == "train"}
        try:
            with distributed.first_alone():
                self._set = getattr(datasets, dataset)(Path(root).expanduser(), download=True, **choose)
        except (RuntimeError, OSError, ImportError) as error:
            reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(":")
            raise ConfigError(
                f"{dataset} is not in data.root ({root}) and could not be downloaded ({reason}): run once with a "
                "connection, or copy torchvision's files there; data=digits needs no download"
            ) from None
        gray = dataset in ("MNIST", "FashionMNIST")
        if dataset != "CelebA":
            self.labels = [int(label) for label in self._set.targets]
        self.spec = ImageSpec(
            height=crop_size,
            width=crop_size,
            channels={"image": 1 if gray else 3},
            depth={"image": "uint8"},
            class_names=tuple(self._set.classes) if dataset != "CelebA" else (),
        )

    def __len__(self) -> int:
        """As many as torchvision's split holds."""
        return len(self._set)

    def item(self, index: int, seed: int) -> Batch:
        """``image`` (C, H, W) uint8, and ``label`` where the set has classes."""
        pixels = np.asarray(self._set[index][0])
        image = self._preprocess(pixels[..., None] if pixels.ndim == 2 else pixels, seed)
        return {"image": image, **({"label": self.labels[index]} if self.labels is not None else {})}
