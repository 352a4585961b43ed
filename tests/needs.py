"""Packages that tests need and the test extra does not install: without them, tests skip; in CI, they fail."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import NoReturn

import pytest

REQUIRED = bool(os.environ.get("GANTRAIN_REQUIRE_BROWSER"))


def missing(reason: str) -> NoReturn:
    """Skip the test, or fail it where nothing may be missing."""
    if REQUIRED:
        pytest.fail(f"GANTRAIN_REQUIRE_BROWSER is set, and {reason}", pytrace=False)
    pytest.skip(reason)


def needs(*packages: str) -> None:
    """At the top of a test or a fixture: skip it where a package is missing, or fail where it must be there."""
    for package in packages:
        if not is_installed(package):
            missing(f"{package} is not installed")


def is_installed(package: str) -> bool:
    """Whether it can be imported."""
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:
        return False
