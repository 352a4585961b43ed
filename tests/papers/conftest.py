"""A server of archives on this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from archives import serving


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """The function of ``serving``."""
    with serving(monkeypatch) as answer:
        yield answer
