"""The pages: static HTML without scripts, readable from disk."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from operator import itemgetter
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, unquote_to_bytes

import dominate
from dominate.tags import (
    a,
    code,
    figcaption,
    figure,
    h1,
    h2,
    html_tag,
    img,
    main,
    meta,
    p,
    pre,
    style,
    table,
    td,
    th,
    tr,
)
from omegaconf import OmegaConf

from gantrain.registry import ConfigError
from gantrain.report.curves import charts
from gantrain.report.lines import replace_text

PAGE = "index.html"
# of a results folder: the command, and the files that it wrote, quoted as in a URL, one a line
RECORD = "files.txt"
COLUMN = 9  # rem: the width of each image where several lie side by side

STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { margin: 0 auto; max-width: 72rem; padding: 1rem }
img { image-rendering: pixelated; max-width: 100%; min-width: min(100%, 24rem); height: auto }
table { margin-bottom: 1rem }
figure { display: inline-block; margin: 0 1rem 1rem 0; vertical-align: top }
figcaption { font-size: .9rem; opacity: .8 }
pre { overflow-x: auto; padding: .75rem; background: #8881; border-radius: .4rem }
th { padding-right: 1.5rem; text-align: left }
.pictures td { overflow-wrap: anywhere; padding: .15rem; vertical-align: top }
.pictures img { display: block; min-width: 0; width: 16rem }
svg { width: 360px; max-width: 100%; color: #2a7de1; background: #8881; border-radius: .4rem }
svg text { font-size: 11px; fill: CanvasText }
"""


def run_page(
    folder: Path,
    *,
    name: str,
    command: str,
    status: dict[str, str],
    lines: Sequence[dict[str, float]],
    config: dict[str, Any],
) -> None:
    """Write ``index.html`` of a run folder: samples newest first, curves, configuration, command.

    Args:
        folder: The run folder; its ``images`` are those named ``step_<n>_<what>.png``.
        name: Of the run.
        command: What made it, as typed.
        status: Facts for the table at the top.
        lines: Of ``losses.jsonl``.
        config: The composed configuration.
    """
    pictures = pictures_of(folder)
    document, body = document_with(name)
    body.add(_facts(status))
    if pictures:
        body.add(h2("Samples"))
    for path, step in reversed(pictures):
        columns = path.stem.split("_", 2)[2].split("-")
        shown = _figure(path.relative_to(folder), f"{' | '.join(columns)}, step {step}")
        if len(columns) > 1:
            shown.get("img")[0]["style"] = f"width: min(100%, {COLUMN * len(columns)}rem)"
        body.add(shown)
    if lines:
        body.add(h2("Losses"), charts(lines))
    body.add(h2("Command"), pre(code(command)))
    body.add(h2("Configuration"), pre(code(OmegaConf.to_yaml(OmegaConf.create(config)))))
    write_document(folder / PAGE, document)


def pictures_of(folder: Path) -> list[tuple[Path, int]]:
    """The pictures in ``images`` of a run folder, each with the step that it was made at, which rises."""
    found = ((path, re.fullmatch(r"step_([0-9]+)_.*", path.stem)) for path in (folder / "images").glob("step_*.png"))
    return sorted(((path, int(name[1])) for path, name in found if name), key=itemgetter(1))


def results_page(
    folder: Path,
    *,
    name: str,
    command: str,
    facts: dict[str, str],
    pictures: dict[str, Path] | None = None,
    tables: Mapping[str, Sequence[tuple[str, dict[str, Path]]]] | None = None,
) -> None:
    """Write ``index.html`` of a results folder.

    Args:
        folder: The results folder, which the pictures are in.
        name: Of the page.
        command: What made it, as typed.
        facts: For the table at the top.
        pictures: By caption.
        tables: Rows of pictures by heading: a name, and its pictures by kind.
    """
    document, body = document_with(name)
    body.add(_facts(facts))
    for caption, path in (pictures or {}).items():
        body.add(_figure(path.relative_to(folder), caption))
    for heading, rows in (tables or {}).items():
        body.add(h2(heading), _rows(folder, rows))
    body.add(h2("Command"), pre(code(command)))
    write_document(folder / PAGE, document)


