#!/usr/bin/env python3
"""Write gantrain/report/assets/help.html, which lies beside every page of a run, from pages of the documentation.

pip install markdown-it-py && python scripts/make_help.py
"""

from __future__ import annotations

import re
from html import escape
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parent.parent
TARGET = ROOT / "gantrain/report/assets/help.html"
PAGES = ("troubleshooting.md", "how/pages.md", "how/metrics.md", "how/resume.md", "how/data.md", "how/performance.md")
HEAD = """\
<!DOCTYPE html>
<html lang="en">
<head>
<title>Help</title>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="page.css">
</head>
<body>
<main class="text">
"""
# Paragraphs that begin with an image, below which its caption may stand, and tables of images.
IMAGES = re.compile(r"(^\| \| \|\n\|---\|---\|\n)?^.*!\[.*\n(.+\n)*", re.MULTILINE)


def slug(text: str) -> str:
    """The fragment of a heading, as on the site."""
    return re.sub(r"[^\w\- ]", "", text.lower().replace("`", "")).strip().replace(" ", "-")


def section(page: str) -> str:
    """A page as a section, whose links lead to sections of the others; links to further pages become text."""
    path = ROOT / "docs" / page
    markdown = MarkdownIt("commonmark").enable("table")
    tokens = markdown.parse(IMAGES.sub("", path.read_text(encoding="utf-8")))
    for token, content in zip(tokens, [*tokens[1:], None], strict=True):
        if token.type == "heading_open" and content is not None:
            token.attrSet("id", slug(content.content))
        if token.type.startswith("heading"):
            token.tag = f"h{int(token.tag[1]) + 1}"
        kept = True
        for child in token.children or ():
            if child.type == "link_open":
                target = linked(path, str(child.attrGet("href")))
                kept = target is not None
                child.attrSet("href", target or "")
            if child.type in ("link_open", "link_close") and not kept:
                child.type, child.tag, child.nesting, child.content = "text", "", 0, ""
    html = str(markdown.renderer.render(tokens, markdown.options, {}))
    html = html.replace("<table>", '<div class="scroll"><table>').replace("</table>", "</table></div>")
    return f"<section>\n{html}</section>\n"


def linked(page: Path, url: str) -> str | None:
    """Where a link of a page leads on the page of help; None for nowhere."""
    if re.match("https?:", url):
        return url
    name, _, fragment = url.partition("#")
    target = ROOT / "docs" / name[1:] if name.startswith("/") else page.parent / name if name else page
    for each in PAGES:
        if target.resolve() == ROOT / "docs" / each:
            return f"#{fragment or slug(title(each))}"
    return None


def title(page: str) -> str:
    """The title of a page."""
    return (ROOT / "docs" / page).read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")


def document() -> str:
    """The page of help."""
    links = "".join(f'<a href="#{slug(title(page))}">{escape(title(page))}</a>\n' for page in PAGES)
    header = f"<header><h1>Help</h1>\n<nav>\n{links}</nav></header>\n"
    return f"{HEAD}{header}{''.join(map(section, PAGES))}</main>\n</body>\n</html>\n"


if __name__ == "__main__":
    TARGET.write_text(document(), encoding="utf-8")
