"""The composition root of benchmarks: configurations in; the speed, memory and operations of their steps out."""

from __future__ import annotations

import gc
import os
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch

from gantrain import __version__
from gantrain.benchmarking.clock import Clock
from gantrain.benchmarking.rates import Rates, measure_rates
from gantrain.benchmarking.results import Row, counterparts, read_csv, table, to_csv
from gantrain.benchmarking.steps import Steps
from gantrain.config.schema import Range, construct
from gantrain.config.settings import set_up_torch
from gantrain.data.base import ImageDataset
from gantrain.data.settings import DataSettings
from gantrain.data.stand_in import RandomImages
from gantrain.errors import ConfigError
from gantrain.registry import MODELS, import_plugins
from gantrain.report.pages.benchmark_page import benchmark_page
from gantrain.runtime import console
from gantrain.runtime.atomic import write_file
from gantrain.runtime.scratch import scratch_folder
from gantrain.train import build_trainer
from gantrain.training import automatic, failures
from gantrain.training.build import Parts
from gantrain.training.context import RunContext

TABLE = "benchmark.csv"
HINTS = (
    "Steps are those of training on random images in memory. The forward pass includes gradient penalties and all that "
    "is not one of the other parts; the optimizer includes checks of the gradients and moving averages.",
    "Operations are those that torch dispatches, views included; of compiled networks, those of their layers.",
)


@dataclass(frozen=True, kw_only=True)
class BenchmarkSettings:
    """The keys of ``gantrain benchmark``, which come beside those of training."""

    steps: Annotated[int, Range(at_least=1, at_most=1_000_000)]  # Steps that are timed.
    # Steps before, which are not timed; the operations of all but the first are counted.
    warmup: Annotated[int, Range(at_least=2, at_most=1_000_000)]
    out: str  # The folder of the page and the CSV file.
    against: str | None  # The CSV file of another benchmark, whose values are compared.


@dataclass(frozen=True)
class Case:
    """Settings that are measured."""

    name: str  # The values that distinguish them.
    overrides: list[str]  # As typed.
    config: dict[str, Any]  # Composed for training.

    @property
    def settings(self) -> str:
        """The overrides, in an order that does not depend on how they were typed."""
        return " ".join(sorted(self.overrides))


@dataclass(frozen=True)
class _GivenData(DataSettings):
    """Data whose images are given, for both phases."""

    images: ImageDataset

    def build(self, *, phase: str, seed: int = 0) -> ImageDataset:
        return self.images


def benchmark(config: dict[str, Any], cases: Sequence[Case], *, varied: str, command: str) -> int:
    """Measure cases one after another, print a table, and write it as CSV and as a page.

    Args:
        config: The keys of ``BenchmarkSettings``.
        cases: At least one.
        varied: The keys that distinguish them.
        command: As typed.

    Returns:
        Exit status 0.

    Raises:
        ConfigError: A configuration is wrong, or the file to compare with has no measurements of these settings.
    """
    settings = construct(BenchmarkSettings, config, key="")
    against = None if settings.against is None else Path(settings.against).expanduser()
    texts = [case.settings for case in cases]
    others = [{} for _ in cases] if against is None else counterparts(texts, read_csv(against), against)
    for case in cases:
        context_of(case, Path())  # A wrong one is refused before the first is measured.
    folder = Path(settings.out).expanduser()
    with _writing(settings.out):
        folder.mkdir(parents=True, exist_ok=True)
    rates: dict[torch.dtype, Rates] = {}
    rows, threads = [], torch.get_num_threads()
    for number, case in enumerate(cases, 1):
        if len(cases) > 1:
            console.err(f"Measuring {number} of {len(cases)}: {case.name}")
        torch.set_num_threads(threads)
        rows.append(measure(case, settings, rates))
    cells, names, facts = table(rows, others), [case.name for case in cases], _facts(rows, others, against)
    console.out(*(f"{name}: {value}" for name, value in facts.items()), *_columns([[varied, *names], *cells]))
    with _writing(settings.out):
        write_file(folder / TABLE, to_csv(rows))
        page = benchmark_page(
            folder, command=command, facts=facts, names=[varied, *names], lines=cells, table=TABLE, hints=HINTS
        )
    console.out(f"Page: {page}")
    return 0


