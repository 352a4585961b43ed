"""What the folders of runs and results are called when nobody says."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from typing import Any

from gantrain.resume import LENGTH, NOT_MATHEMATICS, UNCOUNTED_GROUPS

LONGEST = 120  # characters
# a run keeps its folder when it is made longer or moved; but other pictures and other beginnings are other runs
_UNNAMED = {*NOT_MATHEMATICS, *LENGTH, "model", "data", "experiment", "logger"} - {"data.root", "init_from"}


def split_override(override: str) -> tuple[str, str]:
    """``++a.b=c`` to ``("a.b", "c")``."""
    key, _, value = override.partition("=")
    return key.lstrip("+~"), value


def run_name(what: str, overrides: Sequence[str]) -> str:
    """``what`` and the overrides that change the mathematics, in characters that can be typed back.

    Args:
        what: The experiment, or model and data.
        overrides: As typed: ``optimizer.lr=1e-4`` becomes ``optimizer.lr-1e-4``. Where characters are lost or the name
            gets too long, a short hash of the overrides tells it from its like.
    """
    typed = [(key, _plain_number(value)) for key, value in map(split_override, overrides)]
    # an experiment chooses model and data; what was typed over its choice is another run
    unnamed = _UNNAMED - ({"model", "data"} if any(key == "experiment" for key, _ in typed) else set())
    pairs = sorted(pair for pair in typed if pair[0] not in unnamed and not pair[0].startswith(UNCOUNTED_GROUPS))
    parts = [what.replace("/", "_")]  # an experiment may lie in a sub-folder
    lossy = False
    for key, value in pairs:
        if key in ("data.root", "init_from"):
            value = value.rstrip("/").rpartition("/")[2]
            lossy = True
        readable = re.sub(r"[^A-Za-z0-9.]+", "_", value.replace("-", "m" if value.startswith("-") else "-")).strip("_")
        plain = re.fullmatch(r"[A-Za-z0-9._]+([-][0-9]+)?", value)
        lossy = lossy or not plain
        parts.append(f"{key.replace('/', '_')}-{value if plain else readable}")
    name = "_".join(parts)
    if lossy or len(name) > LONGEST:
        digest = hashlib.blake2b(repr(pairs).encode(), digest_size=3).hexdigest()
        name = f"{name[:LONGEST]}_{digest}"
    return name


def _plain_number(value: str) -> str:
    """``1e-4`` as Hydra writes it in a sweep, ``0.0001``: alone or in a sweep, a run has one name."""
    try:
        return str(float(value)) if not re.fullmatch(r"[-+]?\d+", value) else value
    except ValueError:
        return value


def of_root(data: dict[str, Any] | None, data_name: str | None) -> str:
    """What tells folders of pictures apart that are all ``data=single``: ``_photos`` of ``some/photos/*.jpg``."""
    if data_name != "single" or data is None:
        return ""
    root = os.path.abspath(os.path.expanduser(str(data.get("root"))))
    fixed = root.split("*")[0].split("?")[0].split("[")[0]
    last = root[fixed.rstrip("/").rfind("/") + 1 :]  # with the whole pattern, if it is one
    safe = re.sub(r"[^\w.+-]+", "_", last).strip("_")
    return f"_{safe}" if safe else ""
