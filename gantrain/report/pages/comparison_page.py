"""The page of several runs side by side."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from dominate.tags import (
    a,
    code,
    div,
    h2,
    html_tag,
    nav,
    p,
    pre,
    section,
    span,
    table,
    tbody,
    td,
    th,
    thead,
    tr,
)

from gantrain.report.lines import Line
from gantrain.report.pages.page import PAGE, document_with, write_data, write_document

POINTS = 300  # of a curve
DIGITS = 5  # of a point
CLOCK = ("step", "epoch", "kimg")


def comparison_page(
    folder: Path,
    record: Mapping[str, Any],
    *,
    objective: str | None,
    lines: Mapping[str, Sequence[Line]],
    images: Mapping[str, Sequence[Mapping[str, Any]]],
    tested: Mapping[str, Mapping[str, Mapping[str, str]]],
    home: Path,
) -> Path:
    """Write ``index.html``; its path.

    Args:
        folder: Where to, with the ``runs.csv`` and ``runs.json`` that it links to.
        record: What is compared, as in ``runs.json``: ``name``, ``command``, the settings that ``differ``, those that
            ``follow`` from them, and the ``runs``.
        objective: Name of the figure by which runs are judged, if there is one.
        lines: The log of each run.
        images: The images that each run has of its samples.
        tested: What each run has made of test images: addresses from its folder, by image and kind.
        home: Folder of all runs, whose page is linked to, if there is one.
    """
    runs = record["runs"]
    names = list(dict.fromkeys(name for run in runs for name in run["figures"]))
    names.sort(key=lambda name: name != objective)
    labels = _labels(runs, record["differ"])
    document, body = document_with(record["name"], scripts=("curves", "comparison"))
    if (home / PAGE).exists():
        body.add(nav(a("← all runs", href=_address(home / PAGE, folder))))
        body.children.insert(0, body.children.pop())
    files = p("The same as ", a("a table", href="runs.csv"), " and as ", a("JSON", href="runs.json"), ".", cls="hint")
    body.add(section(h2("Runs"), div(id="columns", cls="controls"), _table(folder, record, names, labels), files))
    if len(record["differ"]) > 2:
        body.add(section(h2("Settings and figures"), div(id="parallel")))
    body.add(section(h2("Samples"), id="samples", hidden=True), section(h2("Curves"), id="curves"))
    if record["command"]:
        body.add(section(h2("Command"), pre(code(record["command"]))))
    places = [_address(folder / run["folder"], folder) for run in runs]
    shown = [
        {
            "name": run["run"],
            "label": label,
            "folder": place,
            "settings": [run["settings"][key] for key in record["differ"]],
            "figures": run["figures"],
            "curves": {name: _thinned(lines[run["run"]], name) for name in names},
            "pictures": list(images[run["run"]]),
            "tested": dict(tested[run["run"]]),
        }
        for run, label, place in zip(runs, labels, places, strict=True)
    ]
    data = {"runs": shown, "settings": record["differ"], "figures": names, "objective": objective}
    write_data(folder, "comparison", data | {"written": round(time.time(), 1)})
    write_document(folder / PAGE, document)
    return folder / PAGE


def _address(path: Path, folder: Path) -> str:
    return quote(os.fsencode(Path(os.path.relpath(path, folder)).as_posix()))


def _labels(runs: Sequence[Mapping[str, Any]], settings: Sequence[str]) -> list[str]:
    """Runs told apart by their settings, in few words; by their names where that does not tell them apart."""
    last = [re.sub(r"[.](name|mode)$", "", key.replace("/", ".")).rpartition(".")[2] for key in settings]
    short = [word if last.count(word) == 1 else key for word, key in zip(last, settings, strict=True)]
    labels = [
        ", ".join(f"{word} {_text(run['settings'][key])}" for word, key in zip(short, settings, strict=True))
        for run in runs
    ]
    return [
        label if label and labels.count(label) == 1 else run["run"] for label, run in zip(labels, runs, strict=True)
    ]


def _thinned(lines: Sequence[Line], name: str) -> dict[str, list[float]]:
    """A curve in so many points at most: the clock, and the ``value``."""
    points = [line for line in lines if name in line]
    chosen = points[:: -(-len(points) // POINTS) or 1]
    chosen += [points[-1]] if points and chosen[-1] is not points[-1] else []
    clock = {key: [point.get(key, 0) for point in chosen] for key in CLOCK}
    return {**clock, "value": [float(f"{point[name]:.{DIGITS}g}") for point in chosen]}


def _table(folder: Path, record: Mapping[str, Any], names: Sequence[str], labels: Sequence[str]) -> html_tag:
    heads: list[tuple[str, str]] = [("run", ""), ("status", ""), ("step", ""), ("time", "")]
    heads += [(key, "") for key in record["differ"]] + [(key, "follows") for key in record["follow"]]
    heads += [(f"{kind} {name}", kind) for name in names for kind in ("final", "best")]
    body = tbody()
    for run in record["runs"]:
        link = a(run["run"], href=_address(folder / run["folder"] / PAGE, folder))
        known = (folder / run["folder"] / PAGE).exists()
        status = td(span(run["status"], cls="pill", data_state=run["status"]), data_value=run["status"])
        if run["message"]:
            status.add(p(run["message"], cls="hint"))
        cells = [
            td(link if known else run["run"]),
            status,
            td(f"{run['step']:,}", data_value=run["step"]),
            td(_duration(run["seconds"]), data_value=run["seconds"]),
            *(_cell(run["settings"][key]) for key in record["differ"]),
            *(_cell(run["settings"][key], cls="follows") for key in record["follow"]),
            *(
                _cell(value, cls=kind, **({} if value is None else {"data_value": value}))
                for name in names
                for kind in ("final", "best")
                for value in [run["figures"].get(name, {}).get(kind)]
            ),
        ]
        body.add(tr(*cells))
    head = tr(*(th(text, scope="col", cls=kind or None) for text, kind in heads))
    return div(table(thead(head), body, id="runs"), cls="scroll")


def _cell(value: Any, **attributes: Any) -> html_tag:
    """What is not there has an empty value, which is sorted last."""
    return td(_text(value), **attributes, **({"data_value": ""} if value is None else {}))


def _text(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{seconds:.0f} s" if seconds < 120 else f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"
