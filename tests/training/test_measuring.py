"""Runs that measure their images: the best checkpoint, patience, and runs that end in between."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import TINY, assert_mentions, assert_same_bits
from pages import data_of, lines_of

from gantrain.checkpoints.store import Checkpoints
from gantrain.cli.main import main
from gantrain.metrics.measure import Measurement, MeasurementError
from gantrain.models.base import GAN

RUN = Path("checkpoints/run")
MEASURED = [*(word for word in TINY if word != "metrics=none"), "data.max_size=70", "metrics=fid", "metrics.samples=64"]
MEASURED += ["metrics.every=2", "objective.metric=fid", "trainer.log_every=1", "trainer.save_every=3"]


def train(*typed: str, name: str = "run") -> int:
    return main(["train", *MEASURED, f"name={name}", *typed])


def measured(run: Path = RUN) -> dict[int, float]:
    """The FID by step."""
    return {line["step"]: line["fid"] for line in map(json.loads, (run / "metrics.jsonl").open())}


def replaced(monkeypatch: pytest.MonkeyPatch, value_at: Callable[[int], float]) -> None:
    """Replace the metric's values: ``value_at`` is given the number of the measurement, from 0."""
    count = iter(range(1000))
    monkeypatch.setattr(Measurement, "__call__", lambda self, model: {"fid": value_at(next(count))})


def test_the_best_checkpoint_has_the_weights_that_were_measured(capsys) -> None:
    assert train("trainer.steps=6") == 0
    values = measured()
    assert list(values) == [2, 4, 6]
    best = min(values, key=lambda step: values[step])
    assert Checkpoints(RUN).load("best")["step"] == best
    shown = capsys.readouterr().err
    for step, value in values.items():
        assert f"Step {step}: fid {value:.4g} (digits " in shown
    assert main(["evaluate", "run=run", "step=best"]) == 0
    (line,) = map(json.loads, (RUN / "evaluations.jsonl").open())
    assert line["step"] == best
    assert line["fid"] == pytest.approx(values[best], rel=1e-9)
    assert_mentions(line["protocol"], "64 fake vs 70 train", f"step {best}")


def test_numbers_are_on_the_page_with_their_protocol() -> None:
    assert train("model=cgan", "trainer.steps=2") == 0
    (line,) = lines_of(RUN, "metrics")
    assert {"fid", "accuracy", "fid_class_0"} <= line.keys()
    assert "seed 0" in line["protocol"]
    assert "accuracy" in data_of(RUN, "status")["higher"]


def test_a_checkpoint_is_saved_at_the_step_of_the_best_value(monkeypatch) -> None:
    replaced(monkeypatch, lambda number: [5.0, 3.0, 4.0][number])
    assert train("trainer.steps=6", "trainer.keep=0", "trainer.save_every=5") == 0
    assert Checkpoints(RUN).steps() == [2, 4, 5, 6]
    assert Checkpoints(RUN).load("best")["step"] == 4
    assert Checkpoints(RUN).load("best")["objective"]["best"] == 3.0


def test_a_run_killed_in_a_measurement_ends_with_the_same_best(monkeypatch) -> None:
    assert train("trainer.steps=8", name="whole") == 0
    original, calls = Measurement.__call__, []

    def killed(self: Measurement, model: GAN) -> dict[str, float]:
        calls.append(model)
        if len(calls) == 3:
            raise RuntimeError("killed")
        return original(self, model)

    monkeypatch.setattr(Measurement, "__call__", killed)
    with pytest.raises(RuntimeError, match="killed"):
        train("trainer.steps=8")
    assert train("trainer.steps=8") == 0
    whole = Path("checkpoints/whole")
    assert measured() == measured(whole)
    for step in ("best", 8):
        one, other = (Checkpoints(run).load(step) for run in (RUN, whole))
        for state in (one, other):
            del state["config"], state["overrides"], state["segments"]
        assert_same_bits(one, other)


