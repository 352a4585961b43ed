"""Commands for many settings: ``gantrain train --multirun``, whose sweeps Hydra runs, and ``gantrain benchmark``."""

from __future__ import annotations

import itertools
import logging
import os
import shlex
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException

from gantrain.cli.arguments import asks_help, config_flags, of_sweeps, shows_only, split
from gantrain.cli.compose import (
    Composed,
    check_plugins,
    complete,
    compose_once,
    compose_training,
    defaults_of,
    demo_data,
    refuse_open_braces,
    swept,
    with_own_demo,
)
from gantrain.cli.help import explain_command
from gantrain.cli.hydra_errors import in_one_line
from gantrain.cli.hydra_main import run_hydra
from gantrain.cli.quoting import quoted
from gantrain.config.keys import COMMANDS
from gantrain.config.naming import SWEEPS, home_of, name_of_sweep
from gantrain.config.overrides import split_override
from gantrain.config.source import arguments_at
from gantrain.errors import ConfigError
from gantrain.runtime import distributed
from gantrain.runtime.gpus import visible_gpus
from gantrain.runtime.signals import restore_sigint
from gantrain.sweeps.sweep import Sweep

MAX_MESSAGE = 400  # Characters of a run's error message in the summary.
MAX_RUNS = 10  # Runs with an error in the summary.
IDLE_SECONDS = 300  # Of a process that waits for a run, also if this process was killed.
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def train_all(arguments: Sequence[str], flags: list[str], typed: list[str]) -> int:
    """Train every run of a sweep, summarise them and write the page that compares them.

    Args:
        arguments: All of the command line: Hydra's ``flags`` and the overrides ``typed``.

    Returns:
        The highest exit status of a run.
    """
    refuse_open_braces(typed)
    sweep, folder = plan(arguments, flags, typed)

    def job(composed: Composed) -> int:
        from gantrain.train import train

        try:
            composed = with_own_demo(composed, flags)
            config = complete(composed)
            place = sweep.place(config, composed.overrides, composed.choices)
            config |= place
        except ConfigError as error:
            sweep.record_failure(composed.overrides, composed.choices, str(error))
            raise
        # The run's own command is that of a single run in the same folder.
        own = [word for word in composed.overrides if not of_sweeps(word) and split_override(word)[0] not in place]
        placed = [quoted(f"{key}={value}", sweeps=False) for key, value in place.items()]
        overrides = [*config_flags(flags), *own, *placed]

        def train_job() -> int:
            return train(config, overrides, lambda: defaults_of(composed.choices, config["name"]))

        skip_done = composed.config["sweep"]["skip_done"]
        return sweep.run_job(config, overrides, skip_done=skip_done, train=train_job)

    status, interrupted = 0, False
    try:
        restore_sigint()  # An interrupted sweep still reports its runs.
        with separate_processes(sweep):
            status = run_hydra("train", [*demo_data(typed, flags), *arguments, *folder], job, sweep)
        interrupted = status > 128
    except KeyboardInterrupt:
        interrupted = True
        raise
    finally:
        status = max(status, finish(sweep, stopped=interrupted))
    return status


@contextmanager
def separate_processes(sweep: Sweep) -> Iterator[None]:
    """Inside, Hydra's launcher for joblib starts each process by itself; joblib would end all of them with one.

    Ctrl-C is deferred as ``Sweep.defer_sigint`` says. Does nothing for other launchers.
    """
    if not sweep.waits:
        yield
        return
    from hydra_plugins.hydra_joblib_launcher import _core

    parallel, name, died = _core.Parallel, "Parallel", sweep.count_death

    def replacement(**keys: Any) -> Callable[[Iterable[Any]], list[JobReturn]]:
        if keys.get("timeout") is not None:
            raise ConfigError(
                f"hydra.launcher.timeout={keys['timeout']}: give trainer.max_minutes, which saves the run"
            )
        return lambda jobs: _run_jobs(deque(enumerate(jobs)), keys["n_jobs"], died)

    setattr(_core, name, replacement)
    try:
        with sweep.defer_sigint():
            yield
    finally:
        setattr(_core, name, parallel)


