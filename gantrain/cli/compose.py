"""What the command wants of Hydra beside a job: its complaints in one line, and the data that go with a model."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from importlib import resources
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import IO, Any

import hydra
import yaml
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError, YAMLError

from gantrain.config.overrides import flatten
from gantrain.errors import ConfigError, nearest

# of a configuration file
MOST_CHARACTERS = 1_000_000
MOST_VALUES = 10_000
DEEPEST = 50


def is_hydras(error: Exception) -> bool:
    """Whether it is a ValueError by Hydra or OmegaConf."""
    trace, module = error.__traceback__, ""
    while trace is not None:
        module = trace.tb_frame.f_globals.get("__name__", "")
        trace = trace.tb_next
    return isinstance(error, ValueError) and module.startswith(("hydra.", "omegaconf."))


def in_one_line(error: Exception, command: str, typed: list[str]) -> str:
    """What Hydra or OmegaConf complain of, as one line that says what would work."""
    text = str(error) or str(error.__cause__ or "")
    if isinstance(error, OverrideParseException):
        key, equals, _ = str(error.override).partition("=")
        if not equals:
            return f"{key}: KEY=VALUE is wanted, {key}=..."
        return f"{error.override}: can't be read as KEY=VALUE; quote a value that is no plain word: \"{key}='...'\""
    if found := re.search(r"Could not find '([^']+)'\s+Available options in '([^']+)':((?:\s*\n\t\S+)*)", text):
        group, option = found[2], found[1].removeprefix(f"{found[2]}/")
        return f"{group}={option}: no such {group}; {nearest(option, found[3].split())}"
    if found := re.search(r"Could not load '([^']+)/([^/']+)'", text):  # one of a list
        group, option = found[1], found[2]
        return f"{group}=[{option}]: no such {group}; {nearest(option, _options(group))}"
    if found := re.search(r"Could not (?:override|append to config\.[^']*) ?'?([\w./@]+)'?", text):
        key = found[1]
        whole = next((word for word in typed if word.lstrip("+~").startswith(key)), key)
        logger = re.match(r"logger\.(\w+)\.", key)
        chosen = logger is None or any(word.startswith("logger=") and logger[1] in word for word in typed)
        if logger is not None and not chosen and logger[1] in _options("logger"):
            return f"{whole}: that logger is not chosen; give logger={logger[1]}"
        if key.startswith("hydra.launcher.") and not any("launcher=" in word for word in typed):
            launchers = sorted(f"launcher={name}" for name in _options("launcher"))
            return f"{whole}: no launcher is chosen; there are: {', '.join(launchers)}"
        return f"{whole}: unknown key or group; {_nearest_key(key, _known_keys(command, typed))}"
    if isinstance(error, MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"{mark.name}, line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
    if found := re.search(r"Ambiguous value for argument '([^']+)'", text):
        key, _, values = found[1].partition("=")
        return f"{found[1]}: for one run after another add --multirun; for a list write {key}=[{values}]"
    if "Missing mandatory value" in text:
        key = getattr(error, "full_key", None) or text.split(": ")[1].split()[0]
        return f"{key} is missing: give {key}=..."
    lines = [line.strip() for line in text.strip().splitlines()] or [type(error).__name__]
    first = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
    if isinstance(error, RecursionError):
        first = "values are nested too deeply"
    if (file := _file_being_read(error)) and file not in first:
        return f"{file}: {first}"
    if first.startswith("Config group override must be"):
        groups = [word for word in typed if word.partition("=")[0].lstrip("+~@") in _known_groups(command)]
        return f"{groups[-1] if groups else first}: a group is chosen by a name, as in model=dcgan"
    if "${model}_${data}" in first:
        return "model, data and optimizer are each chosen by one name, as in model=dcgan"
    place = getattr(error, "full_key", None)
    cause = str(error.__cause__).splitlines()[0] if str(error.__cause__ or "") else ""
    return (f"{place}: " if place else "") + first + (f" ({cause})" if cause and cause not in first else "")


def refuse_open_braces(typed: list[str]) -> None:
    """Refuse several shards as several roots, which a shell makes of one pattern; Hydra would take the last alone.

    Raises:
        ConfigError: There are several.
    """
    shards = [word for word in typed if word.startswith("data.root=") and word.endswith(".tar")]
    if len(shards) > 1:
        raise ConfigError(
            f"data.root is given {len(shards)} times, from {shards[0]} to {shards[-1]}: where the shell took a pattern "
            "apart, quote it twice: \"data.root='shards/{000..012}.tar'\""
        )


def demo_data(typed: list[str], config_flags: list[str]) -> list[str]:
    """The choice of data that goes with the model among ``typed``, where none was made; nothing if that can't be told.

    A model's file can't make it: Hydra lets a file override only groups before its own, and data comes after the model.

    Args:
        typed: The overrides.
        config_flags: ``--config-dir`` and its like, with their values.
    """
    model = [word for word in typed if word.startswith("model=")]
    if not model or any(word.startswith(("data=", "experiment=")) for word in typed):
        return []
    folders = [
        f"file://{Path(flag.rpartition('=')[2]).absolute()}" for flag in config_flags if flag[:1] != "-" or "=" in flag
    ]
    GlobalHydra.instance().clear()
    # something that Hydra is going to complain of, by itself
    complaints = suppress(Exception)
    with initialize_config_module("gantrain.configs", version_base="1.3"), only_harmless_files(), complaints:
        searched = f"hydra.searchpath=[{','.join(folders)}]"
        names = model[-1].removeprefix("model=").split(",")  # several, in a sweep
        configs = [compose("train", [f"model={name}", searched], return_hydra_config=True) for name in names]
        wanted = {config.demo for config in configs}
        if len(wanted) == 1 and wanted != {configs[0].hydra.runtime.choices.data}:
            return [f"data={wanted.pop()}"]
    return []


def defaults_of(choices: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    """What the model and the data among the ``choices`` of a run compose to alone, and a name; None if not known."""
    known = GlobalHydra.instance().is_initialized()  # unless another process has launched this one
    with (
        suppress(HydraException, OmegaConfBaseException),  # then a folder of the user's may be unknown
        nullcontext() if known else initialize_config_module("gantrain.configs", version_base="1.3"),
    ):
        config = compose("train", [f"{group}={choices[group]}" for group in ("model", "data")])
        plain = OmegaConf.to_container(config, resolve=True)
        assert isinstance(plain, dict)
        return {**{str(key): value for key, value in plain.items()}, "name": name}
    return None


def swept(typed: Sequence[str]) -> tuple[list[str], list[str]]:
    """The overrides that all runs of a sweep share, and the keys in which they differ; Hydra's own are left out."""
    try:
        overrides = OverridesParser.create().parse_overrides(list(typed))
    except HydraException:  # Hydra is going to say so, better
        return [], []
    own = [override for override in overrides if not override.key_or_group.startswith("hydra")]
    fixed = [str(override.input_line) for override in own if not override.is_sweep_override()]
    return fixed, [override.key_or_group for override in own if override.is_sweep_override()]


