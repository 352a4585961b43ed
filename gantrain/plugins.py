"""Modules from outside that register classes: imported because the user says so, never because a file does."""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from gantrain.registry import ConfigError


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
