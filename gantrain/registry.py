"""Registries of classes by name, and plug-ins, which register classes from outside.

A class's constructor is its schema: a YAML key is a keyword argument of the same name, checked against the annotation.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from gantrain.config.renamed import renamed
from gantrain.config.schema import construct, takes
from gantrain.errors import ConfigError, nearest

T = TypeVar("T")


class Registry(Generic[T]):
    """Classes by name.

    A class must take every runtime argument that it is built with, so that none is ignored silently. Exceptions are
    declared here.

    Args:
        kind: What the classes are, in words ("model"), for messages.
        key: Path of their configuration ("model", "network.generator"), for messages.
        choose_by: The key whose value is the name: ``name``, or ``mode`` for data sets.
        optional: Runtime arguments that a class may take.
        neutral: Runtime arguments that a class need not take while they have these values, which are their defaults.
    """

    def __init__(
        self,
        kind: str,
        key: str,
        *,
        choose_by: str = "name",
        optional: Iterable[str] = (),
        neutral: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self.kind = kind
        self.key = key
        self.choose_by = choose_by
        self.optional = frozenset(optional)
        self.neutral = neutral
        self._classes: dict[str, type[T]] = {}

    def register(self, name: str) -> Callable[[type[T]], type[T]]:
        """Register the decorated class under ``name``, which must be free."""

        def add(cls: type[T]) -> type[T]:
            if name in self._classes:
                raise ConfigError(f"the {self.kind} '{name}' is registered twice ({self._classes[name].__module__})")
            self._classes[name] = cls
            return cls

        return add

    def __getitem__(self, name: str) -> type[T]:
        return self._named(name, self.key)

    def _named(self, name: Any, key: str) -> type[T]:
        try:
            return self._classes[name]
        except (KeyError, TypeError):  # A list or a dict can't be looked up.
            choice = f"{key}.{self.choose_by}"
            raise ConfigError(f"{choice}={name}: no such {self.kind}; {nearest(str(name), self._classes)}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._classes))

    def build(
        self,
        config: Mapping[str, Any],
        *,
        key: str | None = None,
        also: Iterable[str] = (),
        needed_by: str = "gantrain",
        **runtime: Any,
    ) -> T:
        """Build an object from ``{name: ..., **arguments}``.

        Args:
            config: The name and the keys of the class.
            key: Path of ``config``, if it differs from that of the registry.
            also: Keys at the same place that are read elsewhere, to be suggested for a mistyped one.
            needed_by: What needs the runtime arguments (``model=cgan``), for messages.
            runtime: Arguments that no YAML file can contain.
        """
        arguments, key = dict(config), key or self.key
        if self.choose_by not in arguments:
            raise ConfigError(f"{key}.{self.choose_by} is missing; {nearest('', self._classes)}")
        name = arguments.pop(self.choose_by)
        cls = self._named(name, key)
        choice = f"{key.replace('.', '/')}={name}" if self.choose_by == "name" else f"{key}.{self.choose_by}={name}"
        if abstract := sorted(getattr(cls, "__abstractmethods__", ())):
            raise ConfigError(f"{choice}: {cls.__name__} has to define {', '.join(abstract)}")
        runtime |= {argument: value for argument, value in self.neutral.items() if argument not in runtime}
        neutral = [argument for argument, value in self.neutral.items() if runtime[argument] == value]
        required = [argument for argument in runtime if argument not in (*self.optional, *neutral)]
        if lacking := [argument for argument in required if not takes(cls, argument)]:
            able = [other for other in self if all(takes(self[other], argument) for argument in required)]
            words = [argument + PURPOSES.get(argument, "") for argument in lacking]
            article = "an" if self.kind[0] in "aeiou" else "a"
            raise ConfigError(
                f"{choice}: {needed_by} needs {article} {self.kind} that takes {' and '.join(words)}; "
                f"these do: {', '.join(able) or 'none'}"
            )
        taken = {argument: value for argument, value in runtime.items() if takes(cls, argument)}
        return construct(cls, arguments, key=key, also=(self.choose_by, *also), **taken)


PURPOSES = {  # Of the runtime arguments of networks, for messages.
    "latent_dim": " (to generate images from noise)",
    "input_shape": " (to translate images)",
    "num_classes": " (to be conditioned on labels)",
    "num_outputs": " (to have several outputs per image)",
}

MODELS: Registry[Any] = Registry("model", "model")
GENERATORS: Registry[Any] = Registry("generator", "network.generator", neutral={"num_classes": 0})
DISCRIMINATORS: Registry[Any] = Registry(
    "discriminator", "network.discriminator", neutral={"num_classes": 0, "num_outputs": 1}
)
DATASETS: Registry[Any] = Registry("data mode", "data", choose_by="mode")
OPTIMIZERS: Registry[Any] = Registry("optimizer", "optimizer", optional={"fused"})
SCHEDULES: Registry[Any] = Registry("schedule", "schedule")
LOGGERS: Registry[Any] = Registry("logger", "logger", optional={"run", "folder"})
METRICS: Registry[Any] = Registry("metric", "metrics", optional={"segmenter"})
FEATURES: Registry[Any] = Registry("feature network", "metrics.features", optional={"weights", "resize"})


def higher_metrics() -> list[str]:
    """The names of the metrics of which higher values are better."""
    directions = {name: higher for each in METRICS for name, higher in METRICS[each].higher_is_better.items()}
    return ["accuracy", "held_out_accuracy", *(name for name, higher in directions.items() if higher)]


def higher_is_better(metric: str) -> bool | None:
    """Whether higher values are better; None for a name that no metric has.

    The name may end in a direction or a class: ``fid_a_to_b``, ``accuracy_class_3``.
    """
    name = base_name(metric)
    if name in higher_metrics():
        return True
    return False if any(name in METRICS[each].higher_is_better for each in METRICS) else None


def base_name(metric: str) -> str:
    """The name of a metric without its direction or class: ``fid`` of ``fid_a_to_b``."""
    return re.sub(r"(_(a_to_b|b_to_a))?(_class_.*)?$", "", metric)


REGISTRIES = (MODELS, GENERATORS, DISCRIMINATORS, DATASETS, OPTIMIZERS, SCHEDULES, LOGGERS, METRICS, FEATURES)


# ---- plug-ins: modules of users, which are imported only by name


def import_plugins(plugins: Sequence[str]) -> None:
    """Import the modules that register classes of users: those named, and installed packages' entry points."""
    for entry in importlib.metadata.entry_points(group="gantrain.plugins"):
        with _naming(entry.value):
            entry.load()
    here = str(Path.cwd())
    if plugins and here not in sys.path:
        sys.path.insert(0, here)  # As for `python script.py`: a file in the working directory can be imported.
    for name in plugins:
        with _naming(name):
            importlib.import_module(name)


