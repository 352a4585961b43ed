"""Names for classes, and the one place where a configuration meets a constructor.

A class's constructor is its schema: a YAML key is a keyword argument, spelt the same, checked against the annotation.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

from gantrain.config.schema import construct
from gantrain.errors import ConfigError, nearest

T = TypeVar("T")


class Registry(Generic[T]):
    """Classes by name.

    Args:
        kind: What the classes are, in words ("model"), for messages.
        key: Where their configuration stands ("model", "network.generator"), for messages.
        choose_by: The key whose value is the name: ``name``, or ``mode`` for data sets.
    """

    def __init__(self, kind: str, key: str, *, choose_by: str = "name") -> None:
        self.kind = kind
        self.key = key
        self.choose_by = choose_by
        self._classes: dict[str, type[T]] = {}

    def register(self, name: str) -> Callable[[type[T]], type[T]]:
        """File the decorated class under ``name``; a name that is taken is refused."""

        def file(cls: type[T]) -> type[T]:
            if name in self._classes:
                raise ConfigError(f"the {self.kind} '{name}' is registered twice ({self._classes[name].__module__})")
            self._classes[name] = cls
            return cls

        return file

    def __getitem__(self, name: str) -> type[T]:
        return self._named(name, self.key)

    def _named(self, name: Any, key: str) -> type[T]:
        try:
            return self._classes[name]
        except (KeyError, TypeError):  # a list or a dict can't be looked up
            choice = f"{key}.{self.choose_by}"
            raise ConfigError(f"{choice}={name}: no such {self.kind}; {nearest(str(name), self._classes)}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._classes))

    def build(
        self, config: Mapping[str, Any], *, key: str | None = None, also: Iterable[str] = (), **runtime: Any
    ) -> T:
        """Make one from ``{name: ..., **arguments}``.

        Args:
            config: The name and the keys of the class.
            key: Where ``config`` stands, if not where the registry says.
            also: Keys beside them that somebody else reads, to be suggested for a mistyped one.
            runtime: Arguments that no YAML file can hold.

        Raises:
            ConfigError: The name is unknown, or a key is unknown, missing or of the wrong type.
        """
        arguments, key = dict(config), key or self.key
        if self.choose_by not in arguments:
            raise ConfigError(f"{key}.{self.choose_by} is missing; {nearest('', self._classes)}")
        cls = self._named(arguments.pop(self.choose_by), key)
        return construct(cls, arguments, key=key, also=(self.choose_by, *also), **runtime)


MODELS: Registry[Any] = Registry("model", "model")
GENERATORS: Registry[Any] = Registry("generator", "network.generator")
DISCRIMINATORS: Registry[Any] = Registry("discriminator", "network.discriminator")
DATASETS: Registry[Any] = Registry("data mode", "data", choose_by="mode")
OPTIMIZERS: Registry[Any] = Registry("optimizer", "optimizer")
SCHEDULES: Registry[Any] = Registry("schedule", "schedule")
LOGGERS: Registry[Any] = Registry("logger", "logger")
REGISTRIES = (MODELS, GENERATORS, DISCRIMINATORS, DATASETS, OPTIMIZERS, SCHEDULES, LOGGERS)


# ---- plug-ins: modules from outside, imported because the user names them, never because a file does


def import_plugins(plugins: Sequence[str]) -> None:
    """Import the modules that register classes of users: those named, and installed packages' entry points.

    Raises:
        ConfigError: A module can't be imported.
    """
    for entry in importlib.metadata.entry_points(group="gantrain.plugins"):
        with _naming(entry.value):
            entry.load()
    here = str(Path.cwd())
    if plugins and here not in sys.path:
        sys.path.insert(0, here)  # as for `python script.py`: a file beside the user is importable
    for name in plugins:
        with _naming(name):
            importlib.import_module(name)


def import_saved(saved: object, run: Path, *, given: Sequence[str], trusted: bool) -> None:
    """See to the plugins that a run was trained with, whose names stand in its checkpoint, which anybody may have made.

    Args:
        saved: What the checkpoint has under ``plugins``.
        run: Where it lies, for messages.
        given: What the user has named, which is imported.
        trusted: Whether the user lets the checkpoint say what is imported.

    Raises:
        ConfigError: There are some that the user has not named; or a module can't be imported.
    """
    if not isinstance(saved, list) or not all(isinstance(name, str) for name in saved):
        raise ConfigError(f"{run}: its checkpoint's plugins are no list of names but {saved!r}")
    others = [name for name in saved if name not in given]
    if others and not trusted:
        raise ConfigError(
            f"{run} was trained with plugins, which would run code: give plugins=[{','.join(saved)}] again, "
            "or trust_plugins=true to import whatever a checkpoint names"
        )
    import_plugins(others)


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """Whatever keeps a module from being imported becomes one line that says what and where."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"plugins: {name}: {error}") from None
    except (Exception, SystemExit) as error:  # code of others may raise anything, and end the process
        reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        frames = traceback.extract_tb(error.__traceback__)
        inside = [frame for frame in frames if frame.filename != __file__ and "importlib" not in frame.filename]
        where = f"{inside[-1].filename}, line {inside[-1].lineno}" if inside else f"looked for in {Path.cwd()} too"
        raise ConfigError(f"plugins: can't import '{name}' ({reason}; {where})") from None
