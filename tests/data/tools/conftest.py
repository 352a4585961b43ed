"""A server of archives on this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from archives import serving

from gantrain.data.sets.catalog import NAMES


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """The function of ``serving``."""
    with serving(monkeypatch) as answer:
        yield answer


@pytest.fixture
def serve_lsun(serve, monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes | None, bytes | None], str]:
    """Has the two archives of LSUN's towers answered, and returns the address of the larger."""

    def answer(train: bytes | None, val: bytes | None) -> str:
        monkeypatch.setitem(NAMES, "of val", "/tower_val_lmdb.zip")
        serve("of val", val)
        return serve("lsun_tower", train)

    return answer
