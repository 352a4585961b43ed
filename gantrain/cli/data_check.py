"""``gantrain data check``: inspects a data set without training; the result is a table, a page and an exit status."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from PIL import Image

import gantrain.data.sets
import gantrain.models  # noqa: F401 - These two register the data modes and the models.
from gantrain.config.schema import checked
from gantrain.data.settings import DataSettings
from gantrain.data.tools.check import Summary, findings_in, summarise
from gantrain.data.tools.dataset_parts import Finding, find_parts, select
from gantrain.data.tools.recommend import Recommendation, lines, recommended
from gantrain.errors import ConfigError
from gantrain.registry import MODELS, import_plugins
from gantrain.report.pages.data_page import data_page
from gantrain.report.pages.page import ASSETS, PAGE
from gantrain.runtime import console
from gantrain.runtime.storage import storage_errors

BOOLEANS = {"true": True, "false": False}
OWN_FILES = {PAGE, ASSETS, "images"}
SHOWN = 10  # Images of each finding on the terminal; the page has more.


def check(config: Mapping[str, Any], *, name: str, options: Sequence[str], typed: Sequence[str], command: str) -> int:
    """Inspect the data of a composed training configuration.

    Args:
        config: The configuration.
        name: The name of the data set.
        options: ``quick=...`` and ``out=...``, as typed.
        typed: The overrides, as typed.
        command: The command, as typed.

    Returns:
        Exit status: 1 if training would stop, 130 after an interruption.
    """
    own: dict[str, str] = {key: value for key, _, value in (option.partition("=") for option in options)}
    quick = checked(BOOLEANS.get(own.get("quick", "false"), own.get("quick")), bool, "quick")
    import_plugins(checked(config.get("plugins"), list[str], "plugins"))
    configured = checked(config.get("data"), dict[str, Any], "data")
    settings = DataSettings.split(configured)
    selection = settings.selection
    folder = _output(Path(own.get("out") or f"results/data_{name}").expanduser(), configured)
    try:
        parts, findings = find_parts(settings.dataset)
        parts = [
            select(part, fraction=selection.fraction, max_size=selection.max_size, seed=config["seed"])
            for part in parts
        ]
        summaries = [summarise(part, quick=quick) for part in parts]
    except KeyboardInterrupt:
        console.err("gantrain: interrupted; nothing was written")
        return 130
    if selection.labelled is not None and not any(part.labels for part in parts):
        findings.append(Finding(f"data.labelled={selection.labelled}: this data set has no labels", stops=True))
    findings += findings_in(summaries, configured)
    findings.sort(key=lambda finding: not finding.stops)
    columns = {summary.part.title: summary.row() for summary in summaries}
    classes = {summary.part.title: summary.classes for summary in summaries if summary.classes}
    _print(columns, classes, findings)
    images = max((len(summary.part) for summary in summaries if summary.part.phase == "train"), default=0)
    counts = [count for summary in summaries if summary.part.phase == "train" for count in summary.classes.values()]
    found = recommended(summaries, config, images=images, classes=counts)
    recommendations = lines([*_other_model(summaries, config), *found], typed)
    console.out(*recommendations)
    with storage_errors(f"write the page in {folder}"):
        data_page(
            folder,
            name=f"{name}: {configured['root']}" if configured.get("root") else name,
            command=command,
            columns=columns,
            findings=[(finding.text, finding.stops, finding.items) for finding in findings],
            recommendations=recommendations,
            classes=classes,
            sheets=_sheets(folder, summaries),
        )
    console.out(f"page: {folder / PAGE}")
    return int(any(finding.stops for finding in findings))


def _other_model(summaries: Sequence[Summary], config: Mapping[str, Any]) -> list[Recommendation]:
    """A model that can train on the data, if the configured one can't."""
    parts = [summary.part for summary in summaries if summary.part.phase == "train"]
    paired = config["data"].get("serial") or any(part.paired or len(part.readers) > 1 for part in parts)
    name = config["model"]["name"]
    needs, needs_pairs = MODELS[name].needs, MODELS[name].needs_pairs
    if all(part.domain == "image" for part in parts):
        keys = {"image", "label"} if any(part.labels for part in parts) else {"image"}
        other, kind = "dcgan", "images without labels" if needs == {"image", "label"} else "one set of images"
    else:
        keys = {"a", "b"}
        other, kind = ("pix2pix", "pairs") if paired else ("cyclegan", "two sets of images without pairs")
    if not parts or (needs <= keys and (paired or not needs_pairs)):
        return []
    return [Recommendation(f"model={other}", f"the data are {kind}, on which model={name} can't train")]


def _output(folder: Path, data: Mapping[str, Any]) -> Path:
    """The folder of the page, which must be outside the data set and contain no other files."""
    root = Path(str(data.get("root", ""))).expanduser()
    if "root" in data and root.is_dir() and folder.resolve().is_relative_to(root.resolve()):
        raise ConfigError(f"out={folder} is inside data.root ({root}): give out=FOLDER outside")
    if folder.exists() and (not folder.is_dir() or {path.name for path in folder.iterdir()} - OWN_FILES):
        raise ConfigError(f"out={folder} contains other files: give another folder")
    return folder


def _print(
    columns: Mapping[str, Mapping[str, str]], classes: Mapping[str, Mapping[str, int]], findings: Sequence[Finding]
) -> None:
    rows = list(dict.fromkeys(key for column in columns.values() for key in column))
    table = [["", *columns], *([row, *(column.get(row, "") for column in columns.values())] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        console.out("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    for title, counts in classes.items():
        few = ", ".join(f"{name} {count:,}" for name, count in islice(counts.items(), SHOWN))
        console.out(f"classes, {title}: {few}" + (", ... (all on the page)" if len(counts) > SHOWN else ""))
    for finding in findings:
        console.out(f"{'would stop training' if finding.stops else 'warning'}: {finding.text}")
        for item in islice(finding.items, SHOWN):
            console.out(f"  {item}")
        if len(finding.items) > SHOWN:
            console.out("  ... (more on the page)")


def _sheets(folder: Path, summaries: Sequence[Summary]) -> dict[str, list[tuple[str, list[Path]]]]:
    """Write thumbnails below ``folder``; their names and paths by title, the two images of a pair together."""
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    for old in images.glob("thumbnail_*.png"):
        old.unlink()
    sheets: dict[str, dict[int, tuple[str, list[Path]]]] = {}
    for number, summary in enumerate(summaries):
        part = summary.part
        sheet = sheets.setdefault(f"{part.phase} A | B" if part.paired else part.title, {})
        for index, pixels in summary.thumbnails.items():
            path = images / f"thumbnail_{number}_{index}.png"
            Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(path)
            sheet.setdefault(index, (part.readers[0].name(index), []))[1].append(path)
    return {heading: list(sheet.values()) for heading, sheet in sheets.items() if sheet}
