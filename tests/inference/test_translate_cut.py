"""CUT and FastCUT from folders of images to translated files."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import assert_same_bits, newest, stop_after
from translated import RESNET, SIZES, layout

import gantrain
from gantrain.cli.main import main

LAYERS = "model.nce_layers=[0,4,8,12]"  # Layer 16 of a generator with one block belongs to its decoder.


@pytest.mark.parametrize("model", ["cut", "fastcut"])
def test_it_resumes_bit_identically_and_translates_one_way(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layout(Path("made"), 64, trainA=5, trainB=3, testA=2, testB=3)
    command = ["train", f"model={model}", "data=horse2zebra", "data.root=made", *SIZES, *RESNET, LAYERS]
    command += ["trainer.steps=4", "trainer.image_every=2", "model.pool_size=1", "model.ema=0.5"]
    assert main([*command, "name=whole"]) == 0
    with monkeypatch.context() as patch:
        stop_after(3, patch)
        assert main([*command, "name=parts"]) == 130
    assert main([*command, "name=parts"]) == 0
    whole, parts = newest("whole"), newest("parts")
    assert parts["step"] == 4
    for key in ("position", "model", "updates", "ranks"):
        assert_same_bits(parts[key], whole[key], key)
    assert any(key.startswith("head.") for key in whole["model"])
    assert main(["test", "run=whole", "accelerator=cpu", "out=mine"]) == 0
    assert sorted({path.parent.name for path in Path("mine").rglob("*.png")} & {"fake_a", "fake_b"}) == ["fake_b"]
    assert main(["predict", "run=whole", "source=made/testA", "out=made/zebras", "accelerator=cpu"]) == 0
    assert len(list(Path("made/zebras").iterdir())) == 2
    assert gantrain.load("checkpoints/whole").module.directions == ("a_to_b",)
