"""The page of a run: the document is written at the start and the end, its data whenever the run logs something."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from dominate import tags
from omegaconf import OmegaConf

from gantrain.config.expected import expected_in
from gantrain.config.overrides import flatten
from gantrain.report.log import EVALUATIONS, AppendLog, readable_lines
from gantrain.report.pages import page
from gantrain.report.pages.home_page import write_home
from gantrain.report.pages.reproductions_page import paper_table
from gantrain.report.pages.results_page import list_results

HEARTBEAT = 5.0  # Seconds between updates of the status while nothing is logged.
ABOUT = {  # What ``rebuild`` needs besides the configuration, stored in the data of the page.
    "command": str,
    "defaults": dict[str, Any] | None,
    "facts": dict[str, str],
    "networks": dict[str, int],
}
LINES_PER_FILE = 500  # An open page loads only the last file of the log again.
_COMPACT = json.JSONEncoder(separators=(",", ":"))


@dataclass
class TrainingPage:
    """``index.html`` of a run folder, its data, and the page of all runs; for the arguments see ``Report``."""

    folder: Path
    home: Path | None
    command: str
    config: Mapping[str, Any]
    defaults: Mapping[str, Any] | None
    facts: Mapping[str, str]
    networks: Mapping[str, int]

    def __post_init__(self) -> None:
        self._log = AppendLog(self.folder / page.DATA / "log_*.js", _log_line, per_file=LINES_PER_FILE)
        self._status: dict[str, Any] = {"silence": 0.0}
        self._written = time.monotonic()

    def open(self, tables: Mapping[str, Iterable[Any]], **status: Any) -> None:
        """Start the page, or restart it at an earlier step, with all lines so far by table; see ``update``."""
        now = round(time.time(), 6)  # Precise enough to order runs that start together.
        before = page.read_status(self.folder)
        started, ran = before.get("started", now), round(page.seconds_of(before), 1)
        choices = {"model": "name", "data": "mode"}
        names = {group: (self.config.get(group) or {}).get(key) for group, key in choices.items()}
        self._status = {"name": self.folder.name, **names, "started": started, "ran": ran}
        self._status |= {"opened": now, "paused": 0.0, "silence": 0.0, "state": "running", "reason": None}
        page.make_folder(self.folder, page.DATA)
        page.write_data(self.folder, "about", {key: getattr(self, key) for key in ABOUT})
        self._log.replace((table, line) for table, lines in tables.items() for line in lines)
        list_results(self.folder)
        list_evaluations(self.folder)
        self._written = time.monotonic()
        self.write("running", **status)

    def rebuild(self, tables: Mapping[str, Iterable[Any]]) -> None:
        """Write the page of a run that has ended anew, with all its lines by table."""
        page.make_folder(self.folder, page.DATA)
        self._status = {"state": "unknown", "reason": None, **page.read_status(self.folder), "name": self.folder.name}
        self._log.replace((table, line) for table, lines in tables.items() for line in lines)
        list_results(self.folder)
        list_evaluations(self.folder)
        page.write_document(self.folder / page.PAGE, self._document())
        self._status |= {"files": self._log.files, "lines": self._log.written}
        page.write_data(self.folder, "status", self._status)

    def update(self, lines: Sequence[tuple[str, Any]] = (), **status: Any) -> None:
        """Add lines, each with its table, and update the status; an OSError means that the next call tries again.

        Args:
            lines: Lines of the tables ``losses``, ``speed``, ``metrics``, ``notes`` and ``images``.
            status: ``step``, ``done`` and ``total`` in ``unit``, and other values that ``training.js`` shows.
        """
        now = time.monotonic()
        self._status["silence"] = round(max(self._status["silence"], now - self._written), 1)
        self._written = now
        self._log.records += lines
        self._log.catch_up()
        if "values" in status:
            status["values"] = {**self._status.get("values", {}), **status["values"]}
        self._status |= {**status, "time": round(time.time(), 1), "files": self._log.files, "lines": self._log.written}
        page.write_data(self.folder, "status", self._status)
        if self.home is not None and self._status["state"] == "running":
            page.write_data(self.home, "status", self._status, file=page.live_name(self.folder, self.home))

    def heartbeat(self, *, pause: float = 0.0, **status: Any) -> None:
        """Call ``update`` if the last update was some time ago; ``pause`` are seconds in which nothing was trained."""
        self._status["paused"] = round(self._status.get("paused", 0.0) + pause, 1)
        self._written += pause
        if time.monotonic() - self._written >= HEARTBEAT:
            self.update(**status)

    def write(self, state: str, *, reason: str | None = None, **status: Any) -> None:
        """Write the document and the page of all runs, at the start and the end of a run."""
        self._status |= {**status, "state": state, "reason": reason}
        page.write_document(self.folder / page.PAGE, self._document())
        self.update()  # After the document: with the status "done", the whole page exists.
        self.write_home()

    def write_home(self) -> None:
        """Write the page of all runs, if there is one."""
        if self.home is not None:
            write_home(self.home)

    def _document(self) -> tags.html_tag:
        back = {} if self.home is None else {"all runs": page.address(self.home / page.PAGE, self.folder)}
        if self.home is not None and self.home != self.folder.parent:
            back = {"sweep": f"../{page.PAGE}", **back}
        document, body = page.new_document(self.folder.name, scripts=("curves", "training"), back=back)
        state, reason = self._status["state"], self._status["reason"]
        bar = tags.progress(value="0", max="1", id="progress", aria_label="progress")
        pill = tags.span(state, cls="pill", id="pill", data_state=state)
        status = tags.div(pill, bar, tags.span(id="share"), cls="status")
        message = tags.p(reason or "", cls="reason", id="reason", hidden=not reason)
        body.add(tags.section(status, tags.dl(cls="facts", id="facts"), message, aria_label="status"))
        body.add(page.section("Notes", tags.ul(), id="notes", hidden=True))
        body.add(page.section("Metrics", id="metrics", hidden=True))
        samples, curves = page.section("Samples", id="samples", hidden=True), page.section("Curves", id="curves")
        body.add(tags.div(samples, curves, cls="columns"))
        body.add(page.section("Evaluations", id="evaluations", hidden=True))
        body.add(page.section("Samples over time", id="through", hidden=True))
        if expected := expected_in(self.config):
            body.add(page.section("Paper", paper_table(self.folder, expected)))
        about: list[tags.html_tag] = []
        if self.facts:
            about += [tags.h3("Environment"), page.facts_list(self.facts)]
        if self.networks:
            about += [tags.h3("Networks"), _network_table(self.networks)]
        later = [each for each in self._status.get("segments", ()) if each["step"]]
        lines = (tags.li(f"from step {each['step']:,}: ", tags.code(each["command"])) for each in later)
        about[:0] = [tags.h3("Continued with other settings"), tags.ol(*lines)] if later else []
        body.add(page.command_section(self.command, *about, heading="This run"))
        config = {key: value for key, value in self.config.items() if key != "expected"}  # It is in a table above.
        body.add(page.section("Configuration", *configuration(config, self.defaults)))
        return document


def list_evaluations(folder: Path) -> None:
    """Write what ``gantrain evaluate`` has measured, for the page of a run."""
    page.write_data(folder, "evaluations", readable_lines(folder / EVALUATIONS))


def _log_line(entry: tuple[str, Any]) -> str:
    table, line = entry
    return f"gantrain.line({json.dumps(table)}, {_COMPACT.encode(line)});"


def configuration(config: Mapping[str, Any], defaults: Mapping[str, Any] | None) -> list[tags.html_tag]:
    """A configuration as YAML, with the values that differ from the defaults marked where the defaults are known."""
    values, usual = flatten(config), flatten(defaults or {})
    text, count = tags.code(), 0
    for depth, key, line in _yaml_lines(config):
        differs = defaults is not None and key in values and (key not in usual or usual[key] != values[key])
        count += differs
        text.add("  " * depth, tags.mark(line) if differs else line, "\n")
    hint: list[Any] = []
    if count:
        hint = [tags.mark("Marked"), " values differ from the defaults of this model and data set."]
    elif defaults is not None:
        hint = ["All values are the defaults of this model and data set."]
    return [tags.p(*hint, cls="hint"), tags.pre(text)]


def _yaml_lines(config: Mapping[str, Any], above: str = "", depth: int = 0) -> Iterable[tuple[int, str, str]]:
    """Depth, full key and text of each line."""
    for name, value in config.items():
        key = f"{above}{name}"
        if isinstance(value, Mapping) and value:
            yield depth, key, f"{name}:"
            yield from _yaml_lines(value, f"{key}.", depth + 1)
        elif isinstance(value, (list, Mapping)):
            yield depth, key, f"{name}: {json.dumps(value, ensure_ascii=False, default=str)}"
        else:
            yield depth, key, _yaml_line(name, value)


@lru_cache(maxsize=1024, typed=True)  # A run writes its page twice.
def _yaml_line(name: str, value: object) -> str:
    return OmegaConf.to_yaml(OmegaConf.create({name: value})).rstrip("\n")


def _network_table(networks: Mapping[str, int]) -> tags.html_tag:
    counts = {**networks, "total": sum(networks.values())}
    rows = (tags.tr(tags.td(name), tags.td(f"{count:,}")) for name, count in counts.items())
    head = tags.thead(tags.tr(tags.th("network"), tags.th("parameters")))
    return tags.div(tags.table(head, tags.tbody(*rows)), cls="scroll")
