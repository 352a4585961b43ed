"""The page of a benchmark: what was measured, a column for each choice of settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from dominate import tags

from gantrain.report.pages import page


def benchmark_page(
    folder: Path,
    *,
    command: str,
    facts: Mapping[str, str],
    names: Sequence[str],
    lines: Sequence[Sequence[str]],
    table: str,
    hints: Sequence[str],
) -> Path:
    """Write ``index.html``; returns its path.

    Args:
        folder: Its folder.
        command: The command that measured, as typed.
        facts: The machine and the versions.
        names: The names of all columns.
        lines: A heading, which is indented for a part of the line before, and a cell for each column.
        table: The name of the CSV file, which the page links to.
        hints: Lines below the table.
    """
    document, body = page.new_document("Benchmark", topic="performance")
    body.add(tags.section(page.facts_list(facts), aria_label="facts"))
    rows = []
    for heading, *cells in lines:
        indent = {"style": "padding-left: 2em"} if heading.startswith(" ") else {}
        rows.append(tags.tr(tags.th(heading.strip(), **indent), *map(tags.td, cells)))
    heading_row = tags.thead(tags.tr(*map(tags.th, names)))
    body.add(page.section("Measured", tags.div(tags.table(heading_row, tags.tbody(*rows)), cls="scroll")))
    body.add(*(tags.p(hint, cls="hint") for hint in hints))
    body.add(tags.p("Also as ", tags.a("CSV", href=page.quoted(table)), ".", cls="hint"))
    body.add(page.command_section(command))
    page.write_document(folder / page.PAGE, document)
    return folder / page.PAGE
