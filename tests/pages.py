"""What pages show, read from their files of data."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

HOSTILE = '<script>alert(1)</script> "it\'s" 100% #1 ü\n2'  # a name that people may give


def data_of(folder: str | Path, name: str) -> Any:
    """What ``index_files/data/<name>.js`` of a page says."""
    text = (Path(folder) / "index_files" / "data" / f"{name}.js").read_text(encoding="utf-8")
    said = re.fullmatch(r'gantrain\.data\("(\w+)", (.*)\);\n', text, re.DOTALL)
    assert said is not None
    assert said[1] == name
    return json.loads(said[2])


def lines_of(folder: str | Path, table: str) -> list[dict[str, Any]]:
    """The lines of a table in the log of a page."""
    data = Path(folder) / "index_files" / "data"
    lines = []
    for number in range(len(list(data.glob("log_*.js")))):
        for line in (data / f"log_{number}.js").read_text(encoding="utf-8").splitlines():
            said = re.fullmatch(r'gantrain\.line\("(\w+)", (.*)\);', line)
            assert said is not None
            if said[1] == table:
                lines.append(json.loads(said[2]))
    return lines


def named_by(link: str) -> str:
    """The file that an address on a page leads to, which is a path below the page, and no other address or query."""
    assert urlsplit(link)._replace(path="") == ("", "", "", "", ""), link
    assert not link.startswith(("/", ".."))
    return os.fsdecode(unquote_to_bytes(link))
