"""Commands of pytorch-CycleGAN-and-pix2pix: their options, read from what was typed or from a stored file."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gantrain.errors import ConfigError, nearest
from gantrain.migration.options import OLD_NAMES, OPTIONS, SWITCHES, WHOLE

PROCESSES = "nproc_per_node"  # Of torchrun, before the script.


@dataclass
class Migration:
    """A command of gantrain, and what its user should know."""

    words: list[str] = field(default_factory=list)  # The command without ``gantrain``.
    devices: str = ""  # GPUs to select by CUDA_VISIBLE_DEVICES; empty for no selection.
    unsupported: list[str] = field(default_factory=list)  # Options without a counterpart, and why.
    differences: list[str] = field(default_factory=list)  # Differences in meaning.

    def lines(self) -> Iterator[str]:
        """The command, which can be copied into a shell, and comments."""
        selected = f"CUDA_VISIBLE_DEVICES={self.devices} " if self.devices else ""
        yield f"{selected}{shlex.join(['gantrain', *self.words])}"
        for title, notes in (("Without a counterpart", self.unsupported), ("Other meaning", self.differences)):
            if notes:
                yield f"# {title}:"
                yield from (f"#   {note}" for note in notes)


def parse(words: Sequence[str]) -> tuple[bool, dict[str, str]]:
    """Whether a command trains, and its options by their latest names; switches have an empty value.

    Raises:
        ConfigError: It is no command of train.py or test.py, or has an unknown option or word.
    """
    place = next((number for number, word in enumerate(words) if Path(word).name in ("train.py", "test.py")), None)
    if place is None:
        raise ConfigError(f"{shlex.join(words)}: expected a command with train.py or test.py, or a train_opt.txt")
    launched = re.search(r"--nproc[-_]per[-_]node[= ](\d+)", " ".join(words[:place]))
    options = {PROCESSES: launched[1]} if launched else {}
    rest = iter(words[place + 1 :])
    for word in rest:
        if not word.startswith("--"):
            raise ConfigError(f"{word}: expected an option, as in --dataroot FOLDER")
        typed, equals, value = word[2:].partition("=")
        name = _known(typed)
        if name not in SWITCHES and not equals:
            value = next(rest, "")
            if not value or value.startswith("--"):
                raise ConfigError(f"--{typed}: its value is missing")
        if name in WHOLE and not re.fullmatch(r"-?\d+", value):
            raise ConfigError(f"--{typed} {value}: expected a number")
        options |= _latest(name, value)
    return Path(words[place]).name == "train.py", options


def read_options(file: Path) -> tuple[bool, dict[str, str]]:
    """Whether a stored train_opt.txt, test_opt.txt or opt.txt is of training, and its options that are no defaults.

    Raises:
        ConfigError: It can't be read, or is no such file.
    """
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}") from None
    found = re.findall(r"^\s*(\w+): (.*?)[ ]*(\t\[default: .*\])?[ ]*$", text, flags=re.MULTILINE)
    if not found:
        raise ConfigError(f"{file}: expected the lines of a train_opt.txt, as in 'batch_size: 1'")
    values = {name: value for name, value, _ in found}
    # Before 2018 the defaults were not marked.
    marked = any(default for *_, default in found)
    options: dict[str, str] = {}
    for name, value, default in found:
        stored = OLD_NAMES.get(name, name).partition("=")[0]
        if (default or not marked or stored in ("dataroot", "model", "name")) and name in OPTIONS:
            options |= _latest(name, value) if name not in SWITCHES or value == "True" else {}
    return values.get("isTrain", "True") == "True", options


def _known(typed: str) -> str:
    """The option that was typed, perhaps shortened, as argparse allows."""
    name = typed.replace("-", "_")
    matches = [name] if name in OPTIONS else sorted(option for option in OPTIONS if name and option.startswith(name))
    if len(matches) != 1:
        known = [f"--{option}" for option in matches or OPTIONS]
        meant = f"it may be {', '.join(known)}" if matches else nearest(f"--{name}", known)
        raise ConfigError(f"--{typed}: no option of pytorch-CycleGAN-and-pix2pix; {meant}")
    return matches[0]


def _latest(name: str, value: str) -> dict[str, str]:
    name, _, fixed = OLD_NAMES.get(name, name).partition("=")
    return {name: fixed or value}