def _run_jobs(waiting: deque[tuple[int, Any]], n_jobs: int | None, died: Callable[[], None]) -> list[JobReturn]:
    """Results of ``(number, (function, arguments, keywords))``, by number; empty ones of processes that died."""
    import joblib
    from joblib.externals.loky import ProcessPoolExecutor

    count = min(joblib.effective_n_jobs(n_jobs), len(waiting))
    threads = str(max(1, joblib.cpu_count() // max(1, count)))
    environment = {name: os.environ.get(name, threads) for name in THREADS}  # As joblib does.
    results = {number: JobReturn(status=JobStatus.COMPLETED) for number, _ in waiting}
    idle: list[Any] = []
    running: dict[Future[Any], tuple[int, Any]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < count:
                number, (function, arguments, keywords) = waiting.popleft()
                process = idle.pop() if idle else ProcessPoolExecutor(1, timeout=IDLE_SECONDS, env=environment)
                running[process.submit(function, *arguments, **keywords)] = number, process
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                number, process = running[future]
                try:
                    results[number] = future.result()
                    idle.append(process)
                except BrokenProcessPool:
                    died()
                del running[future]
    finally:
        for process in idle:
            process.shutdown()
        for _, process in running.values():  # After a second Ctrl-C, or another error.
            process.shutdown(kill_workers=True)
    return [results[number] for number in sorted(results)]


def plan(arguments: Sequence[str], flags: Sequence[str], typed: Sequence[str]) -> tuple[Sweep, list[str]]:
    """The sweep, and the override that makes Hydra store its own records in the sweep's folder.

    Raises:
        ConfigError: The runs would share a folder, or the package of a launcher or sweeper is missing.
    """
    check_plugins(typed)
    fixed, keys = swept(typed)
    name = name_of_sweep(fixed, keys)
    runs_folder = _runs_folder(flags, fixed)
    given = [value.strip("'\"") for key, value in map(split_override, typed) if key == "hydra.sweep.dir"]
    folder = Path(given[-1]).expanduser() if given else runs_folder / SWEEPS / name
    command = shlex.join(["gantrain", "train", *arguments])
    sweep = Sweep(folder, runs_folder=runs_folder, command=command, gpus=visible_gpus())
    sweep.keys = keys
    sweep.waits = not {"launcher=joblib", "hydra/launcher=joblib"}.isdisjoint(typed)
    if "sweeper=optuna" in typed:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        # Each run has reported its error by itself.
        logging.getLogger("hydra_plugins.hydra_optuna_sweeper").setLevel(logging.CRITICAL)
    quoted = str(sweep.folder).replace("\\", "\\\\").replace("'", "\\'").replace("${", "\\${")
    return sweep, [] if given and given[-1][:1] != "~" else [f"hydra.sweep.dir='{quoted}'"]


def _runs_folder(flags: Sequence[str], fixed: Sequence[str]) -> Path:
    """The folder of all runs, by the overrides that they share."""
    relevant = [word for word in fixed if word.startswith(("checkpoints_dir", "experiment"))]
    try:
        return Path(str(compose_once("train", flags, relevant).config["checkpoints_dir"])).expanduser()
    except ConfigError:  # It is reported when the runs are composed.
        return Path("checkpoints")


def finish(sweep: Sweep, *, stopped: bool) -> int:
    """Print the results of the runs, which may have been ``stopped``, and write the page that compares them.

    Returns:
        The highest exit status of a run of this command.
    """
    from gantrain.sweeps.compare import compare_sweep

    if distributed.rank() != 0:
        return 0
    records = sweep.finalize(stopped=stopped)
    if sweep.unrecorded:
        distributed.print_rank_zero(f"Processes that were killed before their run started: {sweep.unrecorded}")
    if sweep.folder.exists() and records:
        page = compare_sweep(sweep.folder, home_of(sweep.runs_folder) or sweep.home)
        for line in summary(records):
            distributed.print_rank_zero(line)
        if stopped:  # Each run has printed how to resume it alone.
            distributed.print_rank_zero(f"Interrupted; the same command completes the sweep: {sweep.command}")
        distributed.print_rank_zero(f"Page: {os.path.relpath(page)}")
    return max((record["exit"] for record in records), default=0) or min(sweep.unrecorded, 1)


def summary(records: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The number of completed runs, the errors of the others, and the best run."""
    done = [record for record in records if record["status"] == "done"]
    reported = [record for record in records if record["status"] != "done" or record["message"]]
    yield f"{len(done)} of {len(records)} runs are done" + (":" if reported else "")
    for record in reported[:MAX_RUNS]:
        message = " ".join(record["message"].split())[:MAX_MESSAGE]
        yield f"  {record['run']} {record['status']}" + (f": {message}" if message else "")
    if len(reported) > MAX_RUNS:
        yield f"  ... and {len(reported) - MAX_RUNS} more (all on the page)"
    measured = [record for record in done if record["objective"] is not None]
    if measured:
        best = (max if measured[0]["mode"] == "max" else min)(measured, key=lambda record: record["objective"])
        yield f"Best: {best['run']} ({best['metric']}={best['objective']:.4g})"


# ---- gantrain benchmark


def benchmark_all(arguments: Sequence[str]) -> int:
    """Measure the training steps of every combination of the values that are typed, without files of images.

    Args:
        arguments: What follows ``gantrain benchmark``.

    Returns:
        Exit status.
    """
    flags, typed = split(["--multirun", *(word for word in arguments if word not in ("-m", "--multirun"))])
    flags.remove("--multirun")
    keys = arguments_at(COMMANDS["benchmark"])  # All others are those of training.
    own = [word for word in typed if word.partition("=")[0] in keys]
    if asks_help(flags):
        return explain_command("benchmark", flags, own)
    if shows_only(flags):
        return run_hydra("benchmark", [*flags, *own], lambda _: 0)
    settings = compose_once("benchmark", flags, own).config
    from gantrain.benchmark import Case, benchmark

    several, products = _product([word for word in typed if word not in own])
    cases = []
    for fixed, chosen in products:
        config, overrides = composed(flags, [*fixed, *map("=".join, zip(several, chosen, strict=True))])
        cases.append(Case(", ".join(chosen) or config["model"]["name"], overrides, config))
    command = shlex.join(["gantrain", "benchmark", *arguments])
    return benchmark(settings, cases, varied=", ".join(several), command=command)


def _product(typed: list[str]) -> tuple[list[str], list[tuple[list[str], tuple[str, ...]]]]:
    """The keys with several values, and for every combination of these the other overrides and the values."""
    try:
        overrides = OverridesParser.create().parse_overrides(typed)
    except HydraException as error:
        raise ConfigError(in_one_line(error, "train", typed)) from None
    several = [each for each in overrides if each.is_sweep_override()]
    if globs := [f"{each.input_line}" for each in several if isinstance(each.value(), Glob)]:
        raise ConfigError(f"{globs[0]}: a benchmark measures values that are listed: give {globs[0].split('=')[0]}=A,B")
    fixed = [str(each.input_line) for each in overrides if not each.is_sweep_override()]
    values = itertools.product(*(each.sweep_string_iterator() for each in several))
    return [each.get_key_element() for each in several], [(fixed, chosen) for chosen in values]


def composed(flags: list[str], typed: list[str]) -> tuple[dict[str, Any], list[str]]:
    """The configuration of a case and its overrides; where the data is a folder, it need not be given."""
    try:
        config, overrides, _ = compose_training(flags, typed)
    except ConfigError as error:
        if "data.root is missing" not in str(error):
            raise
        config, _, _ = compose_training(flags, [*typed, "data.root=random"])
        overrides = [*config_flags(flags), *typed]
    return config, overrides
