"""One folder of pictures, with or without classes."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

import torch

from gantrain.data.base import Batch, ImageDataset, ImageSpec
from gantrain.data.transforms import crop, find_images, read_image, resize_shorter_side, to_tensor
from gantrain.registry import DATASETS, ConfigError, Positive
from gantrain.seeding import derive_seed


@DATASETS.register("single")
class SingleFolder(ImageDataset):
    """A folder of pictures, searched recursively; its sub-folders, if they hold every picture, are the classes.

    A picture is scaled to a shorter side of ``load_size`` (bicubic, antialiased), then a square of ``crop_size`` is cut
    from it.

    Args:
        root: The folder. If it holds folders named ``train`` and ``test``, each phase reads its own.
        channels: 1 for gray, 3 for colour.
        load_size: Shorter side after scaling, in pixels.
        crop_size: Side of the square, at most ``load_size``.
        crop: Where in training the square is cut from: ``random`` or ``center``; in testing, the center.
        flip: Whether half of the pictures are mirrored in training.
        phase: ``train`` or ``test``.
    """

    def __init__(
        self,
        *,
        root: str,
        channels: Literal[1, 3],
        load_size: Positive,
        crop_size: Positive,
        crop: Literal["random", "center"],
        flip: bool,
        phase: Literal["train", "test"],
    ) -> None:
        if crop_size > load_size:
            raise ConfigError(f"data.crop_size ({crop_size}) must not exceed data.load_size ({load_size})")
        folder = Path(root).expanduser()
        self.held_out = (folder / "train").is_dir() and (folder / "test").is_dir()
        if self.held_out:
            folder /= phase
        self._paths = find_images(folder)
        names = "\n".join(path.relative_to(folder).as_posix() for path in self._paths)
        self.fingerprint = hashlib.blake2b(names.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()
        self._folder = folder
        self._channels = channels
        self._load_size = load_size
        self._crop_size = crop_size
        self._random_crop = crop == "random" and phase == "train"
        self._flip = flip and phase == "train"
        below = folder.parent / "train" if self.held_out else folder
        classes = _classes(below, self._paths if below == folder else find_images(below))
        if classes:
            numbers = {name: number for number, name in enumerate(classes)}
            self.labels = [numbers.get(path.relative_to(folder).parts[0], -1) for path in self._paths]
            if -1 in self.labels:
                stray = self._paths[self.labels.index(-1)]
                raise ConfigError(f"data.root: {stray} is in none of the classes of the training pictures: {classes}")
        self.spec = ImageSpec(
            height=crop_size,
            width=crop_size,
            channels={"image": channels},
            depth={"image": "uint8"},
            class_names=tuple(classes),
        )

    def __len__(self) -> int:
        """How many pictures there are."""
        return len(self._paths)

    def item(self, index: int, seed: int) -> Batch:
        """``image`` (C, H, W) uint8, ``name`` the path below the folder, and ``label`` if there are classes."""
        path = self._paths[index]
        image = resize_shorter_side(read_image(path, self._channels), self._load_size)
        image = crop(image, self._crop_size, seed if self._random_crop else None)
        pixels = to_tensor(image)
        if self._flip and derive_seed(seed, "flip") % 2:
            pixels = torch.flip(pixels, (-1,))
        item: Batch = {"image": pixels, "name": str(path.relative_to(self._folder))}
        if self.labels is not None:
            item["label"] = self.labels[index]
        return item


def _classes(folder: Path, pictures: list[Path]) -> list[str]:
    """The sub-folders that hold every picture of the folder, sorted; none if there are fewer than two."""
    parts = [path.relative_to(folder).parts for path in pictures]
    names = sorted({part[0] for part in parts})
    return names if all(len(part) > 1 for part in parts) and len(names) > 1 else []
