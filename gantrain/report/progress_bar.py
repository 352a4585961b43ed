"""The progress bar of a run, which fits into narrow terminals."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

from tqdm import tqdm
from tqdm.utils import disp_len

from gantrain.errors import printable
from gantrain.runtime.console import bar_class

LONGEST_TITLE = 24  # Characters.
NARROWEST_BAR = 10  # Characters, of the bar itself.
# From wide to narrow; all but the first lack the fields, which are left out one by one before.
LAYOUTS = (
    "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}{postfix}]",
    "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}]",
    "{desc}: {percentage:3.0f}% {n_fmt}/{total_fmt} [{remaining}]",
    "{percentage:3.0f}% {n_fmt}/{total_fmt} [{remaining}]",
    "{percentage:3.0f}% [{remaining}]",
    "{percentage:3.0f}%",
)


class ProgressBar(bar_class()):  # type: ignore[misc]
    """A bar with a short title that leaves out what a narrow terminal has no room for, the last field first.

    Args:
        title: The name of the run; it is shortened.
        total: Length of the run, in ``unit``.
        initial: Progress so far.
        unit: What is counted.
    """

    def __init__(self, title: str, *, total: int, initial: int, unit: str) -> None:
        super().__init__(
            desc=short(printable(title)),
            total=total,
            initial=initial,
            unit=unit,
            dynamic_ncols=True,
            mininterval=0.1 if sys.stderr.isatty() else 30,  # Seconds; fewer lines in a log file.
        )

    @staticmethod
    def format_meter(*arguments: Any, ncols: int | None = None, **options: Any) -> str:
        """One line of at most ``ncols`` columns; of any length if it is None."""
        if "<bar/>" in (options.get("bar_format") or ""):  # A notebook has its own bar.
            return str(tqdm.format_meter(*arguments, ncols=ncols, **options))
        fields = options.pop("postfix", None) or ""
        options["prefix"] = str(options.get("prefix") or "").removesuffix(": ")
        for layout, shown in _choices(fields.split(", ")):
            options |= {"bar_format": layout.replace("{bar}", ""), "postfix": shown}
            rest = tqdm.format_meter(*arguments, **options)
            room = NARROWEST_BAR if "{bar}" in layout else 0
            if ncols is None or disp_len(rest) + room <= ncols:
                break
        options["bar_format"] = layout
        return str(tqdm.format_meter(*arguments, ncols=ncols, **options))


def _choices(fields: Sequence[str]) -> Iterator[tuple[str, str]]:
    for count in range(len(fields), 0, -1):
        yield LAYOUTS[0], ", ".join(fields[:count])
    for layout in (LAYOUTS[0], *LAYOUTS[1:]):
        yield layout, ""


def short(title: str) -> str:
    """A title of at most ``LONGEST_TITLE`` characters."""
    return title if len(title) <= LONGEST_TITLE else f"{title[: LONGEST_TITLE - 1]}…"
