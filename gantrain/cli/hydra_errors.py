"""Errors of Hydra, OmegaConf and YAML as one line with a remedy."""

from __future__ import annotations

import re
from collections.abc import Callable
from traceback import walk_tb
from typing import Any, cast

from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError, YAMLError

from gantrain.config.guesses import FOLDER, group_options, guess, guess_word, needs_data
from gantrain.config.overrides import flatten
from gantrain.errors import nearest


def is_of_hydra(error: Exception) -> bool:
    """Whether Hydra, OmegaConf or YAML raised the error."""
    if isinstance(error, (HydraException, OmegaConfBaseException, YAMLError)):
        return True
    modules = [frame.f_globals.get("__name__", "") for frame, _ in walk_tb(error.__traceback__)]
    return isinstance(error, ValueError) and modules[-1].startswith(("hydra.", "omegaconf."))


def in_one_line(error: Exception, command: str, typed: list[str]) -> str:
    """An error while the configuration of ``command`` was composed with the overrides ``typed``, as one line."""
    text = str(error) or str(error.__cause__ or "")
    if isinstance(error, OverrideParseException):
        key, equals, _ = str(error.override).partition("=")
        if not equals:
            return f"{key}: expected KEY=VALUE; {guess_word(key, command) or f'as in {key}=...'}"
        return f"{error.override}: can't be parsed as KEY=VALUE; quote special characters: \"{key}='...'\""
    if isinstance(error, MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"{mark.name}, line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
    for pattern, explain in _KNOWN.items():
        if found := re.search(pattern, text):
            return explain(found, command, typed)
    if "Missing mandatory value" in text:
        key = getattr(error, "full_key", None) or text.split(": ")[1].split()[0]
        return f"{key} is missing: give {key}=..."
    return _first_line(error, text)


# Values of a group that are not read as names.
NO_NAMES = ("null", "true", "false")
NO_NAME = ("{", "-", *"0123456789")


def _no_such_option(found: re.Match[str], command: str, typed: list[str]) -> str:
    group, option = found[2], found[1].removeprefix(f"{found[2]}/")
    hint = nearest(option, found[3].split())
    if group == "data" and hint.startswith("there are"):
        hint = f"type {FOLDER}, or one of: {hint.removeprefix('there are: ')}"
    return f"{group}={option}: no such {group}; {hint}"


def _unknown_key(found: re.Match[str], command: str, typed: list[str]) -> str:
    key = found[1]
    override = next((word for word in typed if word.lstrip("+~").startswith(key)), key)
    logger = re.match(r"logger\.(\w+)\.", key)
    chosen = logger is None or any(word.startswith("logger=") and logger[1] in word for word in typed)
    if logger is not None and not chosen and logger[1] in group_options("logger"):
        return f"{override}: that logger is not selected; give logger={logger[1]}"
    if key.startswith("hydra.launcher.") and not any("launcher=" in word for word in typed):
        launchers = sorted(f"launcher={name}" for name in group_options("launcher"))
        return f"{override}: no launcher is selected; available: {', '.join(launchers)}"
    if key == "data.root" and needs_data(typed):
        return (
            f"{override}: the data set has no root; add data=single for a folder of images, or aligned, unaligned, ..."
        )
    _, _, value = override.partition("=")
    meant = guess(key, command, value) or _nearest_key(key, _known_keys(command, typed))
    return f"{override}: unknown key or group; {meant}"


def _ambiguous_value(found: re.Match[str], command: str, typed: list[str]) -> str:
    key, _, values = found[1].partition("=")
    return f"{found[1]}: add --multirun for one run per value; write {key}=[{values}] for a list"


def _group_by_list(found: re.Match[str], command: str, typed: list[str]) -> str:
    values = {word: word.partition("=")[2].lower() for word in typed}
    names = [word for word, value in values.items() if value not in NO_NAMES and not value.startswith(NO_NAME)]
    groups = [word for word in typed if (key := word.partition("=")[0].lstrip("+~@")) == "hydra" or group_options(key)]
    wrong = [word for word in groups if word not in names] or groups or [found[0]]
    none = ", or metrics=[] for none" if wrong[-1].startswith("metrics=") else ""
    return f"{wrong[-1]}: a group is selected by one name, as in model=dcgan{none}"


_KNOWN: dict[str, Callable[[re.Match[str], str, list[str]], str]] = {
    r"Could not find '([^']+)'\s+Available options in '([^']+)':((?:\s*\n\t\S+)*)": _no_such_option,
    r"Could not load '([^']+)/([^/']+)'": lambda found, *_: (
        f"{found[1]}=[{found[2]}]: no such {found[1]}; {nearest(found[2], group_options(found[1]))}"
    ),
    r"Could not (?:override|append to config\.[^']*) ?'?([\w./@]+)'?": _unknown_key,
    r"Ambiguous value for argument '([^']+)'": _ambiguous_value,
    r"^Config group override must be.*": _group_by_list,
    r"\$\{model\}_\$\{data\}": lambda *_: "model, data and optimizer are each selected by one name, as in model=dcgan",
}


def _first_line(error: Exception, text: str) -> str:
    """The first line of any other message, with the file or the key that it concerns."""
    lines = [line.strip() for line in text.strip().splitlines()] or [type(error).__name__]
    first = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
    if isinstance(error, RecursionError):
        first = "values are nested too deeply"
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    # Messages do not always name the file that Hydra was reading.
    reading = [
        frame.f_locals for frame in frames if frame.f_globals.get("__name__", "").endswith(".file_config_source")
    ]
    if reading and (file := str(reading[0].get("full_path"))) not in first:
        return f"{file}: {first}"
    key = getattr(error, "full_key", None)
    cause = str(error.__cause__).splitlines()[0] if str(error.__cause__ or "") else ""
    return (f"{key}: " if key else "") + first + (f" ({cause})" if cause and cause not in first else "")


def _nearest_key(key: str, known: set[str]) -> str:
    """A hint for a mistyped key: the closest in its group, else the closest of all, else the list of keys.

    A key without its group is completed, if one group has it.
    """
    prefix, dot, last = key.rpartition(".")
    complete = [name for name in known if name.count(".") == 1 and name.lower().endswith(f".{key.lower()}")]
    if len(complete) == 1:
        return f"did you mean '{complete[0]}'?"
    beside = {name.removeprefix(prefix + dot).split(".")[0] for name in known if name.startswith(prefix + dot)}
    hint = nearest(last, beside)
    if hint.startswith("did you mean"):
        return f"did you mean '{prefix}{dot}{hint.split(chr(39))[1]}'?"
    return hint if beside else nearest(key, {name.split(".")[0] for name in known} - {"hydra"})


def _known_keys(command: str, typed: list[str]) -> set[str]:
    """Every key and group of the configuration that the groups among ``typed`` compose, for suggestions."""
    group = r"(model|data|optimizer|schedule|logger|metrics|launcher|sweeper|network/\w+)=[\w\[\],]+"
    groups = [word for word in typed if re.fullmatch(group, word)]
    GlobalHydra.instance().clear()
    with initialize_config_module("gantrain.configs", version_base="1.3"):
        try:
            config = compose(command, overrides=groups, return_hydra_config=True)
        except (HydraException, OmegaConfBaseException):
            config = compose(command, return_hydra_config=True)
    plain = cast(dict[str, Any], OmegaConf.to_container(config, resolve=False))
    own = plain.pop("hydra")
    plugins = {f"hydra.{what}.{name}" for what in ("launcher", "sweeper") for name in own[what]}
    groups = [str(group) for group in config.hydra.runtime.choices if not str(group).startswith("hydra")]
    return {*flatten(plain), *groups, *(name for name in plugins if not name.endswith("_target_"))}