def test_a_run_stops_when_it_improves_no_more(monkeypatch, capsys) -> None:
    replaced(monkeypatch, lambda number: abs(1.0 - number))
    assert train("trainer.steps=40", "objective.patience=3") == 0
    assert list(measured()) == [2, 4, 6, 8, 10]
    status = data_of(RUN, "status")
    assert (status["state"], status["step"]) == ("stopped", 10)
    assert_mentions(status["reason"], "no better fid for 3 measurements")
    assert_mentions(capsys.readouterr().err, "step 10", "no better fid for 3", "objective.patience=6")
    assert Checkpoints(RUN).load("best")["step"] == 4
    assert train("trainer.steps=40", "objective.patience=3") == 0  # It has stopped, and is not trained further.
    assert list(measured()) == [2, 4, 6, 8, 10]
    assert "objective.patience=6" in capsys.readouterr().err
    assert train("trainer.steps=40", "objective.patience=4") == 0
    assert list(measured()) == [2, 4, 6, 8, 10, 12]


def test_patience_counts_the_same_in_an_interrupted_run(monkeypatch) -> None:
    replaced(monkeypatch, lambda number: [1.0, 2.0, 3.0][number])
    assert train("trainer.steps=6", "objective.patience=4") == 0
    replaced(monkeypatch, lambda number: 9.0)
    assert main(["resume", "checkpoints/run", "trainer.steps=40"]) == 0
    assert list(measured()) == [2, 4, 6, 8, 10]


def test_a_measurement_that_fails_is_a_warning(monkeypatch, capsys) -> None:
    def failing(self: Measurement, model: GAN) -> dict[str, float]:
        raise MeasurementError("OSError: gone")

    monkeypatch.setattr(Measurement, "__call__", failing)
    assert train("trainer.steps=4") == 0
    assert_mentions(capsys.readouterr().err, "warning: the metrics of step 2 are missing: OSError: gone")
    assert not (RUN / "best.pt").exists()


@pytest.mark.parametrize("typed", [["metrics.samples=1"], ["metrics.weights=nix", "metrics.channels=[4]"]])
def test_a_wrong_setting_is_refused_before_the_first_step(typed: list[str], capsys) -> None:
    assert train("trainer.steps=2", *typed) == 2
    assert "metrics." in capsys.readouterr().err
    assert not Path("checkpoints").exists()


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (["metrics=none", "metrics.every=1"], ["metrics.every=1", "no metrics are chosen"]),
        (["metrics=none", "objective.patience=2"], ["objective.patience=2", "objective.metric"]),
        (["metrics=[fid]", "objective.metric=fid_a_to_b"], ["objective.metric=fid_a_to_b", "d_real, fid"]),
        (["metrics=none", "objective.mode=max"], ["objective.mode=max", "objective.metric"]),
        (["metrics=[fid]", "metrics.features=digits", "metrics.weights=x"], ["metrics.weights=x", "digits"]),
        (["metrics=[fid]", "metrics.resize=clean"], ["metrics.resize=clean", "digits", "metrics.features=inception"]),
        (["metrics=[swd]", "metrics.samples=64", "metrics.features=digits"], ["metrics.features=digits", "needs"]),
    ],
)
def test_a_key_without_effect_is_refused(typed: list[str], words: list[str], capsys) -> None:
    tiny = [word for word in TINY if not word.startswith("metrics")]
    assert main(["train", *tiny, "trainer.steps=1", *typed]) == 2
    assert_mentions(capsys.readouterr().err, *words)
    assert list(Path().iterdir()) == []


def test_default_metrics_are_left_out_where_they_can_not_be_measured() -> None:
    tiny = [word for word in TINY if not word.startswith("metrics")]
    assert main(["train", *tiny, "name=run", "trainer.steps=1", "data.max_size=1"]) == 0
    assert not (RUN / "metrics.jsonl").exists()


def test_another_protocol_starts_the_best_value_anew(capsys) -> None:
    assert train("trainer.steps=4") == 0
    capsys.readouterr()
    assert train("trainer.steps=6", "metrics.samples=32") == 0
    assert_mentions(capsys.readouterr().err, "fid was measured in another way before", "64 fake vs 70 train")
    assert Checkpoints(RUN).load("best")["step"] == 6


