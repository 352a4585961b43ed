"""The memory of a step is estimated from trial steps, and a batch that does not fit is refused before the first."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY

from gantrain.cli.main import main
from gantrain.data.stream import BatchStream
from gantrain.training import footprint

GIB = 2**30
LARGER = ["data.load_size=32", "data.crop_size=32"]
SIZES = [word for word in TINY if "batch_size" not in word]


def activations(capsys: pytest.CaptureFixture[str], *typed: str) -> float:
    """The bytes for activations that a dry run prints."""
    sizes = [word for word in SIZES if "width" not in word or "model=gan" not in typed]  # Which has no such width.
    assert main(["train", *sizes, "dry_run=true", *typed]) == 0
    number, unit = re.findall(r"([0-9.,]+) (MiB|GiB) for the activations", capsys.readouterr().out)[0]
    return float(number.replace(",", "")) * (GIB if unit == "GiB" else 2**20)


@pytest.mark.usefixtures("few_digits")
@pytest.mark.parametrize("typed", [["model=dcgan"], ["model=wgan_gp"], ["model=pix2pix", *LARGER]])
def test_the_estimate_is_linear_in_the_batch(typed: list[str], capsys) -> None:
    few, many = (activations(capsys, *typed, f"data.batch_size={size}") for size in (8192, 65536))
    assert many == pytest.approx(8 * few, rel=0.05)


def test_the_estimate_is_right_within_reason(capsys) -> None:
    """A fully connected critic and generator without norm, whose tensors can be counted by hand."""
    layers = ["network.{0}.hidden=500", "network.{0}.num_layers=1"]
    typed = ["model=gan", *(layer.format(side) for side in ("generator", "discriminator") for layer in layers)]
    count = 1000
    found = activations(capsys, *typed, f"data.batch_size={count}") / count
    image, hidden = 4 * 16 * 16, 4 * 500
    assert found > 2 * hidden + 2 * image  # What every backward pass of it needs.
    assert found < 20 * (hidden + image)


@pytest.mark.usefixtures("few_digits")
@pytest.mark.parametrize(
    ("typed", "shapes"),
    [
        (["model=cut"], ["(N, 3, 32, 32)  (N, 3, 32, 32)", "(N, 3, 32, 32)  (N, 1, 2, 2)"]),
        (
            ["model=pix2pix", "network.discriminator.scales=2", "network.discriminator.layers=1"],
            ["(N, 1, 32, 32)  (N, 1, 32, 32)", "(N, 2, 32, 32)  (N, 1, 14, 14), (N, 1, 6, 6)"],
        ),
    ],
)
def test_shapes_are_shown_of_networks_with_several_outputs(typed: list[str], shapes: list[str], capsys) -> None:
    assert main(["train", "dry_run=true", "network.width=4", *typed]) == 0
    shown = re.findall(r"^(?:generator|discriminator) +(\(N.*?\)) +[\d,]+$", capsys.readouterr().out, re.MULTILINE)
    assert [" ".join(line.split()) for line in shown] == [" ".join(line.split()) for line in shapes]


def test_a_dry_run_reads_no_whole_batch(monkeypatch, capsys) -> None:
    monkeypatch.setattr(BatchStream, "__next__", None)
    assert activations(capsys, "data.batch_size=1000000") > GIB


@pytest.mark.usefixtures("few_digits")
@pytest.mark.parametrize("model", ["dcgan", "wgan_gp", "infogan", "cyclegan"])
def test_a_batch_that_does_not_fit_is_refused_with_one_that_does(model: str, monkeypatch, capsys) -> None:
    monkeypatch.setattr(footprint, "free_on", lambda device: GIB)
    typed = [*SIZES, f"model={model}", *(LARGER if model == "cyclegan" else [])]
    with monkeypatch.context() as patch:
        patch.setattr(BatchStream, "__next__", None)  # Nothing of its size is read.
        assert main(["train", *typed, "data.batch_size=1000000"]) == 2
    message = capsys.readouterr().err
    (fits,) = re.findall(
        r"^gantrain: data\.batch_size=1000000: .*1\.0 GiB are free .*data\.batch_size=(\d+) fits", message
    )
    assert message.count("\n") == 1
    assert not Path("checkpoints").exists()
    checked: list[Any] = []
    monkeypatch.setattr("gantrain.train._run", lambda *parts: checked.append(parts) or 0)
    assert main(["train", *typed, f"data.batch_size={fits}"]) == 0
    assert checked


def test_networks_that_do_not_fit_are_refused_without_proposing_a_batch(monkeypatch, capsys) -> None:
    monkeypatch.setattr(footprint, "free_on", lambda device: 1000)
    assert main(["train", *TINY]) == 2
    message = capsys.readouterr().err
    assert "network.width" in message
    assert "fits" not in message


def test_a_dry_run_says_what_does_not_fit(monkeypatch, capsys) -> None:
    monkeypatch.setattr(footprint, "free_on", lambda device: GIB)
    assert main(["train", *SIZES, "dry_run=true", "data.batch_size=1000000"]) == 0
    assert re.search(r"too large .*data\.batch_size=\d+ fits", capsys.readouterr().out)


def test_ranks_share_the_memory_of_a_machine_and_the_batch(monkeypatch) -> None:
    monkeypatch.setattr(footprint, "free_on", lambda device: GIB)
    one = footprint.Footprint(weights=0.0, fixed=0.0, per_image=2**20, batches=1, shapes={})
    cpu = torch.device("cpu")
    assert not one.problem(1024, cpu, ranks=1, ranks_here=1)
    assert not one.problem(1024, cpu, ranks=2, ranks_here=2)
    assert not one.problem(2048, cpu, ranks=2, ranks_here=1)
    assert "data.batch_size=1024 fits" in one.problem(4096, cpu, ranks=2, ranks_here=1)
    assert "data.batch_size=512 fits" in one.problem(4096, cpu, ranks=2, ranks_here=2)


def test_ordinary_runs_need_no_trial_step(monkeypatch) -> None:
    monkeypatch.setattr(footprint, "measure", None)
    assert main(["train", *TINY, "trainer.steps=1"]) == 0
