"""The page of a data set: facts, problems, classes and example images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from dominate import tags

from gantrain.report.pages import page

BAR_LENGTH = 20  # The length of the largest class, in rem.


def data_page(
    folder: Path,
    *,
    name: str,
    command: str,
    columns: Mapping[str, Mapping[str, str]],
    findings: Sequence[tuple[str, bool, Sequence[str]]],
    recommendations: Sequence[str],
    classes: Mapping[str, Mapping[str, int]],
    sheets: Mapping[str, Sequence[tuple[str, Sequence[Path]]]],
) -> None:
    """Write ``index.html``.

    Args:
        folder: Its folder, which contains the images.
        name: The heading.
        command: The command that wrote the page, as typed.
        columns: Facts by heading.
        findings: Problems: a line of text, whether the problem stops training, and the affected files.
        recommendations: Lines about settings that suit the data; may be empty.
        classes: Number of images of each class, by heading.
        sheets: Example images by heading: a name, and one image or a pair.
    """
    document, body = page.new_document(name, topic="data")
    rows = list(dict.fromkeys(key for facts in columns.values() for key in facts))
    facts = tags.table(tags.tr(tags.th(), *(tags.th(heading) for heading in columns)))
    for row in rows:
        facts.add(tags.tr(tags.th(row), *(tags.td(column.get(row, "")) for column in columns.values())))
    body.add(tags.section(tags.div(facts, cls="scroll"), aria_label="facts"))
    problems = [_finding(*finding) for finding in findings]
    body.add(page.section("Findings", *(problems or [tags.p("No problems found.")])))
    if recommendations:
        body.add(page.section("Recommended settings", *map(tags.p, recommendations)))
    for heading, counts in classes.items():
        body.add(page.section(f"Classes, {heading}", tags.div(_bars(counts), cls="scroll")))
    for heading, images in sheets.items():
        body.add(page.section(heading, tags.div(*(_thumbnail(folder, *image) for image in images), cls="sheet")))
    body.add(page.command_section(command))
    page.write_document(folder / page.PAGE, document)


def _finding(text: str, stops: bool, items: Sequence[str]) -> tags.html_tag:
    text = f"Would stop training: {text}" if stops else text
    style = "wrong" if stops else ""
    if not items:
        return tags.p(text, cls=style)
    return tags.details(tags.summary(text), tags.ul(*(tags.li(item) for item in items)), cls=style, open=stops)


def _bars(counts: Mapping[str, int]) -> tags.html_tag:
    largest = max(counts.values()) or 1
    rows = []
    for name, count in counts.items():
        bar = tags.div(cls="bar", style=f"width: {BAR_LENGTH * count / largest:.2f}rem")
        rows.append(tags.tr(tags.th(name), tags.td(f"{count:,}"), tags.td(bar)))
    return tags.table(*rows, cls="names")


def _thumbnail(folder: Path, name: str, paths: Sequence[Path]) -> tags.html_tag:
    urls = [page.address(path, folder) for path in paths]
    return tags.figure(*(tags.img(src=url, alt=name, title=name, loading="lazy") for url in urls))
