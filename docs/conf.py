"""The documentation site: ``pip install '.[docs]'``, then ``sphinx-build -W docs site``."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

import reference  # noqa: E402 - found by the line above

from gantrain import __version__  # noqa: E402

project, author, release = "gantrain", "the gantrain authors", __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["colon_fence", "attrs_inline"]
myst_heading_anchors = 3
exclude_patterns = ["reproductions.md", "checkpoints", "datasets", "clusters"]
html_theme, html_title = "furo", f"gantrain {release}"
html_static_path, html_css_files = ["_static"], ["site.css"]
html_show_sphinx = html_show_copyright = html_copy_source = False
html_theme_options = {"navigation_with_keys": True}
autodoc_typehints, autodoc_member_order = "signature", "bysource"
autodoc_typehints_format = "short"
napoleon_google_docstring, napoleon_numpy_docstring, napoleon_use_ivar = True, False, True
linkcheck_anchors = True

# Documents at the root of the repository, which pages include by a line {{ARCHITECTURE.md}}, and where they are here.
PAGES = {
    "ARCHITECTURE.md": "/how/architecture.md",
    "EXTENDING.md": "/tutorials/your_gan.md",
    "CONTRIBUTING.md": "/how/contributing.md",
    "CHANGELOG.md": "/changelog.md",
    "benchmarks/README.md": "/how/benchmarks.md",
    "docs/reproductions.md": "/zoo.md",
    "docs/img/architecture.svg": "/img/architecture.svg",
}


def write_out(text: str) -> str:
    """A page with the documents and the generated parts that it includes by ``{{NAME}}``."""

    def part(found: re.Match[str]) -> str:
        if (place := HERE.parent / found[1]).is_file():
            content = place.read_text(encoding="utf-8")
            content = content if text.startswith("{{") else content.partition("\n\n")[2]  # A page has one title.
            content = re.sub(r"\[([A-Z]+)\.md\]", lambda name: f"[{name[1].capitalize()}]", content)
            return re.sub(r"\]\(([\w/]+\.(?:md|svg))", lambda link: f"]({PAGES.get(link[1], link[1])}", content)
        return reference.PARTS[found[1]]()

    return re.sub(r"^\{\{(.+)\}\}$", part, text, flags=re.MULTILINE)


def setup(app: Any) -> None:
    """Write out what pages include when they are read."""

    def read(_: Any, name: str, content: list[str]) -> None:
        content[0] = write_out(content[0])

    app.connect("source-read", read)
