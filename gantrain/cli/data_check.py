"""`gantrain data check`: a data set looked at without training, as a table, a page and an exit status."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from PIL import Image

import gantrain.data.sets  # noqa: F401 - registers the data modes
from gantrain.config.schema import checked
from gantrain.data.base import ImageDataset
from gantrain.data.tools.checking import Summary, findings_in, findings_together, summarise
from gantrain.data.tools.surveying import Finding, chosen, survey
from gantrain.errors import ConfigError
from gantrain.registry import import_plugins
from gantrain.report.pages.data_page import data_page
from gantrain.report.pages.page import ASSETS, PAGE
from gantrain.training.build import SELECTION_KEYS, STREAM_KEYS, build_dataset, check_keys, selected

WORDS = {"true": True, "false": False}
OURS = {PAGE, ASSETS, "images"}
SHOWN = 10  # images of each warning on the terminal; the page has more


def check(config: Mapping[str, Any], *, name: str, options: Sequence[str], command: str) -> int:
    """Look at the data of a configuration for training.

    Args:
        config: As composed.
        name: Of the data.
        options: ``quick=...`` and ``out=...``, as typed.
        command: As typed.

    Returns:
        Exit status: 1 if training would stop, 130 after an interruption.

    Raises:
        ConfigError: There is nothing to look at, or a key is wrong.
    """
    typed: dict[str, str] = {key: value for key, _, value in (option.partition("=") for option in options)}
    quick = checked(WORDS.get(typed.get("quick", "false"), typed.get("quick")), bool, "quick")
    import_plugins(checked(config.get("plugins"), list[str], "plugins"))
    configured = checked(config.get("data"), dict[str, Any], "data")
    check_keys(configured)
    fraction, max_size, labelled = selected(configured)
    folder = _place(Path(typed.get("out") or f"results/data_{name}").expanduser(), configured)
    data = {key: value for key, value in configured.items() if key not in (*STREAM_KEYS, *SELECTION_KEYS)}
    try:
        parts, findings = survey(data, _build)
        parts = [chosen(part, fraction=fraction, max_size=max_size, seed=config["seed"]) for part in parts]
        summaries = [summarise(part, data, quick=quick) for part in parts]
    except KeyboardInterrupt:
        print("gantrain: interrupted; nothing was written", file=sys.stderr)
        return 130
    if labelled is not None and not any(part.labels for part in parts):
        findings.append(Finding(f"data.labelled={labelled}: this data set has no labels", stops=True))
    findings += findings_in(summaries, skips=configured.get("on_error") == "skip")
    findings += findings_together(summaries, configured)
    findings.sort(key=lambda finding: not finding.stops)
    columns = {summary.part.title: summary.row() for summary in summaries}
    classes = {summary.part.title: summary.classes for summary in summaries if summary.classes}
    _print(columns, classes, findings)
    data_page(
        folder,
        name=f"{name}: {data['root']}" if data.get("root") else name,
        command=command,
        columns=columns,
        findings=[(finding.text, finding.stops, finding.items) for finding in findings],
        classes=classes,
        sheets=_sheets(folder, summaries),
    )
    print(f"page: {folder / PAGE}")
    return int(any(finding.stops for finding in findings))


def _place(folder: Path, data: Mapping[str, Any]) -> Path:
    """Refuse to write the page among the images, or among anything else."""
    root = Path(str(data.get("root", ""))).expanduser()
    if "root" in data and root.is_dir() and folder.resolve().is_relative_to(root.resolve()):
        raise ConfigError(f"out={folder} lies in data.root ({root}): give out=FOLDER outside")
    if folder.exists() and (not folder.is_dir() or {path.name for path in folder.iterdir()} - OURS):
        raise ConfigError(f"out={folder} holds other things: give another folder")
    return folder


def _build(data: Mapping[str, Any], phase: str) -> ImageDataset:
    return build_dataset(dict(data), phase=phase)


def _print(
    columns: Mapping[str, Mapping[str, str]], classes: Mapping[str, Mapping[str, int]], findings: Sequence[Finding]
) -> None:
    rows = list(dict.fromkeys(key for facts in columns.values() for key in facts))
    table = [["", *columns], *([row, *(facts.get(row, "") for facts in columns.values())] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        _say("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    for title, counts in classes.items():
        few = ", ".join(f"{name} {count:,}" for name, count in islice(counts.items(), SHOWN))
        _say(f"classes, {title}: {few}" + (", ... (all on the page)" if len(counts) > SHOWN else ""))
    for finding in findings:
        _say(f"{'would stop training' if finding.stops else 'warning'}: {finding.text}")
        for item in finding.items if finding.stops else islice(finding.items, SHOWN):
            _say(f"  {item}")
        if not finding.stops and len(finding.items) > SHOWN:
            _say("  ... (more on the page)")


def _say(line: str) -> None:
    """Names may hold what is no text, or what a terminal takes for a command."""
    print("".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in line))


def _sheets(folder: Path, summaries: Sequence[Summary]) -> dict[str, list[tuple[str, list[Path]]]]:
    """Thumbnails by name, written below ``folder``, the two of a pair together."""
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
            sheet.setdefault(index, (part.source.name(index), []))[1].append(path)
    return {heading: list(sheet.values()) for heading, sheet in sheets.items() if sheet}
