"""What `gantrain test` writes for a model that translates: every test image, its translations, and their page."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from statistics import fmean

from torch import Tensor

from gantrain.data.base import ImageDataset, ImageSpec
from gantrain.data.settings import DataSettings
from gantrain.data.stream import in_order
from gantrain.errors import ConfigError
from gantrain.inference.image_folder import ImageFolder
from gantrain.inference.load import ReadPolicy
from gantrain.metrics.similarity import l1_distance, psnr, ssim
from gantrain.models.translation import Direction, NetworkMode, Translator
from gantrain.report.pages.results_page import Row, results_page
from gantrain.runtime import console

# What each network mode is, for the page.
MODES = {
    "train": "train: dropout and batch norm as in training",
    "per_image": "per_image: dropout, batch norm on the statistics of each image",
    "eval": "eval: no dropout, batch norm on its running statistics",
}
# Label and unit of the mean of each per-image metric on the page.
MEANS = {
    "L1": ("mean absolute error", " (values in [0, 1])"),
    "PSNR": ("mean PSNR", " dB"),
    "SSIM": ("mean SSIM", ""),
}


def as_input(data: DataSettings, channels: dict[str, int], direction: Direction | None) -> DataSettings:
    """The data settings with the model's channels; images without domains are not preprocessed by default."""
    source = "b" if direction == "b_to_a" else "a"
    keys = data.dataset
    if "channels_b" in keys:
        if "image" in channels:
            return data
        first, second = ("b", "a") if keys.get("direction") == "b_to_a" else ("a", "b")
        return replace(data, dataset={**keys, "channels": channels[first], "channels_b": channels[second]})
    if "channels" in keys:
        count = channels.get("image", channels.get(source))
        return replace(data, dataset=keys | {"channels": count, "preprocess": keys.get("preprocess") or "none"})
    return data


def build_like_run(
    data: DataSettings, run: ImageSpec | None, direction: Direction | None, *, phase: str, seed: int
) -> ImageDataset:
    """The data set of a phase, by default with the ranges of the run if its images have the depth of the run's."""
    keys = data.dataset
    swapped = (keys.get("direction") if "range_b" in keys else direction) == "b_to_a"
    first, second = ("b", "a") if swapped else ("a", "b")
    ranges, depths = (run.ranges, run.depth) if run is not None else ({}, {})
    wanted = {"range": ranges.get(first, ranges.get("image")), "range_b": ranges.get(second)}
    missing = {
        key: list(pair) for key, pair in wanted.items() if key in keys and keys[key] is None and pair is not None
    }
    for chosen in [missing, *({key: values} for key, values in missing.items())]:
        with suppress(ConfigError):  # Without these ranges, images of another depth can be read, or are reported.
            dataset = replace(data, dataset=keys | chosen).build(phase=phase, seed=seed)
            if all(dataset.spec.depth[key] == depths.get(key, depths.get(first)) for key in dataset.spec.ranges):
                for key, values in chosen.items():
                    console.err(f"data.{key}={values}, as in training")
                return dataset
    return data.build(phase=phase, seed=seed)


