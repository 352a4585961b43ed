"""Data sets of one domain, with or without classes."""

from __future__ import annotations

import copy
import glob
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from gantrain.config.schema import PositiveInt
from gantrain.data.base import Batch, ImageDataset
from gantrain.data.images.convert import ValueRange
from gantrain.data.images.finding import contents, is_image, matching, report_once
from gantrain.data.images.formats import EXTENSIONS
from gantrain.data.images.reader import Depth, ImageReader
from gantrain.data.images.sources import FolderSource, Source
from gantrain.data.images.store import ImageCache
from gantrain.data.images.transforms import Decoder, Mode, Preprocess, Size
from gantrain.data.names import fingerprint_of, in_order, nfc
from gantrain.data.sets.layout import (
    NAMED,
    images_in,
    labels_of,
    no_folder,
    of_phase,
    resized,
    root_path,
    some_of,
    spec_of,
)
from gantrain.data.sets.listing import read_list
from gantrain.errors import ConfigError
from gantrain.registry import DATASETS


@dataclass(frozen=True)
class Found:
    """The images of a phase; see ``ImageDataset``."""

    source: Source
    fingerprint: str
    class_names: Sequence[str] = ()
    labels: Sequence[int] | None = None
    held_out: bool = False
    unlabelled: str = ""


