"""Write docs/reproductions.md: what papers and other code have reached, and what was measured here.

    python scripts/reproductions_table.py

The first part comes from configs/experiment/*.yaml, the second from docs/reproductions.csv, to which the lines of a
reproductions.csv of ``gantrain reproduce`` are copied. Lines of experiments with changed settings are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gantrain.config.expected import address_of
from gantrain.papers.experiments import experiments
from gantrain.papers.record import Row, read_record

ROOT = Path(__file__).parent.parent
TABLE = ROOT / "docs/reproductions.md"
HEAD = """\
# Reproductions

What papers and other code report, and what `gantrain reproduce NAME` has measured. The values are those of
`configs/experiment/*.yaml`, each with its source; experiments whose papers give none that could be checked have a line
without values. Written by `python scripts/reproductions_table.py`.

| experiment | metric | paper or code | protocol | source | measured here |
|---|---|---|---|---|---|
"""


def table(rows: Sequence[Row]) -> str:
    """The document, from the lines of a record."""
    lines = []
    for name, experiment in experiments([ROOT / "configs"]).items():
        own = [row for row in rows if row.experiment == name and not row.changes]
        if not experiment.expected:
            here = "; ".join(f"trained, {_circumstances(row)}" for row in own) or "not run"
            lines.append(f"| {name} | | | | | {here} |")
        for each in experiment.expected:
            same = [row for row in own if (row.metric, row.source) == (each.metric, each.source)]
            same = [row for row in same if row.protocol == each.protocol]
            found = (f"{row.measured or 'not measured'} at step {row.step}, {_circumstances(row)}" for row in same)
            here = "; ".join(found) or "not run"
            source = f"[{each.source}]({address_of(each.source)})"
            cells = (name, each.metric, f"{each.value:g}", each.protocol, source, here)
            lines.append(f"| {' | '.join(cells)} |")
    return HEAD + "\n".join(lines) + "\n"


def _circumstances(row: Row) -> str:
    return (
        f"{row.measured_by}; " if row.measured_by else ""
    ) + f"{row.hardware}, {row.hours} h, seed {row.seed}, version {row.version}, {row.date}"


if __name__ == "__main__":
    TABLE.write_text(table(read_record(ROOT / "docs/reproductions.csv")), encoding="utf-8")
