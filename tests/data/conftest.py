"""Caches of one test alone."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def cache_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of caches for this test alone."""
    path = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("GANTRAIN_CACHE", str(path))
    return path


@pytest.fixture
def image_cache(cache_folder: Path) -> Path:
    """The folder of cached images, which does not exist yet."""
    return cache_folder / "images"


@pytest.fixture
def shard_indices(cache_folder: Path) -> Path:
    """The folder of indices of shards, which does not exist yet."""
    return cache_folder / "shards"
