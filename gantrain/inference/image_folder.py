"""The image files that `gantrain test` writes."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from torch import Tensor

from gantrain.data.base import ImageSpec
from gantrain.data.images.convert import write_image
from gantrain.report.images import to_image


class ImageFolder:
    """Writes images to ``<folder>/<kind>/<name>.png``, or to ``.npy`` where PNG can't store them without loss.

    Args:
        folder: An empty folder.
        run: The run's training images, whose depth and range generated images get if the run has their domain.
        data: The test images, whose depth and range inputs and targets get; None for none.
    """

    def __init__(self, folder: Path, *, run: ImageSpec | None, data: ImageSpec | None) -> None:
        self.folder = folder
        self._run = run
        self._data = data
        self._names: dict[str, UniqueNames] = {}

    def write(self, kind: str, name: str, image: Tensor) -> Path:
        """Write an image (C, H, W) in [-1, 1]; returns the path of a version that a browser can show.

        Args:
            kind: ``real_a``, ``fake_b_rgb`` etc., or ``samples``.
            name: The path of its source relative to the data folder, or any other.
            image: With any number of channels, all of which are written.
        """
        depth, value_range = self._format(kind)
        name = self._names.setdefault(kind, UniqueNames())[name]
        path = self.folder / kind / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path = write_image(path, image, depth=depth, value_range=value_range)
        if path.suffix == ".png":
            return path
        shown = self.folder / "shown" / kind / f"{name}.png"
        shown.parent.mkdir(parents=True, exist_ok=True)
        to_image(image).save(shown)
        return shown

    def _format(self, kind: str) -> tuple[str, tuple[float, float] | None]:
        """Depth and value range of a kind of image."""
        origin, domain, *_ = f"{kind}_image".split("_")
        for spec in (self._data, self._run) if origin == "real" else (self._run, self._data):
            for key in (domain, "image"):
                if spec is not None and key in spec.depth:
                    return spec.depth[key], spec.ranges.get(key)
        return "uint8", None


class UniqueNames(dict[str, str]):
    """The names without suffix of results, by those of their sources: ``a/1`` for ``a/1.png``.

    If ``a/1.jpg`` has that name already, it is ``a/1_png``.
    """

    def __init__(self) -> None:
        super().__init__()
        self._used: set[str] = set()

    def __missing__(self, name: str) -> str:
        # A database or a tar file may contain ../1.png or /1.png.
        parts = [part for part in name.split("/") if part not in ("", ".", "..")]
        stem = PurePosixPath(*parts or ["_"]).with_suffix("")
        # The suffix that the result will get is removed too.
        unique = (stem.with_suffix("") if stem.suffix in (".png", ".npy") else stem).as_posix()
        while unique.casefold() in self._used:  # Some file systems ignore case.
            unique += f"_{PurePosixPath(name).suffix[1:]}"
        self._used.add(unique.casefold())
        self[name] = unique
        return unique