def test_only_the_value_of_a_measurement_is_the_best_so_far(capsys) -> None:
    assert train("trainer.steps=6", "objective.metric=g", "trainer.log_every=2") == 0
    assert "the best so far" not in capsys.readouterr().err


def test_metrics_may_be_added_to_a_run() -> None:
    assert main(["train", *TINY, "name=run", "trainer.steps=2"]) == 0
    assert train("trainer.steps=4", "data.max_size=null") == 0
    assert list(measured()) == [4]


def test_the_built_in_digits_are_measured_by_default() -> None:
    typed = [word for word in TINY if word != "metrics=none"]
    assert main(["train", *typed, "name=run", "trainer.steps=1", "metrics.samples=64"]) == 0
    assert list(measured()) == [1]
    assert (RUN / "best.pt").exists()


@pytest.mark.usefixtures("few_digits")
def test_each_direction_of_a_translation_is_measured() -> None:
    data = ["model=cyclegan", "data=digits2stripes", "data.load_size=32", "data.crop_size=32"]
    small = ["network.width=2", "network.generator.blocks=1", "data.batch_size=2", "trainer.steps=1"]
    chosen = ["metrics=fid", "metrics.features=digits", "metrics.channels=[0]"]
    assert main(["train", *data, *small, "name=run", *chosen]) == 0
    (line,) = map(json.loads, (RUN / "metrics.jsonl").open())
    assert {"fid_a_to_b", "fid_b_to_a"} <= line.keys()
    assert_mentions(line["protocol"], "a_to_b: 11 fake vs 9 test", "b_to_a: 9 fake vs 11 test")


@pytest.mark.usefixtures("few_digits")
def test_the_only_direction_of_unpaired_domains_is_named() -> None:
    data = ["model=fastcut", "data=digits2stripes", "data.load_size=32", "data.crop_size=32", "model.nce_layers=[0,4]"]
    small = ["network.width=2", "network.generator.blocks=1", "data.batch_size=2", "trainer.steps=1"]
    chosen = ["metrics=fid", "metrics.features=digits", "metrics.channels=[0]"]
    assert main(["train", *data, *small, "name=run", *chosen]) == 0
    (line,) = map(json.loads, (RUN / "metrics.jsonl").open())
    assert {key for key in line if key.startswith("fid")} == {"fid_a_to_b"}


@pytest.mark.usefixtures("few_digits")
def test_pairs_are_all_compared_and_features_of_as_many_as_asked(capsys) -> None:
    data = ["model=pix2pix", "data=edges2digits", "data.load_size=32", "data.crop_size=32", "network.width=2"]
    chosen = ["metrics=[fid,l1,psnr]", "metrics.features=digits", "metrics.channels=[0]"]
    small = ["data.batch_size=2", "trainer.steps=1", "trainer.accelerator=cpu", "name=run", "objective.metric=l1"]
    assert main(["train", *data, *small, *chosen, "metrics.samples=3"]) == 0
    pairs = 20  # Held out of the few digits.
    limited = json.loads((RUN / "metrics.jsonl").read_text())
    assert_mentions(limited["protocol"], f"3 fake vs {pairs} test, {pairs} pairs")
    capsys.readouterr()
    assert main(["evaluate", "run=run", f"metrics.samples={pairs}"]) == 0
    (whole,) = map(json.loads, (RUN / "evaluations.jsonl").open())
    assert_mentions(whole["protocol"], f"{pairs} fake vs {pairs} test, step")
    assert {name: whole[name] for name in ("l1", "psnr")} == {name: limited[name] for name in ("l1", "psnr")}
    assert whole["fid"] != limited["fid"]
    assert main(["evaluate", "run=run", "metrics=l1", "metrics.samples=3"]) == 2
    assert_mentions(capsys.readouterr().err, "metrics.samples=3 has no effect", "all pairs")
