"""``gantrain benchmark``: several settings side by side, on data that needs no files, as text, CSV and page."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from conftest import TINY, assert_mentions

from gantrain.benchmarking import rates
from gantrain.cli.main import main

FEW = ["steps=1", "warmup=2"]


def test_every_combination_of_values_is_measured_and_compared(monkeypatch, capsys) -> None:
    monkeypatch.setattr(rates, "ROUNDS", 1)
    sizes = [word for word in TINY if "load_size" not in word]
    typed = [*sizes, *FEW, "data.crop_size=32", "model=colorization,pix2pix", "trainer.precision=float32,bfloat16"]
    assert main(["benchmark", *typed, "out=first"]) == 0
    rows = list(csv.DictReader(Path("first/benchmark.csv").read_text().splitlines()))
    assert [(each["model"], each["precision"]) for each in rows] == [
        (model, precision) for model in ("colorization", "pix2pix") for precision in ("float32", "bfloat16")
    ]
    assert [each["images"] for each in rows[::2]] == ["image 3x32x32", "a 1x32x32, b 1x32x32"]
    assert all(float(each["images_per_second"]) > 0 and float(each["peak_mib"]) > 100 for each in rows)
    assert all(float(each["product_gflop_per_second"]) > 0 for each in rows)
    assert {each["host_reads"] for each in rows} == {"0"}
    assert "colorization, bfloat16" in capsys.readouterr().out
    assert main(["benchmark", *typed, "out=second", "against=first/benchmark.csv"]) == 0
    operations = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("operations per step"))
    assert operations.count("(1.00 x)") == 4
    page = Path("second/index.html").read_text()
    assert all(text in page for text in ("colorization, bfloat16", "(1.00 x)", "benchmark.csv", "gantrain benchmark"))
    assert {path.name for path in Path().iterdir()} == {"first", "second"}


@pytest.mark.parametrize(
    ("typed", "mentioned"),
    [
        (["steps=0"], ["steps", "at least 1", "0"]),
        (["warmup=1"], ["warmup", "at least 2", "1"]),
        (["dry_run=true"], ["dry_run=true", "gantrain train"]),
        (["trainer.devices=2"], ["trainer.devices=2", "give 1"]),
        (["against=missing.csv"], ["against=missing.csv", "another benchmark"]),
        (["trainer.precision=float32,float33"], ["trainer.precision", "float33", "bfloat16"]),
        (["model=dcgan,dcgam"], ["model=dcgam", "dcgan"]),
        (["model=glob(l*)"], ["model=glob(l*)", "give model=A,B"]),
    ],
)
def test_mistakes_are_reported_in_one_line_before_anything_is_measured(typed, mentioned, capsys) -> None:
    assert main(["benchmark", *TINY, *FEW, *typed]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert_mentions(line, *mentioned)
    assert not Path("benchmark").exists()
