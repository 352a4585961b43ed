"""What papers report beside what was measured: on the page of a run, and on that of all reproductions."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path

from gantrain.config.expected import Expected
from gantrain.report.pages.home_page import write_home
from gantrain.report.pages.reproductions_page import paper_table, reproductions_page
from gantrain.report.pages.training_page import TrainingPage

EXPECTED = {"metric": "fid", "value": 77.2, "protocol": "120 <b> 140", "source": "arXiv:2007.15651"}
FACTS = {"hardware": "H100", "hours": "1.5", "seed": "0", "version": "1", "date": "2026-01-02"}


def cells(html: str) -> list[list[str]]:
    """The text of each cell by row, with a space between elements."""
    rows = re.findall(r"<tr>(.*?)</tr>", html, re.DOTALL)
    inside = (re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row, re.DOTALL) for row in rows)
    return [[" ".join(unescape(re.sub("<[^>]+>", " ", cell)).split()) for cell in row] for row in inside]


def test_the_table_has_the_newest_and_the_best_value_beside_the_paper() -> None:
    lines = ({"step": step, "fid": fid} for step, fid in ((1000, 88.123456), (2000, 99.0)))
    Path("metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    other = Expected(metric="is", value=1.5, protocol="of a re-run", source="a/b, issue 3")
    html = paper_table(Path(), [Expected(**EXPECTED), other]).render()
    assert cells(html) == [
        ["metric", "expected", "newest", "best", "protocol", "source"],
        ["fid", "77.2", "99 at step 2,000", "88.123 at step 1,000", "120 <b> 140", "arXiv:2007.15651"],
        ["is", "1.5", "–", "–", "of a re-run", "a/b, issue 3"],
    ]
    assert re.findall('href="(.*?)"', html) == [
        "https://arxiv.org/abs/2007.15651",
        "https://github.com/a/b/issues/3",
    ]


def test_the_page_of_a_run_has_the_table_only_if_something_is_expected() -> None:
    for name, config in (("with", {"seed": 3, "expected": [EXPECTED]}), ("without", {"seed": 3})):
        Path(name).mkdir()
        page = TrainingPage(Path(name), None, "", config, None, {}, {})
        page.open({}, step=0, done=0, total=1, unit="step")
        text = Path(name, "index.html").read_text()
        assert ("<h2>Paper</h2>" in text) == (name == "with")
        assert "seed: 3" in text
        assert "expected:" not in text  # The configuration does not repeat the table.


def test_the_page_of_reproductions_has_a_line_for_each_run_and_metric() -> None:
    line = {
        "experiment": "e",
        "changes": "",
        "run": "e",
        "metric": "fid",
        "measured": "3",
        "measured_by": "",
        "step": "7",
        **FACTS,
    }
    by = "clean, 3 fake"
    code = {**line, "measured_by": by, "paper": "75", "protocol": "of a re-run", "source": "a/b"}
    paper = {**line, "measured_by": by, "paper": "77.2", "protocol": "120 <b> 140", "source": "arXiv:2007.15651"}
    changed = {**code, "run": "e x", "changes": "seed=1", "measured": "", "measured_by": "", "metric": "is"}
    second = {**code, "metric": "is", "paper": "1.5", "measured": "", "measured_by": ""}
    bare = {**line, "run": "f", "experiment": "f", "metric": "", "paper": "", "protocol": "", "source": ""}
    rows = [code, paper, second, changed, {**bare, "measured": ""}]
    page = reproductions_page(Path(), rows, record="reproductions.csv")
    text = page.read_text()
    facts = list(FACTS.values())
    assert cells(text) == [
        ["experiment", "metric", "paper", "reference code", "here", "step", *FACTS],
        ["e", "fid", "77.2 120 <b> 140; arXiv:2007.15651", "75 of a re-run; a/b", f"3 {by}", "7", *facts],
        ["is", "", "1.5 of a re-run; a/b", "not measured", "7"],  # Of the same run.
        ["e with seed=1", "is", "", "75 of a re-run; a/b", "not measured", "7", *facts],
        ["f", "", "", "", "no reference value", "7", *facts],
    ]
    assert re.findall('rowspan="(.*?)"', text) == ["2"] * 6 + ["1"] * 12
    addresses = re.findall('href="(.*?)"', text)
    assert {"reproductions.csv", "e/index.html", "e%20x/index.html", "https://github.com/a/b"} <= set(addresses)


def test_the_page_of_all_runs_links_to_reproductions_if_there_are_any() -> None:
    write_home(Path())
    assert "reproductions.html" not in Path("index.html").read_text()
    reproductions_page(Path(), [], record="reproductions.csv")
    write_home(Path())
    assert 'href="reproductions.html"' in Path("index.html").read_text()
    assert 'href="index.html"' in Path("reproductions.html").read_text()
