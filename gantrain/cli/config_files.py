"""Configuration files of users, which are read without running code that they name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import resources
from io import StringIO
from pathlib import Path
from typing import IO, Any

import hydra
import yaml
from omegaconf import OmegaConf

from gantrain.errors import ConfigError

MAX_CHARACTERS = 1_000_000
MAX_VALUES = 10_000
MAX_DEPTH = 50
TRUSTED = [Path(hydra.__file__).parent, Path(str(resources.files("gantrain.configs")))]


@contextmanager
def only_safe_files() -> Iterator[None]:
    """Inside, refuse every configuration file of a user that names code, or would exhaust memory or time."""
    load, method = OmegaConf.load, "load"

    def load_safely(file: IO[Any] | str | Path) -> Any:
        if isinstance(file, (str, Path)):
            with open(file, encoding="utf-8") as opened:
                return load_safely(opened)
        name = str(getattr(file, "name", "a configuration file"))
        if any(Path(name).is_relative_to(folder) for folder in TRUSTED):
            return load(file)
        text = file.read()
        _check(text, name)
        again = StringIO(text)
        again.name = name  # YAML's error messages contain it.
        return load(again)

    setattr(OmegaConf, method, staticmethod(load_safely))
    try:
        yield
    finally:
        setattr(OmegaConf, method, staticmethod(load))


def refuse_shadowed(folders: Sequence[Path]) -> None:
    """Refuse folders with a file that has the name of one of gantrain's: Hydra would read gantrain's instead."""
    for own in sorted(TRUSTED[-1].rglob("*.yaml")):
        name = own.relative_to(TRUSTED[-1])
        for path in (folder / name for folder in folders):
            if path.is_file() and path.read_bytes() != own.read_bytes():
                raise ConfigError(
                    f"{path}: gantrain has its own {name}, which would be read instead; give yours another name, "
                    f"as in {name.with_name(f'my_{name.name}')}"
                )


def _check(text: str, name: str) -> None:
    """Refuse a file that is too large once its aliases are expanded, too deep, or that names code."""
    if len(text) > MAX_CHARACTERS:
        raise ConfigError(f"{name}: more than {MAX_CHARACTERS:,} characters")
    sizes: dict[str, int] = {}  # The number of values under each anchor.
    inside: list[tuple[str | None, int]] = []  # The anchor of each open node, and the number of values before it.
    count = 0
    with suppress(yaml.YAMLError):  # The loader reports it.
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            place = f"{name}, line {event.start_mark.line + 1}"
            if isinstance(event, yaml.AliasEvent):
                if event.anchor in (anchor for anchor, _ in inside):
                    raise ConfigError(f"{place}: *{event.anchor} contains itself")
                count += sizes.get(event.anchor, 1)
            elif isinstance(event, yaml.CollectionStartEvent):
                inside.append((event.anchor, count))
                count += 1
            elif isinstance(event, yaml.CollectionEndEvent):
                anchor, before = inside.pop()
                sizes |= {anchor: count - before} if anchor else {}
            elif isinstance(event, yaml.ScalarEvent):
                sizes |= {event.anchor: 1} if event.anchor else {}
                count += 1
                if event.value == "_target_":  # Hydra would call what it names.
                    raise ConfigError(f"{place}: _target_ names code, and gantrain runs no code that a file names")
            if count > MAX_VALUES:
                raise ConfigError(f"{name}: more than {MAX_VALUES:,} values, counting those that aliases repeat")
            if len(inside) > MAX_DEPTH:
                raise ConfigError(f"{place}: nested more than {MAX_DEPTH} levels deep")
