"""Reads the data files of pages, for tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gantrain.report.pages.page import DATA


def read_data(folder: Path, name: str) -> Any:
    """What ``write_data`` wrote."""
    text = (folder / DATA / f"{name}.js").read_text(encoding="utf-8")
    return json.loads(text[text.index(", ") + 2 : text.rindex(")")])
