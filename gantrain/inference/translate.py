"""What `gantrain test` shows of a model that translates: every test image, with all that was made of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from statistics import fmean
from typing import Any

from torch import Tensor
from tqdm import tqdm

from gantrain.data.base import ImageDataset, ImageSpec
from gantrain.data.images.convert import write_image
from gantrain.data.stream import in_order
from gantrain.errors import ConfigError
from gantrain.inference.load import Reading
from gantrain.inference.similarity import l1_distance, psnr, ssim
from gantrain.models.translation import Direction, NetworkMode, Translator
from gantrain.report.images import to_image, viewable
from gantrain.report.pages.results_page import Row, results_page

# of per-image figures
MEANS = {"L1": "mean absolute error", "PSNR": "mean PSNR", "SSIM": "mean SSIM"}
UNITS = {"L1": " (of values from 0 to 1)", "PSNR": " dB", "SSIM": ""}


@dataclass
class Translated:
    """What was written for one direction.

    Attributes:
        rows: Of each image what was made of it (input, output, ...), and how far the output is from its target.
        means: Of the figures of all rows that have them, by name.
    """

    rows: list[Row] = field(default_factory=list)

    @property
    def means(self) -> dict[str, float]:
        """See above."""
        names = dict.fromkeys(name for row in self.rows for name in row.metrics)
        return {name: fmean(row.metrics[name] for row in self.rows if name in row.metrics) for name in names}


class ImageFolder:
    """Where results go: ``<folder>/<kind>/<name>.png``, the name being the source's path below its own folder.

    Args:
        folder: Empty.
        specs: Of the run and of the data, the first to know a domain says in which depth its images are written.
    """

    def __init__(self, folder: Path, *, run: ImageSpec | None, data: ImageSpec) -> None:
        self.folder = folder
        self._run = run
        self._data = data
        self._names: dict[tuple[str, str], str] = {}
        self._taken: set[tuple[str, str]] = set()

    def write(self, kind: str, name: str, image: Tensor) -> Path:
        """Keep one image (C, H, W) in [-1, 1] in the depth of its domain; the path of what a browser can show of it."""
        depth, value_range = self._stored(kind)
        name = self._unique(kind, name)
        place = self.folder / kind / name
        place.parent.mkdir(parents=True, exist_ok=True)
        path = write_image(place, image, depth=depth, value_range=value_range)
        if path.suffix == ".png":
            return path
        shown = self.folder / "shown" / kind / f"{name}.png"
        shown.parent.mkdir(parents=True, exist_ok=True)
        to_image(viewable(image[None])[0]).save(shown)
        return shown

    def _stored(self, kind: str) -> tuple[str, tuple[float, float] | None]:
        """Depth and range of the images of a kind: inputs and targets as the data has them, others as the run had."""
        made, domain, *_ = kind.split("_")
        for spec in (self._data, self._run) if made == "real" else (self._run, self._data):
            for key in (domain, "image"):
                if spec is not None and key in spec.depth:
                    return spec.depth[key], spec.ranges.get(key)
        return "uint8", None

    def _unique(self, kind: str, name: str) -> str:
        """``a/1.png`` to ``a/1``, or to ``a/1_png`` where ``a/1.jpg`` has taken that; without a suffix of results."""
        if (kind, name) not in self._names:
            # a database or a tar file may call an image ../1.png, or /1.png
            below = [part for part in name.split("/") if part not in ("", ".", "..")]
            plain = PurePosixPath(*below or ["_"]).with_suffix("")
            free = (plain.with_suffix("") if plain.suffix in (".png", ".npy") else plain).as_posix()
            while (kind, free.casefold()) in self._taken:  # some file systems know no capitals
                free += f"_{PurePosixPath(name).suffix[1:]}"
            self._taken.add((kind, free.casefold()))
            self._names[kind, name] = free
        return self._names[kind, name]


def as_input(data: dict[str, Any], channels: dict[str, int], direction: Direction | None) -> dict[str, Any]:
    """The data's configuration with the model's channels, and, of plain images, the whole of each."""
    data = dict(data)
    source, target = ("b", "a") if direction == "b_to_a" else ("a", "b")
    if data.get("mode") in ("single", "shards"):
        data["channels"] = channels.get("image", channels.get(source))
        data["preprocess"] = data.get("preprocess") or "none"
    elif "channels_b" in data and "image" not in channels:
        first, second = ("b", "a") if data.get("direction") == "b_to_a" else ("a", "b")
        data |= {"channels": channels[first], "channels_b": channels[second]}
    return data


def check_channels(dataset: ImageDataset, direction: Direction, translator: Translator) -> None:
    """Refuse data in which there is nothing to translate so."""
    source, channels = direction[0], translator.channels
    if "image" in translator.needs and "image" not in dataset.spec.channels:
        raise ConfigError("data has two domains, and this model takes plain images: give data=single data.root=FOLDER")
    if source not in dataset.spec.channels and "image" not in dataset.spec.channels:
        raise ConfigError(f"data has no images of {source} to translate {direction}")
    found = dataset.spec.channels.get(source, dataset.spec.channels.get("image"))
    wanted = channels.get(source, channels.get("image"))
    if found != wanted:
        raise ConfigError(
            f"data: its images of {source} have {found} channels, and the model takes {wanted}: "
            "give data=single data.root=FOLDER, which converts them"
        )


def translate_all(
    translator: Translator,
    dataset: ImageDataset,
    direction: Direction,
    folder: ImageFolder,
    *,
    num: int | None,
    batch_size: int,
    network_mode: NetworkMode,
    reading: Reading,
) -> Translated:
    """Translate every image of a data set, each once, and write all that was made.

    Args:
        translator: In evaluation mode, on its device.
        dataset: Of the test phase, with the input's domain, or with ``image``.
        direction: One of the translator's.
        folder: Where to.
        num: How many; None for all.
        batch_size: Images translated at a time in evaluation mode, where results depend on it by rounding alone; in
            training mode, they are translated one by one, and do not depend on it at all.
        network_mode: See ``Translator.results``.
        reading: Says what an image that can't be read does, and hears of those that are left out.
    """
    source, target = direction[0], direction[-1]
    weights = next(translator.parameters())
    images = dataset.of_domain(source)
    done = Translated()
    total = len(images) if num is None else min(num, len(images))
    together = 1 if network_mode == "train" else min(batch_size, total)  # convolutions round by the size of a batch
    with tqdm(total=total, desc=direction, unit="image", dynamic_ncols=True) as bar:
        batches = in_order(
            images, together, weights.device, weights.dtype, on_error=reading.on_error, left_out=reading.left_out
        )
        for batch in batches:
            if "image" in batch and "image" not in translator.needs:  # plain images are of the input's domain
                batch = {source if key == "image" else key: value for key, value in batch.items()}
            first = len(done.rows)
            batch.setdefault("name", [f"{first + place:05}" for place in range(len(next(iter(batch.values()))))])
            made = translator.results(batch, direction, network_mode=network_mode)
            compared = _compared(made, target)
            for number, name in enumerate(batch["name"][: total - len(done.rows)]):
                written = {kind: folder.write(kind, name, results[number]) for kind, results in made.items()}
                size = (made[f"real_{source}"].size(-1), made[f"real_{source}"].size(-2))
                figures = {figure: values[number] for figure, values in compared.items()}
                done.rows.append(Row(name=name, images=written, size=size, metrics=figures))
                bar.update()
            if len(done.rows) == total:
                break
    return done


def _compared(made: dict[str, Tensor], target: str) -> dict[str, list[float]]:
    """Outputs beside their targets, of values in [0, 1]: figures by name, one per image; none without targets."""
    for suffix in ("", "_rgb"):
        pair = [made[kind] for which in ("fake", "real") if (kind := f"{which}_{target}{suffix}") in made]
        if len(pair) == 2:
            fake, real = ((images.cpu().double() + 1) / 2 for images in pair)
            found = {"L1": l1_distance(fake, real), "PSNR": psnr(fake, real), "SSIM": ssim(fake, real)}
            return {name: values.tolist() for name, values in found.items() if values is not None}
    return {}


def _heading(direction: Direction, done: Translated) -> str:
    """The direction and what each column shows, for the page."""
    source, target = direction[0], direction[-1]
    meanings = {
        f"real_{source}": "is the input",
        f"fake_{target}": "the output",
        f"real_{target}": "the target",
        f"rec_{source}": f"fake_{target} translated back",
        f"idt_{target}": "the other generator's output for the same input",
    }
    kinds = dict.fromkeys(kind for row in done.rows for kind in row.images)
    told = [f"{kind} {meanings[kind.removesuffix('_rgb')]}" for kind in kinds if kind.removesuffix("_rgb") in meanings]
    return f"{direction}: {', '.join(told)}"


def translated_page(
    folder: Path,
    done: dict[Direction, Translated],
    network_mode: NetworkMode,
    *,
    name: str,
    typed: str,
    facts: dict[str, str],
    run: str | None,
) -> None:
    """Write the page of what was translated in each direction; the rest is as for ``results_page``."""
    facts = {
        "images": ", ".join(f"{len(found.rows)} {way}" for way, found in done.items()),
        **facts,
        "network mode": "train: dropout and batch norm as in training, each image for itself"
        if network_mode == "train"
        else "eval: no dropout, batch norm on its running statistics",
    }
    for way, found in done.items():
        facts |= {f"{MEANS[figure]}, {way}": f"{value:.4f}{UNITS[figure]}" for figure, value in found.means.items()}
    tables = {_heading(way, found): found.rows for way, found in done.items()}
    results_page(folder, name=name, command=typed, facts=facts, tables=tables, run=run)
