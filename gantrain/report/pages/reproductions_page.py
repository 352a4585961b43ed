"""What papers and other code have reached beside what was measured here: for one run, and for all reproductions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from dominate import tags

from gantrain.config.expected import PAPER, Expected, address_of
from gantrain.report.measured import Measured, measured
from gantrain.report.pages import page

REPRODUCTIONS = "reproductions.html"
FACTS = ("step", "hardware", "hours", "seed", "version", "date")  # Columns of the record that the page shows as such.


def paper_table(folder: Path, expected: Sequence[Expected]) -> tags.html_tag:
    """A table of expected values beside the newest and the best that the run in ``folder`` has measured."""
    rows = []
    for each in expected:
        history = measured(folder, each.metric)
        newest, best = (_at_step(value) for value in ((history.newest, history.best) if history else (None, None)))
        source = tags.td(_link(each.source))
        rows.append(
            tags.tr(tags.td(each.metric), tags.td(f"{each.value:g}"), newest, best, tags.td(each.protocol), source)
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
    together: dict[tuple[str, str, str], list[Mapping[str, str]]] = {}  # The lines of each run and metric.
    for row in rows:
        together.setdefault((row["experiment"], row["run"], row["metric"]), []).append(row)
    head = ("experiment", "metric", "paper", "reference code", "here", *FACTS)
    table = _table(head, [_row(folder, lines) for lines in together.values()])
    body.add(page.section("Paper, reference code, here", table))
    body.add(tags.p("Also as ", tags.a("CSV", href=record), ".", cls="hint"))
    page.write_document(folder / REPRODUCTIONS, document)
    return folder / REPRODUCTIONS


def _row(folder: Path, lines: Sequence[Mapping[str, str]]) -> tags.html_tag:
    first = lines[0]
    name = tags.a(first["experiment"], href=page.address(folder / first["run"] / page.PAGE, folder))
    of_papers = [line for line in lines if line["source"].startswith(PAPER)]
    of_code = [line for line in lines if line["source"] and line not in of_papers]
    here = first["measured"] or ("not measured" if first["metric"] else "no reference value")
    changes = [tags.div("with ", tags.code(first["changes"]), cls="hint")] if first["changes"] else []
    cells = tags.td(name, *changes), tags.td(first["metric"]), _values(of_papers), _values(of_code)
    return tags.tr(*cells, tags.td(tags.strong(here)), *(tags.td(first[fact]) for fact in FACTS))


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