def check_plugins(typed: Sequence[str]) -> None:
    """Refuse a launcher or sweeper whose package is missing, with the command that installs it.

    Raises:
        ConfigError: See above.
    """
    for word in typed:
        if (found := re.fullmatch(r"(?:hydra/)?(launcher|sweeper)=(\w+)", word)) and found[2] in _options(found[1]):
            extra = found[2].partition("_")[0]
            if not _is_installed(f"hydra_plugins.hydra_{extra}_{found[1]}"):
                raise ConfigError(f"{word} needs the package hydra-{extra}-{found[1]}: pip install 'gantrain[{extra}]'")


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # nor is what it would lie in
        return False


def add_resolvers() -> None:
    """What launchers' and sweepers' files refer to: ``${gpus:N}``, N if there are none, and ``${direction:MODE}``."""

    def count(otherwise: int) -> int:
        from gantrain.runtime.gpus import visible_gpus

        return len(visible_gpus()) or otherwise

    OmegaConf.register_new_resolver("gpus", count, replace=True)
    OmegaConf.register_new_resolver("direction", {"min": "minimize", "max": "maximize"}.__getitem__, replace=True)


def _nearest_key(key: str, known: set[str]) -> str:
    """A hint for a mistyped key: the closest beside it, else the closest of the same last word, else what is there."""
    prefix, dot, last = key.rpartition(".")
    beside = {name.removeprefix(prefix + dot).split(".")[0] for name in known if name.startswith(prefix + dot)}
    hint = nearest(last, beside)
    if hint.startswith("did you mean"):
        return f"did you mean '{prefix}{dot}{hint.split(chr(39))[1]}'?"
    return hint if beside else nearest(key, {name.split(".")[0] for name in known} - {"hydra"})