def check_channels(dataset: ImageDataset, direction: Direction, translator: Translator) -> None:
    """Reject a data set without images that the model can translate in this direction."""
    source, found = direction[0], dataset.spec.channels
    remedy = "give data=single data.root=FOLDER"
    if "image" in translator.needs and "image" not in found:
        raise ConfigError(f"data has two domains, but this model takes single images: {remedy}")
    if source not in found and "image" not in found:
        raise ConfigError(f"data has no images of {source} to translate {direction}")
    count, needed = (channels.get(source, channels.get("image")) for channels in (found, translator.channels))
    if count != needed:
        raise ConfigError(
            f"data: images of {source} have {count} channels, but the model takes {needed}: {remedy}, which converts "
            "them"
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
    policy: ReadPolicy,
) -> list[Row]:
    """Translate the images of a data set and write the results; rows have metrics where there is a target.

    Args:
        translator: In evaluation mode, on its device.
        dataset: The test images, with the input's domain or with ``image``.
        direction: One of the translator's.
        folder: Receives the images.
        num: The number of images; None for all.
        batch_size: For network mode ``eval``, where it only affects rounding; in ``train`` it is 1.
        network_mode: See ``Translator.results``.
        policy: What to do with unreadable images; collects those that are skipped.
    """
    source, target = direction[0], direction[-1]
    weights = next(translator.parameters())
    images = dataset.of_domain(source)
    total = len(images) if num is None else min(num, len(images))
    batch_size = min(batch_size, total) if network_mode == "eval" else 1  # Convolutions round by the size of a batch.
    batches = in_order(
        images, batch_size, weights.device, weights.dtype, on_error=policy.on_error, left_out=policy.left_out
    )
    rows: list[Row] = []
    with console.bar(direction, total=total, unit="image", dynamic_ncols=True) as bar:
        for batch in batches:
            if "image" in batch and "image" not in translator.needs:
                batch = {source if key == "image" else key: value for key, value in batch.items()}
            start, count = len(rows), len(next(iter(batch.values())))
            batch.setdefault("name", [f"{number:05}" for number in range(start, start + count)])
            results = translator.results(batch, direction, network_mode=network_mode)
            metrics = _metrics(results, target)
            height, width = results[f"real_{source}"].shape[-2:]
            for number, name in enumerate(batch["name"][: total - start]):
                paths = {kind: folder.write(kind, name, outputs[number]) for kind, outputs in results.items()}
                row_metrics = {metric: values[number] for metric, values in metrics.items()}
                rows.append(Row(name=name, images=paths, size=(width, height), metrics=row_metrics))
                bar.update()
            if len(rows) == total:
                break
    return rows


def _metrics(results: dict[str, Tensor], target: str) -> dict[str, list[float]]:
    """Metrics of outputs and targets with values in [0, 1]: by name a value for each image; none without targets."""
    for suffix in ("", "_rgb"):
        kinds = [f"fake_{target}{suffix}", f"real_{target}{suffix}"]
        if results.keys() >= set(kinds):
            fake, real = ((results[kind].cpu().double() + 1) / 2 for kind in kinds)
            metrics = {"L1": l1_distance(fake, real), "PSNR": psnr(fake, real), "SSIM": ssim(fake, real)}
            return {name: values.tolist() for name, values in metrics.items() if values is not None}
    return {}


def _heading(direction: Direction, rows: list[Row]) -> str:
    """The direction and the meaning of each column, for the page."""
    source, target = direction[0], direction[-1]
    meanings = {
        f"real_{source}": "is the input",
        f"fake_{target}": "the output",
        f"real_{target}": "the target",
        f"rec_{source}": f"fake_{target} translated back",
        f"idt_{target}": "the other generator's output for the same input",
    }
    kinds = {kind: kind.removesuffix("_rgb") for row in rows for kind in row.images}
    return f"{direction}: {', '.join(f'{kind} {meanings[k]}' for kind, k in kinds.items() if k in meanings)}"


def translated_page(
    folder: Path,
    done: dict[Direction, list[Row]],
    network_mode: NetworkMode,
    *,
    name: str,
    command: str,
    facts: dict[str, str],
    run: str | None,
) -> None:
    """Write the page of the translations by direction; for the other arguments see ``results_page``."""
    facts = {
        "images": ", ".join(f"{len(rows)} {direction}" for direction, rows in done.items()),
        **facts,
        "network mode": MODES[network_mode],
    }
    for direction, rows in done.items():
        for metric, (label, unit) in MEANS.items():
            if values := [row.metrics[metric] for row in rows if metric in row.metrics]:
                facts[f"{label}, {direction}"] = f"{fmean(values):.4f}{unit}"
    tables = {_heading(direction, rows): rows for direction, rows in done.items()}
    results_page(folder, name=name, command=command, facts=facts, tables=tables, run=run)
