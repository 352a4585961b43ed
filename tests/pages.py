"""What pages show and what runs logged, read from their files."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

HOSTILE = '<script>alert(1)</script> "it\'s" 100% #1 ü\n2'  # A name that users may give.


def data_of(folder: str | Path, name: str) -> Any:
    """The value in ``index_files/data/<name>.js`` of a page."""
    text = (Path(folder) / "index_files" / "data" / f"{name}.js").read_text(encoding="utf-8")
    found = re.fullmatch(r'gantrain\.data\("(\w+)", (.*)\);\n', text, re.DOTALL)
    assert found is not None
    assert found[1] == name
    return json.loads(found[2])


def lines_of(folder: str | Path, table: str) -> list[dict[str, Any]]:
    """The lines of a table in the log of a page."""
    data = Path(folder) / "index_files" / "data"
    lines = []
    for number in range(len(list(data.glob("log_*.js")))):
        for line in (data / f"log_{number}.js").read_text(encoding="utf-8").splitlines():
            found = re.fullmatch(r'gantrain\.line\("(\w+)", (.*)\);', line)
            assert found is not None
            if found[1] == table:
                lines.append(json.loads(found[2]))
    return lines


def logged_lines(name: str) -> list[dict[str, float]]:
    """The lines of the losses of a run, with no clock but the step."""
    lines = [json.loads(text) for text in Path(f"checkpoints/{name}/losses.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in ("epoch", "kimg")} for line in lines]


def named_by(link: str) -> str:
    """The file that a link on a page leads to, which has to be a relative path below the page without a query."""
    assert urlsplit(link)._replace(path="") == ("", "", "", "", ""), link
    assert not link.startswith(("/", ".."))
    return os.fsdecode(unquote_to_bytes(link))
