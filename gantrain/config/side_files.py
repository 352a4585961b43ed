"""Reads back the small files that gantrain writes, none of which is trusted to have the form it was written in.

A damaged file is named in one line on stderr and skipped: the caller goes on without what it contained.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import yaml

from gantrain.config.schema import checked
from gantrain.errors import ConfigError
from gantrain.runtime import console

MEGABYTE = 1 << 20
MAX_DEPTH = 30
MAX_INTEGER = 2**64
MAX_NAME, MAX_PATH = 255, 4000  # Bytes of a part of a path, and of all of it.

_reported: set[tuple[Path, str]] = set()


class DamagedError(ValueError):
    """A file does not have the form in which it was written; the text says what is wrong with it."""


def report_damage(path: Path, reason: object, *, remedy: str = "it is skipped") -> None:
    """Print a warning about a damaged file, once."""
    line = str(ConfigError(f"{path} is damaged ({str(reason)[:200]}): {remedy}"))
    if (path.absolute(), line) not in _reported:
        _reported.add((path.absolute(), line))
        console.err(f"warning: {line}")


def read_text(path: Path, *, limit: int = MEGABYTE) -> str | None:
    """The text of a file of at most ``limit`` bytes; None if it does not exist, or is damaged or unreadable."""
    try:
        with open_regular(path) as file:
            content = file.read(limit + 1)
        if len(content) > limit:
            raise DamagedError(f"larger than {limit:,} bytes")
        return content.decode("utf-8-sig")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        report_damage(path, _reason(error))
        return None


def read_json(
    path: Path, fields: Mapping[str, Any], *, required: Collection[str] = (), limit: int = MEGABYTE
) -> dict[str, Any] | None:
    """The object in a JSON file, or in a script with one call whose last argument it is; None as in ``read_text``.

    Args:
        path: The file.
        fields: Annotations of the known keys, as ``schema.checked`` takes them; there may be others.
        required: Keys that must exist.
        limit: The maximum size in bytes.
    """
    text = read_text(path, limit=limit)
    if text is None:
        return None
    try:
        if text.startswith("gantrain."):
            text = text[text.index(", ") + 2 : text.rindex(")")]
        return parse_json(text, fields, required=required)
    except ValueError as error:
        report_damage(path, _reason(error))
        return None


def parse_json(text: str | bytes, fields: Mapping[str, Any], *, required: Collection[str] = ()) -> dict[str, Any]:
    """The object in a JSON text; raises ``DamagedError``. For the other arguments see ``read_json``."""
    try:
        value = json.loads(text)
        _check_plain(value)
        if not isinstance(value, dict):
            raise DamagedError("no object")
        if missing := [key for key in required if key not in value]:
            raise DamagedError(f"it has no {missing[0]}")
        known = {key: checked(value[key], annotation, key) for key, annotation in fields.items() if key in value}
    except (ValueError, RecursionError, ConfigError) as error:
        raise DamagedError(_reason(error)) from None
    return {**value, **known}


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file that gantrain wrote, with plain values; empty as in ``read_text``.

    Aliases, which gantrain never writes and which could expand to any size, are refused.
    """
    text = read_text(path)
    if text is None:
        return {}
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        depth = 0
        for event in yaml.parse(text, Loader=loader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH or isinstance(event, yaml.AliasEvent):
                raise DamagedError("nested too deeply" if depth > MAX_DEPTH else "it contains an alias")
        value = yaml.load(text, Loader=loader)
        _check_plain(value)
        if not isinstance(value, dict):
            raise DamagedError("no mapping")
    except (yaml.YAMLError, ValueError, TypeError, OverflowError, RecursionError) as error:
        report_damage(path, _reason(error))
        return {}
    return value


def open_regular(path: Path) -> IO[bytes]:
    """Open a file for reading; an OSError if it is something else, such as a named pipe, which would block."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(None, "not a regular file", str(path))
    return path.open("rb")


def lines_of(file: IO[bytes], *, longest: int = MEGABYTE) -> Iterator[bytes]:
    """The lines of a file, of which longer ones are cut to ``longest`` bytes."""
    while line := file.readline(longest):
        rest = line
        while len(rest) == longest and not rest.endswith(b"\n"):
            rest = file.readline(longest)
        yield line


def is_path(text: str) -> bool:
    """Whether a file system would take this as a path."""
    try:
        name = os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return b"\0" not in name and len(name) <= MAX_PATH and all(len(part) <= MAX_NAME for part in name.split(b"/"))


def is_number(value: Any) -> bool:
    """Whether this is a number that fits into 64 bits."""
    return isinstance(value, float) or (type(value) is int and -MAX_INTEGER < value < MAX_INTEGER)


def _check_plain(value: Any, depth: int = 0) -> None:
    """Raise ``DamagedError`` unless a value consists of what JSON has, in the sizes that gantrain writes."""
    if depth > MAX_DEPTH:
        raise DamagedError("nested too deeply")
    if isinstance(value, str):
        try:
            os.fsencode(value)  # The names of files, which need not be UTF-8.
        except UnicodeEncodeError:
            raise DamagedError("it contains characters that can't be encoded") from None
    elif isinstance(value, dict):
        for key, inside in value.items():
            if not isinstance(key, (str, int)):
                raise DamagedError(f"a key of type {type(key).__name__}")
            _check_plain(key)
            _check_plain(inside, depth + 1)
    elif isinstance(value, list):
        for inside in value:
            _check_plain(inside, depth + 1)
    elif not (value is None or isinstance(value, bool) or is_number(value)):
        raise DamagedError(f"a value of type {type(value).__name__}, or a number of too many digits")


def _reason(error: BaseException) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return "no UTF-8"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(text.split())
