"""How pages are written: static HTML with assets and data in ``index_files``, readable from disk and from a server.

    document, body = new_document("A title", scripts=("curves", "mine"))  # assets/curves.js and assets/mine.js
    body.add(tags.p("dominate escapes all text"), tags.a("a file", href=address(path, folder)))
    write_data(folder, "rows", [...])  # index_files/data/rows.js
    write_document(folder / "index.html", document)

``write_document`` copies the assets that the document names, so that the folder can be moved and opened alone. A page
opened from disk may not ``fetch``, so its data are scripts, which ``assets/page.js`` loads:
``const { rows } = await gantrain.load("rows")``. ``page.js`` and ``page.css`` come with every document that has
scripts: elements, numbers and times as text, enlarged images with the arrow keys, sortable tables.
``assets/curves.js`` draws curves that zoom together; the plotting library comes with it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, TypeAlias
from urllib.parse import quote

import dominate
from dominate import tags

from gantrain.config.schema import NonNegativeFloat, NonNegativeInt, Range
from gantrain.config.side_files import read_json
from gantrain.runtime.atomic import is_leftover, write_file

PAGE = "index.html"
ASSETS = "index_files"  # Named as browsers name the folder of a saved page.
DATA = f"{ASSETS}/data"
HELP = f"{ASSETS}/help.html"  # Parts of the documentation, by scripts/make_help.py.
NEEDS = {"curves": ("uplot/uPlot.iife.min.js", "uplot/uPlot.min.css")}
COPIED_TOO = {"uplot/uPlot.iife.min.js": "uplot/LICENSE"}
LIVE = "status_"
MAX_DATA = 200 << 20  # Bytes of a data file that is read back.
Moment: TypeAlias = Annotated[float, Range(at_least=0, below=1e11)]  # In seconds since 1970.
STATUS = {  # What the status of a run contains.
    **dict.fromkeys(("state", "unit"), str),
    **dict.fromkeys(("name", "model", "data", "reason", "thumbnail"), str | None),
    **dict.fromkeys(("step", "begun", "done", "total", "files", "lines"), NonNegativeInt),
    # "ran" are the seconds of earlier sessions, "paused" those of this session in which nothing was trained.
    **dict.fromkeys(("epoch", "kimg", "silence", "ran", "paused"), NonNegativeFloat),
    **dict.fromkeys(("started", "opened", "time"), Moment),
    **dict.fromkeys(("values", "speed"), dict[str, float]),
    "higher": list[str],
}


def new_document(
    title: str, *, scripts: Sequence[str] = (), back: Mapping[str, str] | None = None, topic: str = "pages-and-loggers"
) -> tuple[dominate.document, tags.html_tag]:
    """An empty page, and the element to add content to.

    Args:
        title: The title and heading.
        scripts: Names of assets without ``.js``, besides ``page``, which every page with scripts has.
        back: Addresses of the pages above this one, by link text.
        topic: The section of the help that the page links to.
    """
    document = dominate.document(title=title)
    document["lang"] = "en"
    viewport = "width=device-width, initial-scale=1"
    document.head.add(tags.meta(charset="utf-8"), tags.meta(name="viewport", content=viewport))
    # Without an icon, browsers would ask the server for one.
    document.head.add(tags.link(rel="icon", href=f"{ASSETS}/icon.svg", type="image/svg+xml"))
    document.head.add(tags.link(rel="help", href=HELP))
    needed = [asset for name in scripts for asset in (*NEEDS.get(name, ()), f"{name}.js")]
    for asset in (*(["page.js"] if scripts else []), *needed, "page.css"):  # The last style sheet takes precedence.
        url, is_script = f"{ASSETS}/{asset}", asset.endswith(".js")
        document.head.add(tags.script(src=url, defer=True) if is_script else tags.link(rel="stylesheet", href=url))
    links = [tags.a(f"← {text}", href=url) for text, url in (back or {}).items()]
    nav = tags.nav(*links, tags.a("help", href=f"{HELP}#{topic}"), id="nav")
    body = document.add(tags.main(tags.header(tags.h1(title), nav)))
    if scripts:
        body.add(tags.noscript(tags.p("The images and curves of this page need JavaScript; the files are beside it.")))
    return document, body


def section(heading: str, *content: Any, **attributes: Any) -> tags.html_tag:
    """A section of a page, with its heading."""
    return tags.section(tags.h2(heading), *content, **attributes)


def command_section(command: str, *more: Any, heading: str = "Command") -> tags.html_tag:
    """A section with the command that wrote a page, to be copied."""
    return section(heading, tags.pre(tags.code(command)), *more)


def facts_list(facts: Mapping[str, str]) -> tags.html_tag:
    """A list of facts by name."""
    return tags.dl(*(tags.div(tags.dt(name), tags.dd(value)) for name, value in facts.items()), cls="facts long")


def address(path: Path, folder: Path) -> str:
    """The URL of a file relative to a page in ``folder``; names may contain any bytes."""
    return quoted(Path(os.path.relpath(path, folder)).as_posix())


def quoted(name: str) -> str:
    """A file name quoted for a URL."""
    return quote(os.fsencode(name))


def as_text(name: str) -> str:
    """A file name as text, with question marks for bytes that are not valid UTF-8."""
    return name.encode(errors="replace").decode()


def write_document(path: Path, document: dominate.document) -> None:
    """Write a page atomically, and the assets that it names."""
    urls = [element.attributes.get("src") or element.attributes.get("href") for element in document.head.get()]
    names = [url.removeprefix(f"{ASSETS}/") for url in urls if url and url.startswith(ASSETS)]
    for name in (*names, *(COPIED_TOO[name] for name in names if name in COPIED_TOO)):
        content = (files("gantrain.report") / "assets" / name).read_bytes()
        target = make_folder(path.parent, str(Path(ASSETS, name).parent)) / Path(name).name
        if not target.is_file() or target.read_bytes() != content:
            write_file(target, content)
    write_file(path, document.render())


def write_data(folder: Path, name: str, value: Any, *, file: str | None = None) -> None:
    """Write the data ``name`` of a page to ``index_files/data/<name>.js``, or ``<file>.js``, atomically."""
    text = f"gantrain.data({json.dumps(name)}, {json.dumps(value, separators=(',', ':'))});\n"
    write_file(make_folder(folder, DATA) / f"{file or name}.js", text)


def read_data(folder: Path, name: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Read an object that ``write_data`` wrote, whose ``fields`` are annotated; empty if missing or damaged."""
    return read_json(folder / DATA / f"{name}.js", fields, limit=MAX_DATA) or {}


