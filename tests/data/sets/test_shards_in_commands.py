"""Shards in ``gantrain train``, ``gantrain test`` and ``gantrain data check``."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY, assert_same_bits, newest
from PIL import Image
from sharded import made, pack, png, samples

from gantrain.cli.main import main

pytestmark = pytest.mark.usefixtures("shard_indices")


def test_data_check_counts_images_and_files_that_are_not_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "data"
    made(root / "train", 8)
    made(root / "test", 2, phase="test")
    keys = ["data=shards", f"data.root={root}", "data.channels=1", "data.load_size=28", "out=page"]
    assert main(["data", "check", *keys]) == 0
    out = capsys.readouterr().out
    assert re.search("^images +8 +2$", out, re.MULTILINE)
    assert "warning: files that" not in out
    pack(root / "train/more.tar", [("a.cls", b"0"), ("a.png", png(0)), ("a.json", b"{}"), ("b.v2.png", png(1))])
    pack(root / "test/more.tar", [("bad.cls", b"0"), ("bad.png", b"bad"), ("bad.json", b"{}")])
    assert main(["data", "check", *keys]) == 1
    out = capsys.readouterr().out
    assert re.search(r"^warning: files that are not read.*: \.json \(2\), \.v2\.png \(1\)$", out, re.MULTILINE)
    assert f"can't read the image {root}/test/more.tar/bad.png: " in out


def test_a_model_trains_and_resumes_on_shards_of_digits(train, capsys: pytest.CaptureFixture[str]) -> None:
    made(Path("data/train"), 60, each=25)
    made(Path("data/test"), 20, phase="test")
    keys = ["model=cgan", "data=shards", "data.root=data", "data.channels=1"]
    train("whole", *keys, "trainer.steps=4", "data.num_workers=2", "data.cache=off")
    train("halves", *keys, "trainer.steps=2", "data.cache=disk")
    train("halves", *keys, "trainer.steps=4", "data.cache=memory")
    assert_same_bits(newest("whole")["model"], newest("halves")["model"])
    assert main(["test", "run=checkpoints/whole"]) == 0
    capsys.readouterr()
    pack(Path("data/train/part-000.tar"), samples(range(70, 95)))
    assert main(["train", *TINY, *keys, "name=whole", "trainer.steps=6"]) == 2
    assert "\n  training images: 60 in the checkpoint, 60 of other names" in capsys.readouterr().err


def test_images_of_shards_are_translated_in_full_size(train) -> None:
    colour = []
    for number, size in enumerate([(40, 44), (36, 32)]):
        file = io.BytesIO()
        pixels = np.random.default_rng(number).integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(file, "PNG")
        colour.append((f"../{number}.png", file.getvalue()))
    pack(Path("data/x.tar"), colour)
    sizes = ["data.load_size=32", "data.crop_size=32", "data.batch_size=1"]
    train("run", "model=colorization", "data=shards", "data.root=data", *sizes, "trainer.steps=1")
    pack(Path("other/y-0.tar"), colour)
    test = ["test", "run=checkpoints/run", "data=shards", "accelerator=cpu"]
    assert main([*test, "data.root='other/y-{0..0}.tar'"]) == 0
    results = Path("checkpoints/run/results/test_1_shards_y-_0..0_.tar")
    made = {path.relative_to(results).as_posix(): Image.open(path).size for path in results.glob("fake_*/**/*.png")}
    assert {name.split("/", 1)[1]: size for name, size in made.items()} == {
        "y-0/0.png": (44, 40),
        "y-0/1.png": (32, 36),
    }
