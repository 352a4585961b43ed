"""How a page is made: static HTML, assets and data beside it in ``index_files``, readable from disk as from a server.

    document, body = document_with("A title", scripts=("curves", "mine"))  # assets/curves.js and assets/mine.js
    body.add(p("dominate escapes all text"), a("a file", href=address(path, folder)))
    write_data(folder, "rows", [...])  # index_files/data/rows.js
    write_document(folder / "index.html", document)

The first copies nothing; the last puts the assets that the document names beside it, so that the folder can be moved
and opened alone. A page that is opened from disk may not ``fetch``, so its data are scripts, which ``assets/page.js``
loads: ``const { rows } = await gantrain.load("rows")``. ``page.js`` and ``page.css`` come with every
document that has scripts: elements, numbers and times as text, enlarged images with the arrow keys, sortable tables.
``assets/curves.js`` draws curves that zoom together; the plotting library comes with it.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any
from urllib.parse import quote

import dominate
from dominate.tags import dd, div, dl, dt, h1, header, html_tag, link, main, meta, noscript, p, script

from gantrain.runtime.atomic import is_leftover, write_file

PAGE = "index.html"
BESIDE = "index_files"  # as browsers call what belongs to a page
DATA = f"{BESIDE}/data"
NEEDS = {"curves": ("uplot/uPlot.iife.min.js", "uplot/uPlot.min.css")}
LICENCES = {"uplot/uPlot.iife.min.js": "uplot/LICENSE"}  # goes where the library goes


def document_with(title: str, scripts: Sequence[str] = ()) -> tuple[dominate.document, html_tag]:
    """An empty page, and what to add to.

    Args:
        title: Any text.
        scripts: Names of assets without ``.js``, besides ``page``, which every page has if it has any.
    """
    document = dominate.document(title=title)
    document["lang"] = "en"
    document.head.add(meta(charset="utf-8"), meta(name="viewport", content="width=device-width, initial-scale=1"))
    document.head.add(link(rel="icon", href=f"{BESIDE}/icon.svg", type="image/svg+xml"))  # or a server is asked for one
    needed = [asset for name in scripts for asset in (*NEEDS.get(name, ()), f"{name}.js")]
    for asset in (*(["page.js"] if scripts else []), *needed, "page.css"):  # which has the last word
        if asset.endswith(".css"):
            document.head.add(link(rel="stylesheet", href=f"{BESIDE}/{asset}"))
        elif asset.endswith(".js"):
            document.head.add(script(src=f"{BESIDE}/{asset}", defer=True))
    body = document.add(main())
    body.add(header(h1(title)))
    if scripts:
        body.add(noscript(p("The images and curves of this page need JavaScript; they lie as files beside it.")))
    return document, body


def facts_list(facts: Mapping[str, str], **attributes: str) -> html_tag:
    """Facts by name."""
    return dl(*(div(dt(key), dd(value)) for key, value in facts.items()), cls="facts", **attributes)


def address(path: Path, folder: Path) -> str:
    """A file below a folder, as an address from that folder's page; a name may hold anything."""
    return quote(os.fsencode(path.relative_to(folder).as_posix()))


def write_document(path: Path, document: dominate.document) -> None:
    """Put a page in its place, whole, and its assets beside it."""
    for element in document.head.get():
        place = str(element.attributes.get("src") or element.attributes.get("href") or "")
        if place.startswith(f"{BESIDE}/"):
            name = place.removeprefix(f"{BESIDE}/")
            for asset in (name, *([LICENCES[name]] if name in LICENCES else [])):
                _copy_asset(asset, path.parent, Path(BESIDE, asset))
    write_file(path, document.render())


def write_data(folder: Path, name: str, value: Any) -> None:
    """Keep what a page is to show as ``index_files/data/<name>.js``, whole."""
    write_file(folder_below(folder, DATA) / f"{name}.js", f"gantrain.data({json.dumps(name)}, {as_script(value)});\n")


def read_data(folder: Path, name: str) -> Any:
    """What ``write_data`` has kept.

    Raises:
        OSError: It can't be read.
        ValueError: It is something else.
    """
    text = (folder / DATA / f"{name}.js").read_text(encoding="utf-8")
    return json.loads(text[text.index(", ") + 2 : text.rindex(")")])


def read_status(run: Path) -> dict[str, Any]:
    """What a run says of itself on its page; nothing if it has none, or one of another version."""
    try:
        status = read_data(run, "status")
    except (OSError, ValueError):
        return {}
    return status if isinstance(status, dict) else {}


def as_script(value: Any) -> str:
    """JSON, which is JavaScript too; here with NaN and infinities, which JavaScript has."""
    return json.dumps(value, separators=(",", ":"))


def folder_below(folder: Path, inside: str) -> Path:
    """A folder within that of a page, made if need be; not that of the page, which may have been deleted.

    Raises:
        OSError: It can't be made.
    """
    for part in Path(inside).parts:
        folder = folder / part
        folder.mkdir(exist_ok=True)
    return folder


def remove_leftovers(folder: Path, *, age: float = 0.0) -> None:
    """Remove what was half-written of a page, and of what lies beside it, when its writer was killed.

    Args:
        folder: Of the page.
        age: Seconds; another process may be at work on what is younger.
    """
    for path in (*folder.glob("*.tmp"), *(folder / BESIDE).rglob("*.tmp")):
        with suppress(OSError):
            if is_leftover(path) and path.stat().st_mtime <= time.time() - age:
                path.unlink()


def _copy_asset(name: str, folder: Path, place: Path) -> None:
    """Unless it is there already."""
    with as_file(files("gantrain.report") / "assets" / name) as asset:
        content = asset.read_bytes()
    if (folder / place).is_file() and (folder / place).read_bytes() == content:
        return
    write_file(folder_below(folder, str(place.parent)) / place.name, content)
