"""The values that an experiment is expected to reach, as its paper or other code reports them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import Annotated, Any

from gantrain.config.schema import Range, construct
from gantrain.errors import ConfigError

Finite = Annotated[float, Range()]
PAPER = "arXiv:"  # How the source of a paper's value begins.


@dataclass(frozen=True, kw_only=True)
class Expected:
    """One entry of the list ``expected``."""

    metric: str  # As a run logs it: ``fid``, or ``fid_a_to_b`` for one direction.
    value: Finite
    protocol: str  # How it was measured: the numbers of images, the feature network, the resizing, the step.
    source: str  # ``arXiv:`` and a number, or a repository: ``open-mmlab/mmagic``, ``owner/name, issue 150``.

    def __post_init__(self) -> None:
        for field in fields(self):
            if not str(getattr(self, field.name)).strip():
                raise ConfigError(f"expected: {field.name} is empty; give {EXAMPLE}")

    def __str__(self) -> str:
        return f"{self.metric} {self.value:g} ({self.source}: {self.protocol})"


EXAMPLE = "{metric: fid, value: 77.2, protocol: 120 generated vs 140 test, source: 'arXiv:2007.15651'}"


def expected_values(listed: Iterable[Any]) -> list[Expected]:
    """The checked entries of a list ``expected``.

    Raises:
        ConfigError: An entry lacks a key, or has a wrong one or a wrong value.
    """
    found = []
    for number, entry in enumerate(listed):
        if not isinstance(entry, Mapping):
            raise ConfigError(f"expected[{number}]={entry}: give {EXAMPLE}")
        found.append(construct(Expected, entry, key=f"expected[{number}]"))
    return found


def expected_in(content: Mapping[str, Any]) -> list[Expected]:
    """The expected values in the content of a YAML file; none if they are malformed, which composing it reports."""
    with suppress(ConfigError, TypeError):
        return expected_values(content.get("expected") or ())
    return []


def address_of(source: str) -> str:
    """The URL of a source."""
    place, _, rest = source.partition(",")
    if place.startswith(PAPER):
        return f"https://arxiv.org/abs/{place.removeprefix(PAPER)}"
    issue = rest.strip().removeprefix("issue ")
    return f"https://github.com/{place}" + (f"/issues/{issue}" if issue.isdecimal() else "")