class Images(ImageDataset):
    """Base class of data sets of one domain, whatever the storage.

    Args:
        root: The path of the images.
        channels: 1 for gray, 3 for colour; any other number for files with exactly that many channels.
        crop: Position of the crop in training, ``random`` or ``center``. In testing it is always the center.
        phase: ``train`` for training; any other for testing.
        preprocess: How images are scaled and cropped; null scales the shorter side to ``load_size`` in every phase,
            then crops. See ``Preprocess``.
        load_size: Height and width in pixels to which images are scaled, a number or [height, width].
        crop_size: Height and width in pixels of the crop, which is what networks see; at most ``load_size``.
        flip: Whether half of the images, drawn at random, are mirrored in training.
        decoder: ``exact`` scales as Pillow; ``fast`` is faster and differs by one grey level in places;
            ``draft`` also decodes JPEGs at a fraction of their size, which differs more.
        range: The stored values that become -1 and 1; null for the full range of the type.
        depth: ``auto`` for the depth of the first image.

    Attributes:
        preprocess: Applied to each image.
        readers: The reader of the domain ``image``.
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
        self.preprocess = Preprocess(
            preprocess=preprocess or "scale_shortside_and_crop",
            load_size=load_size,
            crop_size=crop_size,
            flip=flip,
            training=phase == "train",
            crop=crop,
            decoder=decoder,
            keeps_scale=preprocess is None,
        )
        found = self._find(root, phase)
        self.held_out, self.fingerprint = found.held_out, found.fingerprint
        self.labels, self.unlabelled = found.labels, found.unlabelled
        self._reader = ImageReader(found.source, channels=channels, depth=depth, value_range=range)
        self.readers = {"image": self._reader}
        self.spec = spec_of(self.readers, self._reader.nominal_size(self.preprocess), found.class_names)

    @abstractmethod
    def _find(self, root: str, phase: str) -> Found:
        """The images of a phase."""

    def __len__(self) -> int:
        return len(self._reader)

    def item(self, index: int, seed: int) -> Batch:
        """``image`` (C, H, W), ``name``, the path relative to the root, and ``label`` if there are classes."""
        image = self._reader.prepared(index, self.preprocess, seed)
        item: Batch = {"image": image, "name": self._reader.name(index)}
        if self.labels is not None:
            item["label"] = self.labels[index]
        return item

    def use_class_names(self, names: Sequence[str]) -> None:
        before = [nfc(name) for name in self.spec.class_names]
        numbers = {nfc(name): number for number, name in enumerate(names)}
        differ = tuple(names) != self.spec.class_names
        if self.labels is not None and differ and sorted(numbers) == sorted(before):
            self.labels = [numbers[before[label]] for label in self.labels]
            self.spec = replace(self.spec, class_names=tuple(names))

    def stamp(self) -> str:
        return self._reader.stamp()

    def unaugmented(self) -> ImageDataset:
        other = copy.copy(self)
        other.preprocess = self.preprocess.unaugmented()
        other._reader = self._reader.uncached()
        other.readers = {"image": other._reader}
        other.spec = resized(self.spec, other._reader.nominal_size(other.preprocess))
        return other

    def deferring(self) -> ImageDataset:
        other = copy.copy(self)
        other._reader = self._reader.deferring()
        other.readers = {"image": other._reader}
        return other

    def use_cache(self, cache: ImageCache, indices: Sequence[int] | None = None) -> None:
        self._reader.use_cache(cache, self.preprocess, indices)
        self.in_memory = self._reader.is_cached


@DATASETS.register("single")
class SingleFolder(Images):
    """A folder of images, searched recursively. If its sub-folders contain every image, they are the classes.

    Args:
        root: The folder. If it contains the folders ``train`` and ``test``, or others of their usual names
            (``SPELLINGS``), each phase reads its own; ``val`` replaces a missing ``test``. Or the path of one image, or
            a pattern (``photos/*.jpg``, ``photos/**/*_left.png``).
        list: Path of a CSV file, relative to the folder or to the working directory, that lists the images, so that
            no folder is searched; see ``read_list``. Every phase reads all of them.
        others: The arguments of ``Images``.
    """

    def __init__(self, *, root: str, list: str | None, **others: Any) -> None:
        self._list = list
        super().__init__(root=root, **others)

    def _find(self, root: str, phase: str) -> Found:
        if self._list is not None:
            listed, class_names, labels = read_list(root_path(root), self._list)
            names: Iterable[str] = map(listed.name, range(len(listed)))
            identity = chain(names, [""], (class_names[label] for label in labels)) if labels else names
            return Found(listed, fingerprint_of(identity), class_names, labels)
        of_train, own = (of_phase(root_path(root), each) for each in ("train", phase))
        if of_train is not None and own is not None:
            train, source = images_in(of_train), images_in(own)
        else:
            train = source = _search(root)
        if root_path(root).is_dir():  # A pattern leaves out folders on purpose.
            warn_of_empty_classes(train.folder, train.paths)
        names = [source.name(index) for index in range(len(source))]
        classes = classes_in(train.folder, train.paths)
        labels = labels_of(source, classes, (name.partition("/")[0] for name in names)) if classes else None
        reason = "" if classes else why_unlabelled(train.folder, train.paths)
        return Found(source, fingerprint_of(names), classes, labels, held_out=own is not None, unlabelled=reason)


def _search(root: str) -> FolderSource:
    """The images that ``root`` refers to: a folder, a file or a pattern."""
    path = root_path(root)
    if path.is_dir():
        return images_in(path)
    if path.exists():
        return FolderSource(path.parent, [path])
    if not glob.has_magic(root):
        raise no_folder(path)
    paths = list(filter(is_image, matching(str(path))))
    if not paths:
        raise ConfigError(f"data.root: no image matches {root}")
    fixed = next(parent for parent in path.parents if not glob.has_magic(str(parent)))
    return FolderSource(fixed, paths)


def classes_in(folder: Path, images: Sequence[Path]) -> list[str]:
    """The sub-folders that contain all images of the folder, in natural order; none if there are fewer than two."""
    parts = [path.relative_to(folder).parts for path in images]
    names = in_order({part[0]: None for part in parts})
    return names if all(len(part) > 1 for part in parts) and len(names) > 1 else []


def warn_of_empty_classes(folder: Path, images: Sequence[Path]) -> None:
    """Warn of each sub-folder without images that would be a class with them, as all images are in others."""
    parts = [path.relative_to(folder).parts for path in images]
    if all(len(part) > 1 for part in parts):
        filled = {part[0] for part in parts}
        for empty in in_order(path.name for path in contents(folder).folders if path.name not in filled):
            report_once(
                f"warning: {folder / empty} contains no readable image file, so it is no class (gantrain reads "
                f"{', '.join(sorted(EXTENSIONS))})"
            )


def why_unlabelled(folder: Path, images: Sequence[Path]) -> str:
    """Why images in sub-folders have no labels: others are beside these folders; empty if that is not so."""
    stray = [path for path in images if path.parent == folder]
    folders = in_order({path.relative_to(folder).parts[0]: None for path in images if path.parent != folder})
    if not stray or len(folders) < 2:
        return ""
    return f"images beside the folders {' and '.join(folders[:NAMED])}: {some_of(stray)}; move them into one of these"
