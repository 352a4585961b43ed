"""What makes the tests of a session faster without a change of any result."""

from __future__ import annotations

import copy
import functools
import gc
import importlib.metadata
import os
import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import omegaconf
import pytest
from hydra._internal import config_loader_impl as loading
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository
from hydra._internal.defaults_list import DefaultsList, Overrides
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.plugins import Plugins
from hydra.core.utils import JobRuntime
from omegaconf import DictConfig, grammar_parser

from gantrain.data.sets import digits
from gantrain.report import provenance


class Remembered:
    """Results by key, of which every call returns a copy."""

    def __init__(self) -> None:
        self._pickled: dict[Any, bytes] = {}

    def __call__(self, key: Any, make: Callable[[], Any]) -> Any:
        if key not in self._pickled:
            made = make()
            try:
                self._pickled[key] = pickle.dumps(made)
            except pickle.PicklingError:  # Hydra has imported the module of a plug-in twice.
                return made
        return pickle.loads(self._pickled[key])


def sources(repository: Any) -> tuple[str, ...]:
    """Where configurations are looked for; empty if their files may change: in folders that a command adds."""
    found = repository.get_sources()
    return () if any(source.scheme() == "file" for source in found) else tuple(source.path for source in found)


def remember_compositions(patch: pytest.MonkeyPatch) -> None:
    """Let Hydra compose only what is new: this takes half of the time of a tiny run, and tests repeat most of it."""
    load, create = ConfigLoaderImpl.load_configuration, loading.create_defaults_list
    merge = ConfigLoaderImpl._compose_config_from_defaults_list
    remembered = Remembered()

    def loaded(
        self: ConfigLoaderImpl, config_name: str | None, overrides: list[str], *others: Any, **more: Any
    ) -> DictConfig:
        found = sources(self.repository)
        if not found or any(word.startswith("hydra.") for word in overrides):
            return load(self, config_name, overrides, *others, **more)
        key = ("load", found, config_name, *overrides, *others, *more.items(), JobRuntime().get("name"))
        config = remembered(key, lambda: load(self, config_name, overrides, *others, **more))
        config.hydra.runtime.cwd = os.getcwd()
        return config

    def created(repo: Any, config_name: str, overrides_list: Any, **more: Any) -> DefaultsList:
        found = sources(repo)
        if not found:
            return create(repo, config_name, overrides_list, **more)
        groups = vars(Overrides(repo=repo, overrides_list=overrides_list))
        values = groups.pop("config_overrides")
        key = ("create", found, config_name, repr(groups), *more.items())
        defaults = remembered(key, lambda: create(repo, config_name, overrides_list, **more))
        defaults.config_overrides = values
        return defaults

    def merged(self: ConfigLoaderImpl, defaults: Any, repo: Any) -> DictConfig:
        found = sources(repo)
        if not found:
            return merge(self, defaults, repo)
        return remembered(("merge", found, repr(defaults)), lambda: merge(self, defaults, repo))

    patch.setattr(ConfigLoaderImpl, "load_configuration", loaded)
    patch.setattr(ConfigLoaderImpl, "_compose_config_from_defaults_list", merged)
    patch.setattr(loading, "create_defaults_list", created)


def remember_what_is_read(patch: pytest.MonkeyPatch) -> None:
    """Read once what no test changes: gantrain's configurations and digits, and what is installed and checked out."""
    remembered = Remembered()
    Plugins.instance()
    packages = SourcesRegistry.instance().resolve("pkg")  # Hydra has imported its module for itself.
    for name in ("load_config", "is_config", "is_group"):
        read = getattr(packages, name)

        def asked(self: Any, config_path: str, name: str = name, read: Any = read) -> Any:
            if not self.path.startswith(("gantrain.configs", "hydra.")):
                return read(self, config_path)
            return remembered((name, self.path, self.provider, config_path), lambda: read(self, config_path))

        patch.setattr(packages, name, asked)

    def shallow(self: CachingConfigRepository, delegate: Any) -> None:
        self.delegate, self.cache = copy.copy(delegate), {}  # Of its list of sources, which is replaced, if anything.

    patch.setattr(CachingConfigRepository, "__init__", shallow)
    parsed = functools.lru_cache(4096)(grammar_parser.parse)
    for module in (omegaconf.base, omegaconf._utils):
        patch.setattr(module, "parse", parsed)
    points, git = importlib.metadata.entry_points, provenance._git

    @functools.cache
    def points_on(path: tuple[str, ...], **chosen: Any) -> Any:
        return points(**chosen)

    commits: dict[Any, str] = {}

    def committed(folder: Path, *arguments: str) -> str:
        checkout = next((str(each) for each in (folder, *folder.parents) if (each / ".git").exists()), None)
        if (checkout, arguments) not in commits:
            commits[checkout, arguments] = git(folder, *arguments)
        return commits[checkout, arguments]

    patch.setattr(importlib.metadata, "entry_points", lambda **chosen: points_on((*sys.path,), **chosen))
    patch.setattr(provenance, "_git", committed)
    all_sizes, small = digits._read, functools.cache(digits._read.__wrapped__)
    patch.setattr(digits, "_read", lambda size, phase: (small if size <= 32 else all_sizes)(size, phase))


def collect_garbage_less() -> None:
    """Look for cyclic garbage among new objects alone, and a tenth as often: it takes a tenth of the time of tests."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(7000)


@pytest.fixture(scope="session", autouse=True)
def _shortcuts() -> Iterator[None]:
    """Hydra remembers what it composed, and files are not flushed to the disk, which may be busy."""
    with pytest.MonkeyPatch.context() as patch:
        remember_compositions(patch)
        remember_what_is_read(patch)
        collect_garbage_less()
        patch.setattr(os, "fsync", lambda file: None)
        yield