def read_status(run: Path) -> dict[str, Any]:
    """The status of a run from its page; empty without a page, or with a damaged one."""
    return read_data(run, "status", STATUS)


def live_name(run: Path, home: Path) -> str:
    """The name of the file in the data of the page of all runs to which a run copies its status while it trains.

    That page loads no data from run folders, which would run as scripts, and may be those of somebody else.
    """
    return f"{LIVE}{hashlib.blake2b(address(run, home).encode(), digest_size=8).hexdigest()}"


def seconds_of(status: Mapping[str, Any]) -> float:
    """The time that a run has trained for, in all its sessions."""
    opened = status.get("opened", status.get("time", 0.0))
    return float(status.get("ran", 0.0) + max(0.0, status.get("time", opened) - opened - status.get("paused", 0.0)))


def make_folder(folder: Path, inside: str) -> Path:
    """A folder inside the folder of a page, created if needed.

    Raises:
        OSError: The folder of the page was deleted, or a folder inside is a link, which may lead anywhere.
    """
    for part in Path(inside).parts:
        folder = folder / part
        folder.mkdir(exist_ok=True)
        if folder.is_symlink():
            raise OSError(errno.ENOTDIR, "a symbolic link has the name of a folder: remove it", str(folder))
    return folder


def remove_leftovers(folder: Path, *, age: float = 0.0) -> None:
    """Remove the incomplete files that a killed process left of a page, its assets and its images.

    Another process may still be writing files that are younger than ``age`` seconds.
    """
    own = [each for each in (folder / ASSETS, folder / "images") if not each.is_symlink()]
    for path in (*folder.glob("*.tmp"), *(path for each in own for path in each.rglob("*.tmp"))):
        with suppress(OSError):
            if is_leftover(path) and path.stat().st_mtime <= time.time() - age:
                path.unlink()