@contextmanager
def replacing(folder: Path, *, command: str) -> Iterator[Path]:
    """A folder to write results into: ``<folder>.part``, whose files go to ``folder`` only when all are there.

    The files of an earlier call, which ``files.txt`` in ``folder`` lists, are then removed, and nothing else is. Who
    fails inside changes nothing but ``<folder>.part``, which is removed. What another command made is not replaced
    without a word.

    Args:
        folder: Where results go in the end.
        command: What makes them, as typed.

    Raises:
        ConfigError: ``<folder>.part`` is there, and not as a call leaves it that was killed.
    """
    place = folder.resolve()  # even "." has siblings then
    part = place.with_name(f"{place.name}.part")
    if part.exists() and not (part / RECORD).exists():
        raise ConfigError(f"{part} is in the way: move it, or give another out=FOLDER")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    line = "# " + " ".join(command.split())
    try:
        _write_record(part, line, [])
        yield part
        made = [path.relative_to(part).as_posix() for path in part.rglob("*") if path.is_file()]
        made = sorted(name for name in made if name not in (PAGE, RECORD)) + [PAGE]
        before, old = _read_record(place)
        if before not in (None, line):
            print(f"replacing the results of: {str(before).removeprefix('# ')}", file=sys.stderr)
        _write_record(place, line, sorted({*old, *made}))  # a call that is killed from here on is cleaned up after
        _remove(place, old)
        for name in made:
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.move(part / name, place / name)
        _write_record(place, line, made)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _write_record(folder: Path, command: str, names: Sequence[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = [command, *(quote(os.fsencode(name)) for name in names)]  # a name may hold anything, line breaks included
    (folder / RECORD).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", errors="replace")


def _read_record(folder: Path) -> tuple[str | None, list[str]]:
    """The line of the command, None where there is none, and the files; none that lies elsewhere."""
    record = folder / RECORD
    lines = record.read_text(encoding="utf-8").splitlines() if record.exists() else []
    command = lines.pop(0) if lines and lines[0].startswith("# ") else None
    names = [os.fsdecode(unquote_to_bytes(line)) for line in lines]
    paths = [PurePosixPath(name) for name in names]
    return command, [path.as_posix() for path in paths if not path.is_absolute() and ".." not in path.parts]


def _remove(folder: Path, names: Sequence[str]) -> None:
    """The page first, lest it lead to what is gone; then files, and the folders that are empty then."""
    for name in (PAGE, *names) if names else ():
        (folder / name).unlink(missing_ok=True)
    for parent in sorted({parent for name in names for parent in PurePosixPath(name).parents}, reverse=True):
        inside = folder / parent
        if inside != folder and inside.is_dir() and not any(inside.iterdir()):
            inside.rmdir()


def document_with(title: str) -> tuple[dominate.document, html_tag]:
    """An empty page, and what to add to."""
    document = dominate.document(title=title)
    document["lang"] = "en"
    document.head.add(meta(charset="utf-8"), meta(name="viewport", content="width=device-width"), style(STYLE))
    body = document.add(main())
    body.add(h1(title))
    return document, body


def _facts(facts: dict[str, str]) -> html_tag:
    return table(*(tr(th(key), td(value)) for key, value in facts.items())) if facts else p()


def _rows(folder: Path, rows: Sequence[tuple[str, dict[str, Path]]]) -> html_tag:
    kinds = list(dict.fromkeys(kind for _, pictures in rows for kind in pictures))
    body = table(tr(*(th(kind) for kind in kinds)), cls="pictures")
    for name, pictures in rows:
        body.add(tr(td(name, colspan=len(kinds))))
        body.add(tr(*(td(*_linked(folder, pictures.get(kind), f"{kind}, {name}")) for kind in kinds)))
    return body


def _linked(folder: Path, path: Path | None, caption: str) -> list[html_tag]:
    if path is None:
        return []
    place = quote(os.fsencode(path.relative_to(folder).as_posix()))
    return [a(img(src=place, alt=caption, title=caption, loading="lazy"), href=place)]


def _figure(path: Path, caption: str) -> html_tag:
    return figure(img(src=path.as_posix(), alt=caption, loading="lazy"), figcaption(caption))


def write_document(path: Path, document: dominate.document) -> None:
    """Put a page in its place."""
    replace_text(path, document.render())
