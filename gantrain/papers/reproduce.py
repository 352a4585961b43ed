"""``gantrain reproduce``: an experiment of a paper from its data to a line in the table of results."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gantrain.metrics  # noqa: F401 - registers the metrics, which know their better ends
from gantrain import __version__
from gantrain.checkpoints.by_url import runs_folder
from gantrain.config.expected import expected_values
from gantrain.config.overrides import RUNTIME_ONLY_KEYS, split_override
from gantrain.data.sets.catalog import BY_REQUEST, NAMES
from gantrain.data.tools.download import download
from gantrain.errors import ConfigError, nearest
from gantrain.papers.experiments import Experiment, experiments, state_of
from gantrain.papers.record import RECORD, Row, add_to_record, read_record
from gantrain.report.measured import Measured, best_of, measured
from gantrain.report.pages.page import read_data, read_status, seconds_of
from gantrain.report.pages.reproductions_page import reproductions_page
from gantrain.report.pages.training_page import ABOUT
from gantrain.runtime import console
from gantrain.runtime.storage import storage_errors

USAGE = """\
gantrain reproduce                       lists the experiments of papers and what has become of them
gantrain reproduce NAME [KEY=VALUE ...]  downloads the data, trains, evaluates, and adds a row to reproductions.csv
  yes=true                               downloads without a question
  checkpoints_dir=FOLDER                 the folder of all runs and of reproductions.csv, by default checkpoints
