"""One set of images, with or without classes."""

from __future__ import annotations

import glob
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from gantrain.config.schema import PositiveInt
from gantrain.data.base import Batch, ImageDataset
from gantrain.data.images.convert import ValueRange, find_images, is_image
from gantrain.data.images.reader import Depth, ImageReader
from gantrain.data.images.sources import FolderSource, Source
from gantrain.data.images.store import ImageCache
from gantrain.data.images.transforms import Decoder, Mode, Preprocess, Size
from gantrain.data.sets.layout import fingerprint_of, no_folder, of_phase, spec_of
from gantrain.data.sets.listing import read_list
from gantrain.errors import ConfigError
from gantrain.registry import DATASETS


@dataclass(frozen=True)
class Found:
    """The images of a phase.

    Attributes:
        source: Of the encoded images.
        fingerprint: Tells them from others.
        class_names: Empty if they have no labels.
        labels: One class number per image, or None.
        held_out: Whether the test phase shows others than the training phase.
    """

    source: Source
    fingerprint: str
    class_names: Sequence[str] = ()
    labels: Sequence[int] | None = None
    held_out: bool = False


class Images(ImageDataset):
    """One set of images, wherever they come from.

    Args:
        root: Where they lie.
        channels: 1 for gray, 3 for colour, others for files that have exactly these.
        load_size: Shorter side after scaling, in pixels; or what ``preprocess`` makes of it.
        crop_size: Side of the square that is cut, at most ``load_size``; or [height, width].
        crop: Where in training it is cut from: ``random`` or ``center``; in testing, the center.
        flip: Whether half of the images are mirrored in training.
        phase: ``train`` is training; any other is not.
        preprocess: See ``Preprocess``; null for a shorter side of ``load_size`` in every phase, then a square.
        range: The stored values that become -1 and 1; null for the whole range of the type.
        depth: ``auto`` for that of the first image.
        decoder: See ``Preprocess``.

    Attributes:
        found: The images as they are kept.
        preprocess: What is done to each.
    """

    def __init__(
        self,
        *,
        root: str,
        channels: PositiveInt,
        load_size: Size,
        crop_size: Size,
        crop: Literal["random", "center"],
        flip: bool,
        phase: str,
        preprocess: Mode | None,
        range: ValueRange | None,
        depth: Depth,
        decoder: Decoder,
    ) -> None:
        training = phase == "train"
        self.preprocess = Preprocess(
            preprocess=preprocess or "scale_shortside_and_crop",
            load_size=load_size,
            crop_size=crop_size,
            flip=flip and training,
            training=training or preprocess is None,  # else testing would scale to crop_size
            crop=crop if training else "center",
            decoder=decoder,
        )
        found = self.found = self._find(root, phase)
        self.held_out, self.fingerprint, self.labels = found.held_out, found.fingerprint, found.labels
        self._images = ImageReader(found.source, channels=channels, depth=depth, value_range=range)
        self.spec = spec_of({"image": self._images}, self._images.nominal_size(self.preprocess), found.class_names)

    @abstractmethod
    def _find(self, root: str, phase: str) -> Found:
        """The images of a phase."""

    def __len__(self) -> int:
        """How many images there are."""
        return len(self._images)

    def item(self, index: int, seed: int) -> Batch:
        """``image`` (C, H, W), ``name`` the path below the folder, and ``label`` if there are classes."""
        image = self._images.prepared(index, self.preprocess, seed)
        item: Batch = {"image": image, "name": self._images.name(index)}
        if self.labels is not None:
            item["label"] = self.labels[index]
        return item

    def use_cache(self, cache: ImageCache, indices: Sequence[int] | None = None) -> None:
        """Decode each image once."""
        self._images.use_cache(cache, self.preprocess, indices)
        self.in_memory = self._images.is_cached


@DATASETS.register("single")
class SingleFolder(Images):
    """A folder of images, searched recursively; its sub-folders, if they hold every image, are the classes.

    Args:
        root: The folder; if it holds folders named ``train`` and ``test``, each phase reads its own, and ``val`` stands
            in for a ``test`` that is not there. Or one image, or a pattern (``photos/*.jpg``,
            ``photos/**/*_left.png``).
        list: A CSV file in the folder, or elsewhere, that names its images, so that nothing is searched: see
            ``read_list``. Every phase reads them all.
        others: As for any set of images.
    """

    def __init__(self, *, root: str, list: str | None, **others: Any) -> None:
        self._list = list
        super().__init__(root=root, **others)

    def _find(self, root: str, phase: str) -> Found:
        if self._list is not None:
            listed, class_names, labels = read_list(Path(root).expanduser(), self._list)
            names = map(listed.name, range(len(listed)))
            told_apart = chain(names, [""], (class_names[label] for label in labels)) if labels else names
            return Found(listed, fingerprint_of(told_apart), class_names, labels)
        folder, paths = _search(root)
        own = of_phase(folder, phase) if folder == Path(root).expanduser() else None
        class_paths, class_folder = paths, folder
        if own is not None:
            class_folder, folder = folder / "train", own
            class_paths, paths = find_images(class_folder), find_images(folder)
        source = FolderSource(folder, paths)
        classes = classes_in(class_folder, class_paths)
        return Found(
            source,
            fingerprint_of(source.name(index) for index in range(len(source))),
            classes,
            _labels(source, classes) if classes else None,
            held_out=own is not None,
        )


def _search(root: str) -> tuple[Path, list[Path]]:
    """The folder to which names are relative, and the images that ``root`` stands for."""
    path = Path(root).expanduser()
    if path.is_dir():
        return path, find_images(path)
    if path.exists():
        return path.parent, [path]
    if not glob.has_magic(root):
        raise no_folder(path)
    paths = sorted(filter(is_image, map(Path, glob.glob(str(path), recursive=True))))
    if not paths:
        raise ConfigError(f"data.root: no image matches {root}")
    fixed = next(parent for parent in path.parents if not glob.has_magic(str(parent)))
    return fixed, paths


def classes_in(folder: Path, images: list[Path]) -> list[str]:
    """The sub-folders that hold every image of the folder, sorted; none if there are fewer than two."""
    parts = [path.relative_to(folder).parts for path in images]
    names = sorted({part[0] for part in parts})
    return names if all(len(part) > 1 for part in parts) and len(names) > 1 else []


def _labels(source: FolderSource, classes: list[str]) -> list[int]:
    """The class number of every image."""
    numbers = {name: number for number, name in enumerate(classes)}
    labels = [numbers.get(path.relative_to(source.folder).parts[0], -1) for path in source.paths]
    if -1 in labels:
        stray = source.location(labels.index(-1))
        raise ConfigError(f"data.root: {stray} is in none of the classes of the training images: {classes}")
    return labels