def import_saved(saved: object, run: Path, *, given: Sequence[str], trusted: bool) -> None:
    """Import the plug-ins that a run was trained with, whose names are in its checkpoint, an untrusted file.

    Args:
        saved: The checkpoint's entry ``plugins``.
        run: The run folder, for messages.
        given: The plug-ins that the user has named, which are imported already.
        trusted: Whether to import any module that the checkpoint names.
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
    """Turn any error of importing a module into a line with its cause and location."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"plugins: {name}: {error}") from None
    except (Exception, SystemExit) as error:  # A plug-in may raise anything, and end the process.
        reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        frames = traceback.extract_tb(error.__traceback__)
        inside = [frame for frame in frames if frame.filename != __file__ and "importlib" not in frame.filename]
        where = f"{inside[-1].filename}, line {inside[-1].lineno}" if inside else f"looked for in {Path.cwd()} too"
        raise ConfigError(f"plugins: can't import '{name}' ({reason}; {where})") from None


_OLD_TYPES = "Count Portion Positive Processes Repeats RepeatsOrNone Share Weight"
_NEW_TYPES = "NonNegativeInt Fraction PositiveInt ProcessCount RepeatCount RepeatCountOrZero UnitFloat NonNegativeFloat"
_MOVED = "BatchSize MOST Range Side checked"
__getattr__ = renamed(
    __name__,
    f"{_OLD_TYPES} {_MOVED}",
    " ".join(f"gantrain.config.schema.{name}" for name in f"{_NEW_TYPES} {_MOVED}".split()),
)
