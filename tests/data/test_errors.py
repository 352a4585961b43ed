"""Corrupt images end the run with their name, or are replaced by the next image, reproducibly."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import batches
import numpy as np
import pytest
import torch
from conftest import newest
from PIL import Image

from gantrain.cli.main import main
from gantrain.data.base import Batch, ImageDataset, ImageSpec
from gantrain.data.errors import Faults
from gantrain.data.images.convert import write_pixels
from gantrain.data.settings import build_dataset
from gantrain.data.stream import BatchStream, in_order
from gantrain.errors import ConfigError
from gantrain.runtime.seeding import derive_seed

CPU = torch.device("cpu")


class Corrupt(ImageDataset):
    """Items whose names contain their number and seed; some can't be read."""

    def __init__(self, size: int = 40, bad: Iterable[int] = (4, 5, 39)) -> None:
        self.size = size
        self.bad = set(bad)
        self.spec = ImageSpec(2, 2, {"image": 1}, {"image": "uint8"})

    def __len__(self) -> int:
        return self.size

    def item(self, index: int, seed: int) -> Batch:
        if index in self.bad:
            raise ConfigError(f"can't read the image {index}.png: truncated")
        return {"image": torch.zeros(1, 2, 2, dtype=torch.uint8), "label": index, "name": f"{index} by {seed}"}


def stream(dataset: ImageDataset | None = None, on_error: str = "skip", **keys: Any) -> BatchStream:
    return batches.stream(dataset or Corrupt(), on_error=on_error, **keys)


def names(opened: Iterable[Batch], count: int) -> list[str]:
    return [name for batch in islice(opened, count) for name in batch["name"]]


def test_the_next_readable_item_replaces_it_with_its_own_seed() -> None:
    intact = names(stream(Corrupt(bad=[])), 20)
    replacements = {4: 6, 5: 6, 39: 0}  # The first item follows the last.
    expected = []
    for place, name in enumerate(intact):
        index = int(name.split()[0])
        index = replacements.get(index, index)
        expected.append(f"{index} by {derive_seed(3, 'item', place // 40, index)}")
    assert names(stream(), 20) == expected


@pytest.mark.parametrize("position", [0, 7])
def test_replacements_do_not_depend_on_workers_ranks_or_resumption(position: int) -> None:
    expected = names(stream(), 20)[4 * position :]
    later = stream(num_workers=2)
    later.position = position
    assert names(later, 20 - position) == expected
    ranks = [stream(rank=rank, world_size=2) for rank in range(2)]
    for one in ranks:
        one.position = position
    shares = [[batch["name"] for batch in islice(one, 20 - position)] for one in ranks]
    assert [name for both in zip(*shares, strict=True) for share in both for name in share] == expected


@pytest.mark.parametrize("workers", [0, 2])
def test_each_bad_image_is_named_once_and_all_are_counted(workers: int) -> None:
    opened = stream(num_workers=workers)
    assert opened.faults.summary() == []
    list(islice(opened, 10))
    named = [f"warning: left out: can't read the image {index}.png: truncated" for index in (39, 4, 5)]
    assert opened.faults.news() == named
    list(islice(opened, 10))
    assert opened.faults.news() == []
    assert opened.faults.summary() == [
        "warning: bad images left out: 3; items replaced by their neighbours: 6"  # Three in each of two epochs.
    ]


def test_batches_have_no_other_keys() -> None:
    keys = {"image", "label", "name"}
    assert all(batch.keys() == keys for batch in islice(stream(), 10))


@pytest.mark.parametrize("workers", [0, 2])
def test_by_default_the_run_ends_with_the_images_name(workers: int) -> None:
    opened = stream(on_error="raise", num_workers=workers)
    with closing(opened), pytest.raises(ConfigError, match=r"^can't read the image (4|5|39)\.png: truncated$"):
        list(islice(opened, 10))
    assert opened.faults.summary() == []


