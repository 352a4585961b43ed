"""Packages that tests need and the test extra does not install: without them, tests skip; in CI, they fail."""

from __future__ import annotations

import os
from importlib.util import find_spec

import pytest

REQUIRED = bool(os.environ.get("GANTRAIN_REQUIRE_BROWSER"))


def needs(*packages: str) -> None:
    """At the top of a test or a fixture: skip it where a package is missing, or fail where it must be there."""
    for package in packages:
        if not _is_installed(package):
            told = f"{package} is not installed"
            if REQUIRED:
                pytest.fail(told)
            pytest.skip(told)


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:
        return False
