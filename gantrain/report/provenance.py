"""Where a run runs, and of what code."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

PATIENCE = 5  # seconds for git, which may be on a slow disk


def provenance(device: torch.device) -> dict[str, str]:
    """Versions, commits and the machine, for people to read."""
    try:
        own = version("gantrain")
    except PackageNotFoundError:  # in a clone
        own = "not installed"
    package = Path(__file__).parents[1]
    found = {"gantrain": own, "commit": _commit(package, tracked="__init__.py"), "folder": str(Path.cwd())}
    here = _commit(Path.cwd())
    found["commit of the folder"] = here if here != found["commit"] else ""
    found["device"] = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    found["machine"] = f"{platform.node()}, {platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    found["python, torch"] = f"{platform.python_version()}, {torch.__version__}"
    return {name: value for name, value in found.items() if value}


def _commit(folder: Path, *, tracked: str | None = None) -> str:
    """The commit of the checkout that a folder is in, if git knows ``tracked`` there; whether it was changed since."""
    if tracked is not None and not _git(folder, "ls-files", tracked):
        return ""
    commit = _git(folder, "rev-parse", "HEAD")
    return f"{commit}, with changes" if commit and _git(folder, "status", "--porcelain", "-uno") else commit


def _git(folder: Path, *arguments: str) -> str:
    """What git says; nothing if it can't."""
    try:
        called = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=PATIENCE, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return called.stdout.strip() if called.returncode == 0 else ""
