"""The versions of the code and the machine that a run uses."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

GIT_TIMEOUT = 5  # Seconds; the checkout may be on a slow disk.


def provenance(device: torch.device) -> dict[str, str]:
    """Versions, commits and the machine, for the page of a run."""
    try:
        own = version("gantrain")
    except PackageNotFoundError:  # It runs from a clone.
        own = "not installed"
    package, here = Path(__file__).parents[1], Path.cwd()
    commit = _commit(package) if _git(package, "ls-files", "__init__.py") else ""
    commit_here = _commit(here)
    facts = {
        "gantrain": own,
        "commit": commit,
        "folder": str(here),
        "commit of the folder": commit_here if commit_here != commit else "",
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "machine": f"{platform.node()}, {platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "python, torch": f"{platform.python_version()}, {torch.__version__}",
    }
    return {name: value for name, value in facts.items() if value}


def _commit(folder: Path) -> str:
    """The checked-out commit and whether files differ from it; empty outside of a checkout."""
    commit = _git(folder, "rev-parse", "HEAD")
    return f"{commit}, with changes" if commit and _git(folder, "status", "--porcelain", "-uno") else commit


def _git(folder: Path, *arguments: str) -> str:
    """The output of git; empty if it fails."""
    command = ["git", "-C", str(folder), *arguments]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=GIT_TIMEOUT, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout.strip() if result.returncode == 0 else ""
