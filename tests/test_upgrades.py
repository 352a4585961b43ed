"""Checkpoints of older formats."""

from __future__ import annotations

from gantrain.upgrades import FORMAT, upgraded


def test_keys_that_a_format_did_not_have_get_the_values_that_stood_for_them() -> None:
    config = {"network": {"width": 8}, "data": {"mode": "single", "root": "x"}}
    state = {"format": 1, "config": config, "spec": {"height": 16}, "step": 3}
    new = upgraded(state)
    assert new["format"] == FORMAT
    assert new["config"]["network"] == {"width": 8, "norm": "batch", "dropout": 0.0}
    assert new["config"]["data"] == {
        "mode": "single",
        "root": "x",
        "list": None,
        "fraction": None,
        "preprocess": None,
        "range": None,
        "depth": "auto",
        "decoder": "exact",
    }
    assert new["spec"] == {"height": 16, "ranges": {}}
    assert new["step"] == 3
    assert new["rollbacks"] == 0
    assert new["objective"]["best"] is None
    assert config == {"network": {"width": 8}, "data": {"mode": "single", "root": "x"}}  # the old one is left alone


def test_a_checkpoint_of_the_newest_format_stays_as_it_is() -> None:
    state = {"format": FORMAT, "config": {}}
    assert upgraded(state) is state
