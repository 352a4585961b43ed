"""The networks of dcgan at a size that is no power of two, from training to a file of ONNX."""

from __future__ import annotations

from pathlib import Path

import pytest
from data_check import save
from PIL import Image

from gantrain.cli.main import main


@pytest.mark.parametrize("size", [(28, 36)])
def test_dcgan_trains_tests_and_exports_at_any_size(size: tuple[int, int]) -> None:
    for number in range(4):
        save(f"pics/{number}.png", number, size=size)
    height, width = size
    data = ["data=single", "data.root=pics", f"data.load_size=[{height},{width}]", "data.num_workers=0"]
    typed = ["model=dcgan", *data, "data.batch_size=4", "network.width=4", "metrics=none", "trainer.accelerator=cpu"]
    assert main(["train", *typed, "name=run", "trainer.epochs=null", "trainer.steps=2"]) == 0
    assert main(["test", "run=run"]) == 0
    assert main(["predict", "run=run", "num=2", "out=samples"]) == 0
    assert {Image.open(path).size for path in Path("samples").glob("*.png")} == {(width, height)}
    assert main(["export", "run=run", "format=onnx", "out=run.onnx"]) == 0  # It compares with the run.
