"""Rows of measurements: as a CSV file, beside those of another one, and as text."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from gantrain.config.side_files import read_text
from gantrain.errors import ConfigError

LIMIT = 20 << 20  # Bytes of a file.


@dataclass(frozen=True, kw_only=True)
class Row:
    """What was measured with some settings, and on what; a line of the CSV file."""

    settings: str  # As typed.
    model: str
    images: str  # Channels, height and width, by domain.
    batch_size: int
    precision: str  # Of the networks.
    hardware: str  # The processor or the GPU.
    threads: int  # Of torch on the CPU.
    gantrain: str  # Its version.
    torch: str  # Its version.
    date: str
    warmup: int  # Steps before the timed ones.
    steps: int  # Timed steps.
    images_per_second: float  # Drawn images, of all batches of a step.
    step_ms: float
    data_ms: float
    forward_ms: float  # With all that is not one of the others.
    backward_ms: float
    optimizer_ms: float
    cpu_ms: float  # CPU time of the process; on a busy machine, compare this.
    peak_mib: float  # Of the process on the CPU, of torch's tensors on a GPU.
    gflop_per_step: float  # Of matrix products and convolutions.
    gflop_per_second: float
    product_gflop_per_second: float  # What a matrix product reaches, with the same type of numbers and threads.
    convolution_gflop_per_second: float
    operations: float  # Dispatched by torch in a step.
    host_reads: float  # How often the host waits for the device in a step, to read a value.


COLUMNS = [field.name for field in fields(Row)]
# The measured columns with their headings.
MEASURED = {
    "images_per_second": "images per second",
    "step_ms": "ms per step",
    "data_ms": "  data",
    "forward_ms": "  forward",
    "backward_ms": "  backward",
    "optimizer_ms": "  optimizer",
    "cpu_ms": "CPU ms per step",
    "peak_mib": "peak memory, MiB",
    "gflop_per_step": "GFLOP per step",
    "gflop_per_second": "GFLOP/s",
    "product_gflop_per_second": "  of a matrix product",
    "convolution_gflop_per_second": "  of a convolution",
    "operations": "operations per step",
    "host_reads": "host synchronisations per step",
}


def to_csv(rows: Sequence[Row]) -> str:
    """The text of a CSV file with a heading."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow(
            {key: f"{value:.6g}" if isinstance(value, float) else value for key, value in asdict(row).items()}
        )
    return text.getvalue()


def read_csv(path: Path) -> list[dict[str, str]]:
    """The lines of a CSV file of measurements, as text by column.

    Raises:
        ConfigError: There is no such file, or no measurements in it.
    """
    text = read_text(path, limit=LIMIT)
    if text is None:
        raise ConfigError(f"against={path}: no such file that can be read; give the .csv of another benchmark")
    lines = [line for line in csv.DictReader(io.StringIO(text, newline="")) if line.get("settings") is not None]
    if not lines or not MEASURED.keys() <= lines[0].keys():
        raise ConfigError(f"against={path}: no measurements in this file; give the .csv of another benchmark")
    return lines


def counterparts(settings: Sequence[str], lines: Sequence[Mapping[str, str]], path: Path) -> list[Mapping[str, str]]:
    """For each text of settings the last line that has it, empty where there is none.

    Raises:
        ConfigError: No line has any of them.
    """
    by_settings = {line["settings"]: line for line in lines}
    found = [by_settings.get(text, {}) for text in settings]
    if not any(found):
        raise ConfigError(
            f"against={path}: there are no measurements with {settings[0] or 'default settings'} in it, but with "
            + "; ".join(text or "default settings" for text in [*by_settings][:3])
        )
    return found


def table(rows: Sequence[Row], others: Sequence[Mapping[str, str]]) -> list[list[str]]:
    """Cells by line: a heading and the values of all rows, with their ratios to those of their counterparts."""
    lines = []
    for name, heading in MEASURED.items():
        cells = []
        for row, other in zip(rows, others, strict=True):
            value: float = getattr(row, name)
            cells.append(_number(value) + _ratio(value, other.get(name)))
        lines.append([heading, *cells])
    return lines


def _number(value: float) -> str:
    """``1,234``, ``12.3`` or ``0.123``."""
    digits = 0 if value == int(value) or value >= 1000 else 1 if value >= 100 else 2 if value >= 1 else 3
    return f"{value:,.{digits}f}"


def _ratio(value: float, other: str | None) -> str:
    """`` (1.25 x)``; empty if the other value is missing or 0."""
    try:
        ratio = value / float(other or "nan")
    except (ValueError, ZeroDivisionError):
        return ""
    return f" ({ratio:.2f} x)" if math.isfinite(ratio) else ""