@pytest.mark.parametrize("workers", [0, 1])
def test_a_hundred_consecutive_bad_images_are_an_error(workers: int) -> None:
    text = r"^data\.on_error=skip: 100 .*: can't read the image \d+\.png: truncated"
    opened = stream(Corrupt(size=1000, bad=range(1000)), num_workers=workers)
    with closing(opened), pytest.raises(ConfigError, match=text):
        next(opened)
    nearly = Corrupt(size=1000, bad=range(1, 100))  # 99 images
    assert {int(name.split()[0]) for name in names(stream(nearly, num_workers=workers), 250)}.isdisjoint(nearly.bad)


def test_more_than_a_tenth_of_bad_images_are_an_error() -> None:
    list(islice(stream(Corrupt(size=40, bad=range(0, 40, 10))), 30))
    limit = r"^data\.on_error=skip: 5 of 40 images .* at most 4 .* data check"
    with pytest.raises(ConfigError, match=limit):
        list(islice(stream(Corrupt(size=40, bad=range(0, 40, 8))), 10))


def test_one_bad_image_is_allowed_in_the_smallest_data_set() -> None:
    assert names(stream(Corrupt(size=3, bad=[1])), 1)


def test_bad_images_of_all_ranks_are_named_once(monkeypatch) -> None:
    faults = Faults(100, counted=True)
    faults.add([["b"], ["a", "b"]])
    others = {"list": ["b", "c"], "int": 3}
    monkeypatch.setattr("gantrain.runtime.distributed.gather_object", lambda item: [item, others[type(item).__name__]])
    assert faults.news() == [f"warning: left out: {image}" for image in "abc"]
    assert faults.summary() == ["warning: bad images left out: 3; items replaced by their neighbours: 5"]
    monkeypatch.setattr("gantrain.runtime.distributed.gather_object", lambda item: None)  # A rank other than 0.
    assert faults.summary() == []


def test_in_order_bad_images_are_an_error_or_left_out() -> None:
    def labels(dataset: Corrupt, on_error: str) -> list[int]:
        opened = in_order(dataset, 6, CPU, torch.float32, on_error=on_error)
        return [label for batch in opened for label in batch["label"].tolist()]

    assert labels(Corrupt(), "skip") == [index for index in range(40) if index not in (4, 5, 39)]
    with pytest.raises(ConfigError, match=r"^can't read the image 4\.png: truncated$"):
        labels(Corrupt(), "raise")
    with pytest.raises(ConfigError, match=r"^can't read the image 2\.png: truncated$"):  # There would be no batch.
        labels(Corrupt(size=3, bad=range(3)), "skip")


def images(folder: Path, count: int, truncated: int | None) -> None:
    """Create images of which one is truncated."""
    folder.mkdir()
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02}.png")
    if truncated is not None:
        path = folder / f"{truncated:02}.png"
        path.write_bytes(path.read_bytes()[:100])


def train(*typed: str) -> int:
    tiny = ["data=single", "data.root=photos", "data.load_size=32", "data.batch_size=4", "network.width=2", "name=run"]
    return main(["train", *tiny, "data.cache=off", "trainer.accelerator=cpu", "trainer.log_every=1", *typed])


@pytest.mark.parametrize("workers", [0, 1])
def test_a_run_skips_a_truncated_image_and_reports_it_at_once(workers: int, capfd) -> None:
    images(Path("photos"), 12, truncated=1)  # Three steps read all images.
    typed = [f"data.num_workers={workers}", "trainer.steps=7"]
    assert train(*typed) == 2
    assert capfd.readouterr().err.strip().splitlines()[-1].startswith("gantrain: can't read the image photos/01.png")
    assert train(*typed, "data.on_error=skip") == 0
    printed = capfd.readouterr().err
    assert printed.count("\rwarning: left out: can't read the image photos/01.png: ") == 1
    assert printed.index("left out") < printed.index(" 4/7 ")
    assert re.search(r"\rwarning: bad images left out: 1; items replaced by their neighbours: [23]\n", printed)
    assert newest("run")["step"] == 7


