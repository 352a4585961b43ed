"""What ``gantrain train --multirun`` does before Hydra launches its runs, and after the last of them."""

from __future__ import annotations

import logging
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gantrain.cli.compose import check_plugins, swept
from gantrain.config.naming import name_of_sweep, split_override
from gantrain.config.settings import CHECKPOINTS
from gantrain.runtime import distributed
from gantrain.runtime.gpus import visible_gpus
from gantrain.sweeps.sweep import Sweep

SWEEPS = CHECKPOINTS / "sweeps"
LONGEST = 400  # characters of a message


def plan(arguments: Sequence[str], typed: Sequence[str]) -> tuple[Sweep, list[str]]:
    """A sweep, and the override that has Hydra keep its own records in the sweep's folder.

    Args:
        arguments: All of the command line, for the record.
        typed: Its overrides.

    Raises:
        ConfigError: Its runs would share a folder, or the package of a launcher or sweeper is missing.
    """
    check_plugins(typed)
    fixed, keys = swept(typed)
    name = name_of_sweep(fixed, keys)
    given = [value.strip("'\"") for key, value in map(split_override, typed) if key == "hydra.sweep.dir"]
    folder = Path(given[-1]).expanduser() if given else SWEEPS / name
    sweep = Sweep(folder, command=shlex.join(["gantrain", "train", *arguments]), gpus=visible_gpus())
    sweep.waits = not {"launcher=joblib", "hydra/launcher=joblib"}.isdisjoint(typed)
    if "sweeper=optuna" in typed:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        logging.getLogger("hydra_plugins.hydra_optuna_sweeper").setLevel(logging.CRITICAL)  # the runs say it better
    quoted = str(sweep.folder).replace("\\", "\\\\").replace("'", "\\'").replace("${", "\\${")
    return sweep, [] if given else [f"hydra.sweep.dir='{quoted}'"]


def finish(sweep: Sweep, *, stopped: bool) -> int:
    """Say what became of the runs, and write the page that compares them.

    Args:
        sweep: Whose runs are over.
        stopped: Whether they were interrupted.

    Returns:
        The highest exit status of a run of this command.
    """
    from gantrain.sweeps.compare import compare_sweep

    if distributed.rank() != 0:
        return 0
    records = sweep.finalize(stopped=stopped)
    if sweep.folder.exists() and records:
        page = compare_sweep(sweep.folder)
        for line in summary(records):
            distributed.say(line)
        if stopped:  # each run has said how it goes on alone
            distributed.say(f"Interrupted; the same command makes all that is missing: {sweep.command}")
        distributed.say(f"Page: {os.path.relpath(page)}")
    return max((record["exit"] for record in records), default=0)


def summary(records: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """How many runs are done, what is wrong with the others, and which is the best."""
    done = [record for record in records if record["status"] == "done"]
    told = [record for record in records if record["status"] != "done" or record["message"]]
    yield f"{len(done)} of {len(records)} runs are done" + (":" if told else "")
    for record in told:
        message = " ".join(record["message"].split())[:LONGEST]
        yield f"  {record['run']} {record['status']}" + (f": {message}" if message else "")
    judged = [record for record in done if record["objective"] is not None]
    if judged:
        best = (max if judged[0]["mode"] == "max" else min)(judged, key=lambda record: record["objective"])
        yield f"Best: {best['run']} ({best['metric']}={best['objective']:.4g})"
