"""An objective that a run will not log is refused before its first step, with the nearest name."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import TINY, assert_mentions

from gantrain.cli.main import main
from gantrain.training import names

UNMEASURED = [word for word in TINY if word != "metrics=none"]


def refused(*typed: str) -> bool:
    """Whether a dry run with these settings is refused, with nothing but the message."""
    status = main(["train", *UNMEASURED, "data.max_size=70", "dry_run=true", *typed])
    assert status in (0, 2)
    assert not Path("checkpoints").exists()
    return status == 2


@pytest.mark.parametrize(
    ("metric", "typed", "words"),
    [
        ("fod", ["metrics=fid"], ["'fid'"]),
        ("gg", ["metrics=none"], ["'g'"]),
        ("held_out_acuracy", ["model=sgan", "metrics=none"], ["'held_out_accuracy'"]),
        ("kid", ["metrics=fid"], ["metrics=kid", "'fid'"]),
        ("precision", ["metrics=none"], ["metrics=prdc", "d_fake, d_real, g, lr_discriminator, lr_generator"]),
        ("fid_class_3", ["metrics=fid"], ["d_fake, d_real, fid, g"]),  # Its images have no classes.
        ("fid_class_10", ["model=cgan", "metrics=fid"], ["'fid_class_1'"]),
        ("fid", ["data.max_size=1"], ["metrics=fid", "d_fake"]),  # The default metric can't be measured.
    ],
)
def test_an_objective_that_is_never_logged_is_refused(metric: str, typed: list[str], words: list[str], capsys) -> None:
    assert refused(f"objective.metric={metric}", *typed)
    assert_mentions(capsys.readouterr().err, f"objective.metric={metric} is not logged", *words)


@pytest.mark.parametrize(
    "typed",
    [
        ["objective.metric=d_real", "metrics=none"],
        ["objective.metric=lr_generator", "metrics=none"],
        ["objective.metric=held_out_accuracy", "model=sgan", "metrics=none"],
        ["objective.metric=gradient_penalty", "model=wgan_gp", "metrics=none"],
        ["objective.metric=accuracy", "model=cgan", "metrics=fid"],
        ["objective.metric=fid_class_3", "model=cgan", "metrics=fid"],
        ["objective.metric=kid_unbiased", "metrics=[fid,kid]", "metrics.samples=64"],
    ],
)
def test_every_kind_of_logged_value_may_be_the_objective(typed: list[str]) -> None:
    assert not refused(*typed)


@pytest.mark.usefixtures("few_digits")
def test_the_objective_of_a_translation_has_its_direction(capsys) -> None:
    small = ["data.load_size=32", "data.crop_size=32", "network.width=2", "data.max_size=null"]
    data = ["model=cyclegan", "data=digits2stripes", *small, "metrics=fid", "metrics.channels=[0]"]
    assert not refused(*data, "metrics.features=digits", "objective.metric=fid_b_to_a")
    assert refused(*data, "metrics.features=digits", "objective.metric=fid_b_to_b")
    assert "'fid_b_to_a'" in capsys.readouterr().err


def test_a_misspelt_name_in_a_file_is_refused(capsys) -> None:
    Path("conf/experiment").mkdir(parents=True)
    Path("conf/experiment/own.yaml").write_text("# @package _global_\nobjective:\n  metric: gg\n")
    typed = ["train", "--config-dir", "conf", *TINY, "trainer.steps=1", "name=run", "experiment=own"]
    assert main(typed) == 2
    assert_mentions(capsys.readouterr().err, "objective.metric=gg", "'g'")


PLUGIN = """
from gantrain.models.latent import CGAN
from gantrain.registry import MODELS

@MODELS.register("lazy")
class Lazy(CGAN):
    def train_step(self, batches, update):
        losses = super().train_step(batches, update)
        own = {"lazy": losses["g"]} if update.step % 16 == 0 else {}
        return losses | own | ({"late": losses["g"]} if update.step > 1000 else {})

    def evaluate(self, batches):
        return {"held_out_images": float(sum(len(batch["image"]) for batch in batches))}
"""


def test_the_losses_of_a_plug_in_are_known_too(monkeypatch, capsys) -> None:
    Path("lazy_model.py").write_text(PLUGIN)
    Path("conf/model").mkdir(parents=True)
    Path("conf/model/lazy.yaml").write_text("# @package _global_\ndefaults:\n  - cgan\nmodel:\n  name: lazy\n")
    monkeypatch.syspath_prepend(str(Path.cwd()))
    typed = ["train", "--config-dir", "conf", *TINY, "plugins=[lazy_model]", "model=lazy", "dry_run=true"]
    for metric in ("lazy", "late", "held_out_images"):
        assert main([*typed, f"objective.metric={metric}"]) == 0
    assert main([*typed, "objective.metric=lasy"]) == 2
    assert_mentions(capsys.readouterr().err, "objective.metric=lasy", "'lazy'")


def test_without_a_trial_step_a_run_ends_at_its_first_logs(monkeypatch, capsys) -> None:
    def fail(parts: object) -> None:
        raise ValueError("needs 4 images")

    monkeypatch.setattr(names, "trial_names", fail)
    every = ["trainer.steps=9", "trainer.log_every=2", "trainer.image_every=3", "name=run"]
    assert main(["train", *TINY, *every, "objective.metric=gg"]) == 2
    assert_mentions(capsys.readouterr().err, "objective.metric=gg", "'g'")
    assert Path("checkpoints/run/losses.jsonl").read_text().count("\n") == 1  # Of step 2; step 3 has none held out.
    assert main(["train", *TINY, *every, "objective.metric=g"]) == 0


def test_a_trial_step_leaves_the_run_as_it_is(train) -> None:
    settings = ["model=sgan", "trainer.steps=3", "trainer.log_every=1"]
    train("one", *settings, "objective.metric=g")
    train("other", *settings)
    one, other = (Path(f"checkpoints/{name}/losses.jsonl").read_text() for name in ("one", "other"))
    assert one == other
