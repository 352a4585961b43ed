"""Checkpoints of older formats."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from conftest import newest

from gantrain.checkpoints.upgrades import FORMAT, upgraded
from gantrain.cli.main import main

FORMATS = sorted(Path(__file__).parent.glob("format_*"))


def test_missing_keys_get_the_values_that_old_versions_had() -> None:
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
    assert config == {"network": {"width": 8}, "data": {"mode": "single", "root": "x"}}  # The old file is not changed.


def test_a_checkpoint_of_the_newest_format_is_not_changed() -> None:
    state = {"format": FORMAT, "config": {}}
    assert upgraded(state) is state


@pytest.mark.parametrize("mode", ["edges2digits", "digits2stripes", "aligned", "unaligned"])
def test_images_of_old_formats_were_decoded_exactly(mode: str) -> None:
    state = {"format": 2, "config": {"network": {}, "data": {"mode": mode}}, "spec": {}}
    assert upgraded(state)["config"]["data"] == {"mode": mode, "fraction": None, "decoder": "exact"}


def test_a_checkpoint_of_every_format_is_stored_here() -> None:
    formats = [torch.load(folder / "step_2.pt", weights_only=True)["format"] for folder in FORMATS]
    assert formats == list(range(1, FORMAT + 1))


@pytest.mark.parametrize("folder", FORMATS, ids=lambda folder: folder.name)
def test_a_run_of_every_format_resumes_by_its_own_command(folder: Path, capsys) -> None:
    overrides = torch.load(folder / "step_2.pt", weights_only=True)["overrides"]
    name = next(override for override in overrides if override.startswith("name=")).removeprefix("name=")
    shutil.copytree(folder, Path("checkpoints") / name)
    assert main(["train", *overrides]) == 0
    assert "is finished at step 2" in capsys.readouterr().err
    if newest(name)["config"]["schedule"]["name"] == "constant":
        assert main(["train", *overrides, "trainer.steps=3"]) == 0
        assert newest(name)["step"] == 3
        assert newest(name)["format"] == FORMAT
        assert torch.load(f"checkpoints/{name}/step_3.pt", weights_only=True)["format"] == FORMAT