@contextmanager
def _writing(out: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(f"out={out}: can't write there: {error.strerror or error}") from None


def context_of(case: Case, runs_folder: Path) -> RunContext:
    """The checked configuration of a case, in a folder without runs, without a mirror and loggers."""
    own: dict[str, Any] = {"checkpoints_dir": str(runs_folder), "resume": "auto", "init_from": None, "logger": {}}
    trainer = {**case.config["trainer"], "mirror": None}
    context = RunContext.create({**case.config, **own, "trainer": trainer}, case.overrides)
    if context.settings.dry_run:
        raise ConfigError("dry_run=true: a benchmark has to train: gantrain train shows networks without training")
    if context.trainer.devices != 1:
        raise ConfigError(f"trainer.devices={context.trainer.devices}: a benchmark measures one process: give 1")
    return context


def steps_of(context: RunContext, clock: Clock) -> Steps:
    """The steps of a run on random images; its stream is to be closed."""
    config = context.config
    import_plugins(context.settings.plugins)
    set_up_torch(context.trainer, context.device)
    images = RandomImages.of(config["data"], MODELS[str(config["model"]["name"])].needs)
    context = replace(context, data=_GivenData(**vars(context.data), images=images))
    return Steps(Parts.build(context, world_size=1), lambda parts: build_trainer(parts, context, None), clock)


def measure(case: Case, settings: BenchmarkSettings, rates: dict[torch.dtype, Rates]) -> Row:
    """Measure a case; ``rates`` are those of the machine that have been measured so far."""
    with scratch_folder() as folder:
        context = context_of(case, folder)
        device, clock = context.device, Clock(context.device)
        with failures.explained(context.config, device):
            steps = steps_of(context, clock)
            parts = steps.trainer.parts
            with closing(parts.stream):
                automatic.use_threads(steps.trainer)
                automatic.use_precision(steps.trainer)
                measured = steps.measure(warmup=settings.warmup, steps=settings.steps)
    precision = steps.trainer.constants.get("precision", context.trainer.precision)
    dtype: torch.dtype = getattr(torch, precision)
    batch_size, spec = parts.stream.batch_size, parts.dataset.spec
    del parts, steps
    gc.collect()
    if dtype not in rates:
        rates[dtype] = measure_rates(device, dtype, clock)
    return Row(
        settings=case.settings,
        model=str(context.config["model"]["name"]),
        images=", ".join(f"{key} {'x'.join(map(str, spec.shape(key)))}" for key in spec.channels),
        batch_size=batch_size,
        precision=precision,
        hardware=_hardware(device),
        threads=torch.get_num_threads(),
        gantrain=__version__,
        torch=str(torch.__version__),
        date=time.strftime("%Y-%m-%d"),
        warmup=settings.warmup,
        steps=settings.steps,
        images_per_second=measured.images / measured.seconds,
        step_ms=1000 * measured.seconds,
        **{f"{name}_ms": 1000 * seconds for name, seconds in measured.parts.items()},
        cpu_ms=1000 * measured.cpu,
        peak_mib=measured.peak / 2**20,
        gflop_per_step=measured.flops / 1e9,
        gflop_per_second=measured.flops / measured.seconds / 1e9,
        product_gflop_per_second=rates[dtype].product / 1e9,
        convolution_gflop_per_second=rates[dtype].convolution / 1e9,
        operations=measured.operations,
        host_reads=measured.reads,
    )


def _hardware(device: torch.device) -> str:
    """The name of the GPU, or of the processor with its number of cores."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    except OSError:
        pass
    return f"{device.type}: {name}, {os.cpu_count()} cores"


def _facts(rows: Sequence[Row], others: Sequence[Mapping[str, str]], against: Path | None) -> dict[str, str]:
    """What the measurements of one command share, and what they are compared with."""
    first, other = rows[0], next((other for other in others if other), {})
    threads = f"{first.threads} thread{'s' * (first.threads > 1)}"
    facts = {
        "Machine": f"{first.hardware}, {threads}",
        "Versions": f"gantrain {first.gantrain}, torch {first.torch}",
        "Steps": f"{first.steps}, after {first.warmup} of warm-up",
    }
    if against is not None:
        machine = f"{other.get('hardware', '')}, gantrain {other.get('gantrain', '')}, torch {other.get('torch', '')}"
        facts["In brackets"] = f"times the value in {against} ({machine})"
    return facts


def _columns(lines: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join([heading.ljust(widths[0]), *map(str.rjust, cells, widths[1:])]).rstrip() for heading, *cells in lines
    ]
