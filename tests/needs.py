"""Packages that tests need but the test extra does not install: without them tests skip, or fail in CI."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import NoReturn

import pytest

REQUIRED = bool(os.environ.get("GANTRAIN_REQUIRE_BROWSER"))


def missing(reason: str) -> NoReturn:
    """Skip the test, or fail it in CI."""
    if REQUIRED:
        pytest.fail(f"GANTRAIN_REQUIRE_BROWSER is set, and {reason}", pytrace=False)
    pytest.skip(reason)


def needs(*packages: str) -> None:
    """Skip the test or fixture that calls this, or fail it in CI, if a package is missing."""
    for package in packages:
        if not is_installed(package):
            missing(f"{package} is not installed")


def is_installed(package: str) -> bool:
    """Whether it can be imported."""
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:
        return False