"""
NO_BETTER = "no better"  # How the reason begins why a run ended by its objective.


def main(
    arguments: Sequence[str],
    typed: Sequence[str],
    folders: Sequence[Path],
    *,
    compose: Callable[[list[str]], dict[str, Any]],
    train: Callable[[list[str]], int],
) -> int:
    """The command; returns its exit status.

    Args:
        arguments: As typed.
        typed: The name and the overrides in them, quoted for Hydra.
        folders: Those of configurations.
        compose: Composes the configuration of a training from overrides.
        train: Trains with overrides; returns the exit status.

    Raises:
        ConfigError: There is no such experiment, and see ``reproduce``.
    """
    if {"-h", "--help"}.intersection(arguments):
        console.out(*USAGE.splitlines())
        return 0
    known = experiments(folders)
    names = [word for word in typed if "=" not in word]
    overrides = [word for word in typed if "=" in word]
    if not names:
        given = [word.partition("=")[2] for word in overrides if word.startswith("checkpoints_dir=")]
        list_states(known, runs_folder((given or ["checkpoints"])[-1].strip("'\""), []))
        return 0
    if len(names) > 1 or names[0] not in known:
        raise ConfigError(f"reproduce {' '.join(names)}: give one experiment; {nearest(names[0], known)}")
    words = [f"experiment={names[0]}", *overrides]
    is_sure = "yes=true" in arguments
    return reproduce(names[0], compose(words), overrides, lambda: train(words), is_sure=is_sure)


def list_states(experiments: Mapping[str, Experiment], home: Path) -> None:
    """Print every experiment with its state and what it is expected to reach."""
    rows = read_record(home / RECORD)
    longest = max(map(len, experiments), default=0)
    for name, experiment in experiments.items():
        console.out(f"{name:<{longest}}  {state_of(name, home, rows)}")
        console.out(*(f"    {value}" for value in experiment.expected))


def reproduce(
    name: str,
    config: Mapping[str, Any],
    overrides: Sequence[str],
    train: Callable[[], int],
    *,
    is_sure: bool = False,
    ask: Callable[[str], str] = input,
) -> int:
    """Download the data of an experiment if they are missing, train, evaluate, and record the result.

    Args:
        name: The experiment.
        config: Its composed configuration.
        overrides: What was typed besides its name.
        train: Trains it, or resumes; returns the exit status.
        is_sure: Whether to download without a question.
        ask: Puts a question to the user.

    Returns:
        Exit status: 1 if the user does not want the download, or that of the training.

    Raises:
        ConfigError: The data must be requested, can't be downloaded, or the configuration is wrong.
    """
    if not config["dry_run"] and not fetch(config["data"], (lambda _: "y") if is_sure else ask):
        console.err("", "nothing is done; type y, or give yes=true")
        return 1
    status = train()
    if status or config["dry_run"]:
        return status
    home = Path(config["checkpoints_dir"]).expanduser()
    folder = home / config["name"]
    state = read_status(folder)
    if state.get("state") != "done" and not str(state.get("reason")).startswith(NO_BETTER):
        console.err(f"{folder} is not finished, so nothing is recorded; the same command resumes it")
        return 0
    record = home / RECORD
    changes = shlex.join(sorted(word for word in overrides if changes_result(word)))
    rows = rows_of(name, folder, config, changes, evaluate(folder, config))
    with storage_errors(f"write {record}"):
        page = reproductions_page(home, list(map(vars, add_to_record(record, rows))), record=RECORD)
    for row in rows:
        how = f"at step {row.step}" + (f", {row.measured_by}" if row.measured_by else "")
        here = f"{row.measured} ({how})" if row.measured else "not measured"
        there = f"{row.paper} ({row.source}: {row.protocol})"
        console.out(f"{row.metric}: here {here}, expected {there}" if row.metric else f"{name}: no expected value")
    console.out(f"Record: {record}", f"Page: {page}")
    return 0


def fetch(data: Mapping[str, Any], ask: Callable[[str], str]) -> bool:
    """Download a data set of the catalog if it is missing; False if the user does not want it."""
    root = Path(str(data.get("root"))).expanduser()
    name, folder = root.name, root
    if data.get("mode") == "lsun":
        category = str(data.get("category"))
        name, folder = f"lsun_{category}", root / f"{category}_train_lmdb"
    if folder.exists() or name not in (*NAMES, *BY_REQUEST):
        return True  # If it is missing, the training reports how to get it.
    if name in NAMES:
        try:
            answer = ask(f"{folder} is missing; download {NAMES[name]}? [y/N] ")
        except EOFError:
            answer = ""
        if answer.strip().lower() not in ("y", "yes"):
            return False
    with storage_errors(f"download {name}"):
        download(name, root.parent)
    return True


def evaluate(folder: Path, config: Mapping[str, Any]) -> dict[str, Measured]:
    """What a run has measured of each expected metric: the weights of ``best.pt``, or else the last ones.

    All values are of the step at which the objective was best, where a metric was measured then.
    """
    objective = config["objective"]["metric"]
    best = best_of(measured(folder, objective), objective) if objective else None
    found: dict[str, Measured] = {}
    for each in expected_values(config["expected"]):
        if values := measured(folder, each.metric):
            found[each.metric] = next((value for value in values if best and value.step == best.step), values[-1])
    return found


def rows_of(
    name: str,
    folder: Path,
    config: Mapping[str, Any],
    changes: str,
    found: Mapping[str, Measured],
) -> list[Row]:
    """The lines of a run in the record: one for each expected value, or else one that says that it was trained."""
    status, about = read_status(folder), read_data(folder, "about", ABOUT)
    facts = about.get("facts", {})
    row = Row(
        experiment=name,
        changes=changes,
        metric="",
        paper="",
        protocol="",
        source="",
        measured="",
        measured_by="",
        step=str(status.get("step", "")),
        hardware=_hardware(facts, config["trainer"]["devices"]),
        hours=f"{seconds_of(status) / 3600:.3g}",
        seed=str(config["seed"]),
        version=__version__ + (f" ({commit[:8]})" if (commit := facts.get("commit")) else ""),
        date=time.strftime("%Y-%m-%d", time.localtime(status.get("time"))),
        run=folder.name,
    )
    rows = []
    for each in expected_values(config["expected"]):
        own = replace(row, metric=each.metric, paper=f"{each.value:g}", protocol=each.protocol, source=each.source)
        if value := found.get(each.metric):
            number, step = f"{value.value:.5g}", str(value.step)
            own = replace(own, measured=number, measured_by=value.protocol, step=step)
        rows.append(own)
    return rows or [row]


def changes_result(override: str) -> bool:
    """Whether an override makes it another experiment, or measures it by another protocol."""
    key = split_override(override)[0]
    return key not in RUNTIME_ONLY_KEYS and key.split(".")[0] not in ("logger", "objective")


def _hardware(facts: Mapping[str, str], devices: int | str) -> str:
    """``NVIDIA H100``, ``8 x NVIDIA H100``, or of a CPU the system and the number of cores."""
    device = facts.get("device", "unknown")
    machine = facts.get("machine", "").partition(", ")[2]  # Without the name of the host.
    count = f"{devices} x " if isinstance(devices, int) and devices > 1 else ""
    return count + (f"{device} ({machine})" if device == "cpu" and machine else device)
