"""docs/reproductions.md, which a script writes."""

from __future__ import annotations

import runpy
from dataclasses import fields
from pathlib import Path

from gantrain.papers.record import Row, read_record

ROOT = Path(__file__).parent.parent
SCRIPT = runpy.run_path(str(ROOT / "scripts/reproductions_table.py"))


def test_the_table_is_current() -> None:
    found = (ROOT / "docs/reproductions.md").read_text(encoding="utf-8")
    assert found == SCRIPT["table"](read_record(ROOT / "docs/reproductions.csv")), (
        "run python scripts/reproductions_table.py"
    )


def test_the_table_has_every_experiment_and_says_which_were_not_run() -> None:
    row = Row(
        **dict.fromkeys((field.name for field in fields(Row)), "")
        | {"experiment": "lsgan_lsun_bedroom", "metric": "swd", "source": "open-mmlab/mmagic", "measured": "12.5"}
        | {"protocol": "mean of three levels, times 1000", "step": "99", "hardware": "H100", "hours": "3"}
    )
    without = row.__class__(**vars(row) | {"changes": "seed=1", "measured": "1"})
    other = row.__class__(**vars(row) | {"experiment": "gan_mnist", "metric": "", "measured": ""})
    lines = SCRIPT["table"]([row, without, other]).splitlines()
    lines = lines[lines.index("|---|---|---|---|---|---|") + 1 :]
    assert {line.split(" | ")[0][2:].split(" ")[0] for line in lines} == {
        path.stem for path in (ROOT / "configs/experiment").glob("*.yaml")
    }
    run = [line for line in lines if not line.endswith("| not run |")]
    assert len(run) == 2
    assert run[0].startswith("| gan_mnist | | | | | trained, H100, 3 h")
    assert run[1].startswith("| lsgan_lsun_bedroom | swd | 11.09 | mean of three levels, times 1000 | [open-mmlab/")
    assert "| 12.5 at step 99, H100, 3 h" in run[1]