def read(mode: str, preprocess: str = "scale_width") -> ImageDataset:
    keys = {"mode": mode, "root": "photos", "channels": 1, "preprocess": preprocess, "load_size": 20, "crop_size": 12}
    keys |= {"flip": False, "range": None, "depth": "auto", "decoder": "exact"}
    if mode == "single":
        return build_dataset(keys | {"crop": "random", "list": None}, phase="train")
    keys |= {"direction": "a_to_b", "channels_b": 1, "range_b": None}
    return build_dataset(keys | ({"serial": True} if mode == "unaligned" else {}), phase="train")


@pytest.mark.parametrize("left", [0, 100])
@pytest.mark.parametrize("mode", ["single", "aligned", "unaligned"])
def test_the_first_image_may_be_truncated(mode: str, left: int) -> None:
    deep = np.random.default_rng(0).integers(0, 65536, (30, 40, 1), dtype=np.uint16)
    for folder in ("photos/trainA", "photos/trainB"):
        for number in range(3):
            write_pixels(Path(folder) / f"{number}.png", deep)
        first = Path(folder) / "0.png"
        first.write_bytes(first.read_bytes()[:left])  # The header has 60 bytes.
    dataset = read(mode)
    assert set(dataset.spec.depth.values()) == {"uint16"}
    assert (dataset.spec.height, dataset.spec.width) == (16, 20)
    with pytest.raises(ConfigError, match=r"^can't read the image photos/trainA/0\.png: "):
        dataset.item(0, 0)
    opened = list(islice(stream(dataset, batch_size=1), 3))
    assert not any(name.endswith("0.png") for batch in opened for name in batch["name"])


def test_a_name_of_two_lines_is_escaped_into_one() -> None:
    images(Path("photos"), 2, truncated=None)
    Path("photos/two\nlines\udcff.png").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"^can't read the image photos/two\\nlines\\udcff\.png: the file is "):
        read("single", "crop").item(2, 0)


@pytest.mark.parametrize("preprocess", ["scale_width", "crop"])
def test_if_no_image_can_be_read_the_first_is_named(preprocess: str) -> None:
    images(Path("photos"), 3, truncated=None)
    for path in Path("photos").iterdir():
        path.write_bytes(b"")
    with pytest.raises(ConfigError, match=r"^can't read the image photos/00\.png: the file is empty$"):
        read("single", preprocess)


def test_previews_of_training_images_skip_a_truncated_one() -> None:
    images(Path("photos"), 6, truncated=1)
    typed = ["model=colorization", "network/generator=unet_resize", "data.on_error=skip", "trainer.steps=1"]
    typed += ["data.preprocess=null", "data.crop_size=32"]
    assert train(*typed, "data.num_workers=0") == 0
    assert list(Path("checkpoints/run/images").glob("step_1_*.png"))


def test_a_run_may_resume_with_another_on_error() -> None:
    images(Path("photos"), 6, truncated=None)
    assert train("trainer.steps=1", "data.num_workers=0") == 0
    assert train("trainer.steps=2", "data.num_workers=0", "data.on_error=skip") == 0
    assert newest("run")["step"] == 2


def test_other_values_of_on_error_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"^data\.on_error: .* 'raise', 'skip', got 'ignore'$"):
        stream(on_error="ignore")


def test_of_many_new_errors_the_first_are_named_and_the_rest_counted() -> None:
    faults = Faults(1000, counted=True)
    faults.add([f"image {number:02}"] for number in range(25))
    lines = faults.news()
    assert lines[0] == "warning: left out: image 00"
    assert lines[-1] == "warning: left out: 15 more images"
    assert len(lines) == 11
    assert faults.news() == []
