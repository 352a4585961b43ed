"""One set of pictures, with or without classes."""

from __future__ import annotations

import glob
from pathlib import Path
from typing import Literal

from gantrain.data.base import Batch, ImageDataset
from gantrain.data.folders import Depth, Domain, fingerprint_of, no_folder, spec_of
from gantrain.data.pictures import ValueRange, find_images, is_picture
from gantrain.data.sources import FolderSource
from gantrain.data.transforms import Mode, Preprocess, Size
from gantrain.registry import DATASETS, ConfigError, Positive


@DATASETS.register("single")
class SingleFolder(ImageDataset):
    """A folder of pictures, searched recursively; its sub-folders, if they hold every picture, are the classes.

    Args:
        root: The folder; if it holds folders named ``train`` and ``test``, each phase reads its own. Or one picture, or
            a pattern (``photos/*.jpg``, ``photos/**/*_left.png``).
        channels: 1 for gray, 3 for colour, others for files that have exactly these.
        load_size: Shorter side after scaling, in pixels; or what ``preprocess`` makes of it.
        crop_size: Side of the square that is cut, at most ``load_size``; or [height, width].
        crop: Where in training it is cut from: ``random`` or ``center``; in testing, the center.
        flip: Whether half of the pictures are mirrored in training.
        phase: ``train`` is training; any other is not.
        preprocess: See ``Preprocess``; null for a shorter side of ``load_size`` in every phase, then a square.
        range: The stored values that become -1 and 1; null for the whole range of the type.
        depth: ``auto`` for that of the first picture.
    """

    def __init__(
        self,
        *,
        root: str,
        channels: Positive,
        load_size: Size,
        crop_size: Size,
        crop: Literal["random", "center"],
        flip: bool,
        phase: str,
        # what a checkpoint from before there were these keys need not say
        preprocess: Mode | None = None,
        range: ValueRange | None = None,
        depth: Depth = "auto",
    ) -> None:
        training = phase == "train"
        self._preprocess = Preprocess(
            preprocess=preprocess or "scale_shortside_and_crop",
            load_size=load_size,
            crop_size=crop_size,
            flip=flip and training,
            training=training or preprocess is None,  # else testing would scale to crop_size
            crop=crop if training else "center",
        )
        folder, paths = _find(root)
        self.held_out = folder == Path(root).expanduser() and all(
            (folder / split).is_dir() for split in ("train", "test")
        )
        class_paths, class_folder = paths, folder
        if self.held_out:
            class_folder, folder = folder / "train", folder / phase
            class_paths, paths = find_images(class_folder), find_images(folder)
        self._pictures = Domain(FolderSource(folder, paths), channels=channels, depth=depth, value_range=range)
        self.fingerprint = fingerprint_of(self._pictures.names)
        classes = classes_in(class_folder, class_paths)
        if classes:
            self.labels = _labels(self._pictures, classes)
        self.spec = spec_of({"image": self._pictures}, crop_size, classes)

    def __len__(self) -> int:
        """How many pictures there are."""
        return len(self._pictures)

    def item(self, index: int, seed: int) -> Batch:
        """``image`` (C, H, W), ``name`` the path below the folder, and ``label`` if there are classes."""
        image = self._pictures.prepared(index, self._preprocess, seed)
        item: Batch = {"image": image, "name": self._pictures.name(index)}
        if self.labels is not None:
            item["label"] = self.labels[index]
        return item


def _find(root: str) -> tuple[Path, list[Path]]:
    """The folder to which names are relative, and the pictures that ``root`` stands for."""
    path = Path(root).expanduser()
    if path.is_dir():
        return path, find_images(path)
    if path.exists():
        return path.parent, [path]
    if not glob.has_magic(root):
        raise no_folder(path)
    paths = sorted(filter(is_picture, map(Path, glob.glob(str(path), recursive=True))))
    if not paths:
        raise ConfigError(f"data.root: no picture matches {root}")
    fixed = next(parent for parent in path.parents if not glob.has_magic(str(parent)))
    return fixed, paths


def classes_in(folder: Path, pictures: list[Path]) -> list[str]:
    """The sub-folders that hold every picture of the folder, sorted; none if there are fewer than two."""
    parts = [path.relative_to(folder).parts for path in pictures]
    names = sorted({part[0] for part in parts})
    return names if all(len(part) > 1 for part in parts) and len(names) > 1 else []


def _labels(pictures: Domain, classes: list[str]) -> list[int]:
    """The class number of every picture."""
    numbers = {name: number for number, name in enumerate(classes)}
    labels = [numbers.get(Path(name).parts[0], -1) for name in pictures.names]
    if -1 in labels:
        stray = pictures.place(labels.index(-1))
        raise ConfigError(f"data.root: {stray} is in none of the classes of the training pictures: {classes}")
    return labels
