"""Quotes around paths, which Hydra's grammar needs: ``data.root=~/images`` becomes ``data.root='~/images'``."""

from __future__ import annotations

import os
import re
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep
from hydra.errors import HydraException

# Keys whose values can only be a path or a name.
PATHS = {
    *("against", "checkpoints_dir", "data.list", "data.root", "fake", "hydra.run.dir", "hydra.sweep.dir", "init_from"),
    *(
        "metrics.segmenter",
        "metrics.weights",
        "name",
        "ort",
        "out",
        "real",
        "resume",
        "run",
        "source",
        "trainer.mirror",
    ),
    "weights",
}


def quoted(word: str, *, sweeps: bool) -> str:
    """The override, quoted where Hydra would not take its value as the path or name that was typed.

    Where ``sweeps``, a comma separates several of them, unless there is a file or folder with the comma in its name.
    """
    key, _, value = word.partition("=")
    if key.lstrip("+") not in PATHS or not value or _is_understood(word, value, sweeps=sweeps):
        return word
    parts = value.split(",") if sweeps and not _exists(value) else [value]
    return f"{key}={','.join(map(quote, parts))}"


def _is_understood(word: str, value: str, *, sweeps: bool) -> bool:
    """Whether Hydra reads the value as what was typed, which may be in its own syntax (quotes, functions, lists)."""
    try:
        override = OverridesParser.create().parse_override(word)
    except HydraException:
        return False
    found = override.value()
    if isinstance(found, ChoiceSweep) and found.simple_form:
        return sweeps and not _exists(value) and not any(map(_is_number, found.list))
    return not _is_number(found) and (
        not isinstance(found, str) or found == value or value[0] in "'\"" or "\\" in value
    )


def _exists(path: str) -> bool:
    return os.path.exists(os.path.expanduser(path))


def _is_number(value: Any) -> bool:
    return isinstance(value, (bool, int, float))


def quote(text: str) -> str:
    """In single quotes; Hydra reads a backslash as itself, except before a quote."""
    return "'" + re.sub(r"(\\*)('|$)", lambda found: 2 * found[1] + ("\\'" if found[2] else ""), text) + "'"
