"""What papers and other code have reached beside what was measured here: for one run, and for all reproductions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dominate import tags

from gantrain.config.expected import PAPER, Expected, address_of
from gantrain.report.measured import Measured, best_of, measured
from gantrain.report.pages import page

REPRODUCTIONS = "reproductions.html"
FACTS = ("hardware", "hours", "seed", "version", "date")  # Of a run: columns of the record that the page shows as such.


def paper_table(folder: Path, expected: Sequence[Expected]) -> tags.html_tag:
    """A table of expected values beside the newest and the best that the run in ``folder`` has measured."""
    rows = []
    for each in expected:
        values = measured(folder, each.metric)
        newest, best = _at_step(values[-1] if values else None), _at_step(best_of(values, each.metric))
        source = tags.td(_link(each.source))
        rows.append(
            tags.tr(_short(each.metric), tags.td(f"{each.value:g}"), newest, best, tags.td(each.protocol), source)
        )
    return _table(("metric", "expected", "newest", "best", "protocol", "source"), rows)


def reproductions_page(folder: Path, rows: Sequence[Mapping[str, str]], *, record: str) -> Path:
    """Write the page of reproductions into the folder of all runs; returns its path.

    Args:
        folder: The folder of all runs.
        rows: The lines of the record.
        record: The name of its file, which the page links to.
    """
    back = {"all runs": page.PAGE} if (folder / page.PAGE).exists() else {}
    document, body = page.new_document("Reproductions", back=back)
    runs: dict[tuple[str, str], dict[str, list[Mapping[str, str]]]] = {}  # The lines of each run, by metric.
    for row in rows:
        runs.setdefault((row["experiment"], row["run"]), {}).setdefault(row["metric"], []).append(row)
    head = ("experiment", "metric", "paper", "reference code", "here", "step", *FACTS)
    table = _table(head, [row for metrics in runs.values() for row in _rows(folder, [*metrics.values()])])
    body.add(page.section("Paper, reference code, here", table))
    body.add(tags.p("Also as ", tags.a("CSV", href=record), ".", cls="hint"))
    page.write_document(folder / REPRODUCTIONS, document)
    return folder / REPRODUCTIONS


def _rows(folder: Path, metrics: Sequence[Sequence[Mapping[str, str]]]) -> list[tags.html_tag]:
    """The rows of a run, one for each metric; its name and its facts are beside all of them."""
    run, height = metrics[0][0], str(len(metrics))
    name = tags.td(tags.a(run["experiment"], href=page.address(folder / run["run"] / page.PAGE, folder)))
    if run["changes"]:
        name.add(tags.div("with ", tags.code(run["changes"]), cls="hint"))
    before, after = [name], [_short(run[fact]) for fact in FACTS]
    for cell in (*before, *after):
        cell["rowspan"] = height
    rows = []
    for lines in metrics:
        first = lines[0]
        here = first["measured"] or ("not measured" if first["metric"] else "no reference value")
        of_papers = [line for line in lines if line["source"].startswith(PAPER)]
        of_code = [line for line in lines if line["source"] and line not in of_papers]
        own = _short(tags.strong(here))
        if first["measured_by"]:
            own = tags.td(tags.div(tags.strong(here)), tags.div(first["measured_by"], cls="hint"))
        cells = (_short(first["metric"]), _values(of_papers), _values(of_code), own)
        rows.append(tags.tr(*before, *cells, _short(first["step"]), *after))
        before, after = [], []
    return rows


def _short(content: Any) -> tags.html_tag:
    return tags.td(content, cls="short")


def _values(lines: Sequence[Mapping[str, str]]) -> tags.html_tag:
    """Values, each with its protocol and its source below it."""
    cell = tags.td()
    for line in lines:
        cell.add(tags.div(line["paper"]), tags.div(f"{line['protocol']}; ", _link(line["source"]), cls="hint"))
    return cell


def _at_step(value: Measured | None) -> tags.html_tag:
    if value is None:
        return tags.td("–")
    return tags.td(f"{value.value:.5g}", tags.div(f"at step {value.step:,}", cls="hint"))


def _link(source: str) -> tags.html_tag:
    return tags.a(source, href=address_of(source))


def _table(head: Sequence[str], rows: Sequence[tags.html_tag]) -> tags.html_tag:
    heading = tags.thead(tags.tr(*map(tags.th, head)))
    return tags.div(tags.table(heading, tags.tbody(*rows)), cls="scroll")
