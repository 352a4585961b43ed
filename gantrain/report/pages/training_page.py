"""The page of a run: written once, and then only what it shows grows, line by line."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dominate.tags import (
    a,
    code,
    div,
    h2,
    h3,
    html_tag,
    mark,
    nav,
    p,
    pre,
    progress,
    section,
    span,
    table,
    tbody,
    td,
    th,
    thead,
    tr,
)
from omegaconf import OmegaConf

from gantrain.config.overrides import flatten
from gantrain.report.pages.home_page import write_home
from gantrain.report.pages.page import PAGE, document_with, facts_list, read_status, write_data, write_document
from gantrain.report.pages.page_log import PageLog
from gantrain.report.pages.results_page import list_results

HEARTBEAT = 5.0  # seconds between signs of life, log lines or not


class TrainingPage:
    """``index.html`` of a run folder, what it shows, and the page of all runs.

    Args:
        folder: The run folder.
        home: The folder of all runs, whose page is kept too; None for none.
        command: What made the run, as typed.
        config: The composed configuration.
        defaults: What its model and data would be configured as alone; None if that is not known.
        facts: Of the run and where it runs, by name.
        networks: Parameters by network.
    """

    def __init__(
        self,
        folder: Path,
        *,
        home: Path | None,
        command: str,
        config: Mapping[str, Any],
        defaults: Mapping[str, Any] | None,
        facts: Mapping[str, str],
        networks: Mapping[str, int],
    ) -> None:
        self._folder, self._home = folder, home
        self._command, self._config, self._defaults = command, config, defaults
        self._facts, self._networks = facts, networks
        self._log = PageLog(folder)
        self._status: dict[str, Any] = {"silence": 0.0}
        self._written = time.monotonic()

    def open(self, lines: Iterable[tuple[str, Any]], **status: Any) -> None:
        """Begin, or begin again after a step; what was shown of later ones goes.

        Args:
            lines: All so far: tables' names and lines.
            status: As for ``tell``.

        Raises:
            OSError: It can't be written.
        """
        now = round(time.time(), 6)  # runs of one moment have an order too
        started = read_status(self._folder).get("started", now)
        names = {key: (self._config.get(key) or {}).get(of) for key, of in {"model": "name", "data": "mode"}.items()}
        self._status = {"name": self._folder.name, **names, "started": started, "opened": now, "silence": 0.0}
        self._log.restart(lines)
        list_results(self._folder)
        self._written = time.monotonic()
        self.write("running", **status)

    def line(self, kind: str, values: Mapping[str, Any]) -> None:
        """Show one more line.

        Raises:
            OSError: It can't be written now.
        """
        self._log.add(kind, values)

    def tell(self, **status: Any) -> None:
        """Say how the run stands: ``step``, ``done`` of ``total`` in a ``unit``, and others that the script knows.

        Raises:
            OSError: It can't be written.
        """
        now = time.monotonic()
        self._status["silence"] = round(max(self._status["silence"], now - self._written), 1)
        self._written = now
        self._log.catch_up()
        if "values" in status:
            status["values"] = {**self._status.get("values", {}), **status["values"]}
        self._status |= {**status, "time": round(time.time(), 1), "files": self._log.files, "lines": self._log.count}
        write_data(self._folder, "status", self._status)

    def beat(self, **status: Any) -> None:
        """As ``tell``, if nothing has been told for some time.

        Raises:
            OSError: It can't be written.
        """
        if time.monotonic() - self._written >= HEARTBEAT:
            self.tell(**status)

    def write(self, state: str, *, reason: str | None = None, **status: Any) -> None:
        """Write the page itself, and that of all runs, at the beginning and at the end.

        Raises:
            OSError: It can't be written.
        """
        self._status |= {**status, "state": state, "reason": reason}
        write_document(self._folder / PAGE, self._document())
        self.tell()  # who finds here that the run is done finds all the rest
        self.write_home()

    def write_home(self) -> None:
        """Write the page of all runs, if there is one.

        Raises:
            OSError: It can't be written.
        """
        if self._home is not None:
            write_home(self._home)

    def _document(self) -> html_tag:
        status = self._status
        document, body = document_with(self._folder.name, scripts=("curves", "training"))
        way = body[0].add(nav(id="way"))
        if self._home is not None:
            way.add(a("← all runs", href=f"../{PAGE}"))
        shown = {"step": f"{status.get('step', 0):,}"}
        shown |= {
            name: f"{status[key]:,}"
            for key, name in (("epoch", "epochs"), ("kimg", "thousand images"))
            if key in status
        }
        body.add(
            section(
                div(
                    span(status["state"], cls="pill", id="pill", data_state=status["state"]),
                    progress(
                        value=str(status.get("done", 0)),
                        max=str(status.get("total", 1)),
                        id="progress",
                        aria_label="progress",
                    ),
                    span(id="share"),
                    cls="status",
                ),
                facts_list(shown, id="facts"),
                p(status["reason"] or "", cls="reason", id="reason", hidden=not status["reason"]),
                aria_label="status",
            )
        )
        body.add(
            div(section(h2("Samples"), id="samples", hidden=True), section(h2("Curves"), id="curves"), cls="columns")
        )
        body.add(section(h2("Through time"), id="through", hidden=True))
        body.add(section(h2("Configuration"), *configuration(self._config, self._defaults)))
        about = section(h2("This run"), pre(code(self._command)))
        if self._facts:
            about.add(h3("Where"), facts_list(self._facts))
            about[-1]["class"] = "facts long"
        if self._networks:
            about.add(h3("Networks"), _networks(self._networks))
        body.add(about)
        return document


def configuration(config: Mapping[str, Any], defaults: Mapping[str, Any] | None) -> list[html_tag]:
    """A configuration as YAML, in which what differs from the defaults, where these are known, is marked."""
    values, usual = flatten(config), flatten(defaults or {})
    text, count = code(), 0
    for depth, key, line in _lines(config):
        differs = defaults is not None and key in values and (key not in usual or usual[key] != values[key])
        count += differs
        text.add("  " * depth, mark(line) if differs else line, "\n")
    hint = p(cls="hint")
    if count:
        hint.add(mark("Marked"), " is what differs from the defaults of this model on these data.")
    elif defaults is not None:
        hint.add("These are the defaults of this model on these data.")
    return [hint, pre(text)]


def _lines(config: Mapping[str, Any], above: str = "", depth: int = 0) -> Iterable[tuple[int, str, str]]:
    """Depth, whole key and text of each line."""
    for name, value in config.items():
        key = f"{above}{name}"
        if isinstance(value, Mapping) and value:
            yield depth, key, f"{name}:"
            yield from _lines(value, f"{key}.", depth + 1)
        elif isinstance(value, list):
            yield depth, key, f"{name}: {json.dumps(value, ensure_ascii=False, default=str)}"
        else:
            yield depth, key, OmegaConf.to_yaml(OmegaConf.create({name: value})).rstrip("\n")


def _networks(networks: Mapping[str, int]) -> html_tag:
    rows = [*networks.items(), ("together", sum(networks.values()))]
    return div(
        table(
            thead(tr(th("network"), th("parameters"))),
            tbody(*(tr(td(name), td(f"{count:,}")) for name, count in rows)),
        ),
        cls="scroll",
    )