def _options(group: str) -> list[str]:
    """The files of a group that come with gantrain."""
    folder = resources.files("gantrain.configs").joinpath(group)
    return [file.name.removesuffix(".yaml") for file in folder.iterdir()] if folder.is_dir() else []


def _known_keys(command: str, typed: list[str]) -> set[str]:
    """Every key and group of the configuration that the groups among ``typed`` compose, for suggestions."""
    group = r"(model|data|optimizer|schedule|logger|launcher|sweeper|network/\w+)=[\w\[\],]+"
    groups = [word for word in typed if re.fullmatch(group, word)]
    GlobalHydra.instance().clear()
    with initialize_config_module("gantrain.configs", version_base="1.3"):
        try:
            config = compose(command, overrides=groups, return_hydra_config=True)
        except (HydraException, OmegaConfBaseException):
            config = compose(command, return_hydra_config=True)
    plain = OmegaConf.to_container(config, resolve=False)
    assert isinstance(plain, dict)
    plugins = {f"hydra.{what}.{name}" for what in ("launcher", "sweeper") for name in plain["hydra"][what]}
    keys = flatten({str(key): value for key, value in plain.items() if key != "hydra"})
    groups = [str(group) for group in config.hydra.runtime.choices if not str(group).startswith("hydra")]
    return {*keys, *groups, *(name for name in plugins if not name.endswith("_target_"))}


def _known_groups(command: str) -> set[str]:
    return {key for key in _known_keys(command, []) if "/" not in key and "." not in key} | {"network", "hydra"}


def _file_being_read(error: Exception) -> str | None:
    """The configuration file that Hydra was at when ``error`` came up, if any; its own messages don't always say."""
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_globals.get("__name__", "").endswith(".file_config_source"):
            return str(trace.tb_frame.f_locals.get("full_path"))
        trace = trace.tb_next
    return None


@contextmanager
def only_harmless_files() -> Iterator[None]:
    """Inside, a configuration file of somebody's is refused if it names code, or would take all memory or time."""
    load, method = OmegaConf.load, "load"

    def careful(file: IO[Any] | str | Path) -> Any:
        if isinstance(file, (str, Path)):
            with open(file, encoding="utf-8") as opened:
                return careful(opened)
        name = str(getattr(file, "name", "a configuration file"))
        if any(Path(name).is_relative_to(folder) for folder in _PACKAGED):
            return load(file)
        text = file.read()
        _check(text, name)
        again = StringIO(text)
        again.name = name  # which YAML's messages have
        return load(again)

    setattr(OmegaConf, method, staticmethod(careful))
    try:
        yield
    finally:
        setattr(OmegaConf, method, staticmethod(load))


def _check(text: str, name: str) -> None:
    if len(text) > MOST_CHARACTERS:
        raise ConfigError(f"{name}: more than {MOST_CHARACTERS:,} characters are no configuration")
    sizes: dict[str, int] = {}  # values that each anchor stands for
    inside: list[tuple[str | None, int]] = []  # of each node that is being read, the anchor, and the values before it
    count = 0
    with suppress(YAMLError):  # to be complained of by whoever loads it
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
                if event.value == "_target_":  # Hydra calls what stands there, of its own keys
                    raise ConfigError(f"{place}: _target_ names code, and gantrain runs none that a file names")
            if count > MOST_VALUES:
                raise ConfigError(f"{name}: more than {MOST_VALUES:,} values, counted wherever an alias repeats them")
            if len(inside) > DEEPEST:
                raise ConfigError(f"{place}: nested more than {DEEPEST} deep")


_PACKAGED = [Path(hydra.__file__).parent, Path(str(resources.files("gantrain.configs")))]
