"""The page of a data set: what it holds, what is wrong with it, and how it looks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from dominate.tags import (
    code,
    details,
    div,
    figure,
    h2,
    html_tag,
    img,
    li,
    p,
    pre,
    style,
    summary,
    table,
    td,
    th,
    tr,
    ul,
)

from gantrain.report.pages.page import PAGE, address, document_with, write_document

STYLE = """
.bar { background: var(--accent); height: .9rem; min-width: 1px; border-radius: .2rem }
.wrong summary { color: var(--bad); font-weight: bold }
summary { cursor: pointer }
h1, li, .names th { overflow-wrap: anywhere }
.names th { max-width: 30rem }
.wide { overflow-x: auto }
.sheet { display: flex; flex-wrap: wrap; gap: .4rem }
.sheet figure { margin: 0; display: flex; gap: 1px; align-items: flex-start }
.sheet img { min-width: 0 }
"""
BAR = 20  # rem, of the largest class


def data_page(
    folder: Path,
    *,
    name: str,
    command: str,
    columns: Mapping[str, Mapping[str, str]],
    findings: Sequence[tuple[str, bool, Sequence[str]]],
    classes: Mapping[str, Mapping[str, int]],
    sheets: Mapping[str, Sequence[tuple[str, Sequence[Path]]]],
) -> None:
    """Write ``index.html``.

    Args:
        folder: Where to; the images lie in it.
        name: Of the page.
        command: What made it, as typed.
        columns: Facts by heading.
        findings: One line, whether it stops training, and what it is about.
        classes: How many images there are of each class, by heading.
        sheets: Images by heading: a name, and one or those of a pair.
    """
    document, body = document_with(name)
    document.head.add(style(STYLE))
    rows = list(dict.fromkeys(key for facts in columns.values() for key in facts))
    facts = table(tr(th(), *(th(heading) for heading in columns)))
    for row in rows:
        facts.add(tr(th(row), *(td(column.get(row, "")) for column in columns.values())))
    body.add(div(facts, cls="wide"))
    body.add(h2("Findings"), *(_finding(*finding) for finding in findings))
    if not findings:
        body.add(p("Nothing is wrong with it."))
    for heading, counts in classes.items():
        body.add(h2(f"Classes, {heading}"), div(_bars(counts), cls="wide"))
    for heading, images in sheets.items():
        body.add(h2(heading), div(*(_thumbnail(folder, *image) for image in images), cls="sheet"))
    body.add(h2("Command"), pre(code(command)))
    write_document(folder / PAGE, document)


def _finding(text: str, stops: bool, items: Sequence[str]) -> html_tag:
    text = f"Would stop training: {text}" if stops else text
    if not items:
        return p(text, cls="wrong" if stops else "")
    return details(summary(text), ul(*(li(item) for item in items)), cls="wrong" if stops else "", open=stops)


def _bars(counts: Mapping[str, int]) -> html_tag:
    largest = max(counts.values()) or 1
    return table(
        *(
            tr(th(name), td(f"{count:,}"), td(div(cls="bar", style=f"width: {BAR * count / largest:.2f}rem")))
            for name, count in counts.items()
        ),
        cls="names",
    )


def _thumbnail(folder: Path, name: str, paths: Sequence[Path]) -> html_tag:
    places = [address(path, folder) for path in paths]
    return figure(*(img(src=place, alt=name, title=name, loading="lazy") for place in places))
