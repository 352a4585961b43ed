"""Cached images are bit-identical to decoded ones, in training too."""

from __future__ import annotations

import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from batches import batches
from cached_images import DISK, cached, dataset, items, only_file
from conftest import assert_same_bits, newest

from gantrain.cli.main import main
from gantrain.data.base import Selection
from gantrain.data.images import cache
from gantrain.data.images.cache import Cache
from gantrain.data.images.reader import ImageReader
from gantrain.data.settings import DataSettings

pytestmark = pytest.mark.usefixtures("image_cache")


MODES = ["resize_and_crop", "crop", "scale_width", "scale_width_and_crop", "scale_shortside_and_crop", "none"]


@pytest.mark.parametrize("settings", [DISK, Cache(cache="memory")], ids=["disk", "memory"])
@pytest.mark.parametrize("preprocess", MODES)
@pytest.mark.parametrize("kind", ["single", "side_by_side", "folders", "unaligned"])
def test_items_are_bit_identical_and_need_no_files(kind: str, preprocess: str, settings: Cache) -> None:
    plain = items(dataset(kind, preprocess=preprocess))
    images = cached(dataset(kind, preprocess=preprocess), settings)
    shutil.rmtree("data")
    assert_same_bits(items(images), plain)


@pytest.mark.parametrize("decoder", ["exact", "fast", "draft"])
@pytest.mark.parametrize("depth", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("kind", ["single", "side_by_side", "unaligned"])
def test_every_depth_is_stored_without_loss(kind: str, depth: str, decoder: str) -> None:
    plain = items(dataset(kind, depth=depth, decoder=decoder))
    images = cached(dataset(kind, depth=depth, decoder=decoder))
    shutil.rmtree("data")
    again = items(images)
    assert again[0]["image" if kind == "single" else "a"].dtype == getattr(torch, depth)
    assert_same_bits(again, plain)


@pytest.mark.parametrize("channels_b", [1, 3])
def test_halves_of_pairs_are_stored_together_if_settings_are_equal(channels_b: int, image_cache: Path) -> None:
    plain = items(dataset("side_by_side", channels_b=channels_b))
    images = cached(dataset("side_by_side", channels_b=channels_b))
    assert len(list(image_cache.iterdir())) == (1 if channels_b == 3 else 2)
    shutil.rmtree("data")
    assert_same_bits(items(images), plain)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_batches_do_not_depend_on_workers_or_resumption(workers: int) -> None:
    expected = [*batches(dataset("unaligned"), batch_size=3)]
    images = cached(dataset("unaligned"))
    shutil.rmtree("data")
    assert_same_bits([*batches(images, num_workers=workers, batch_size=3)], expected)
    assert_same_bits([*batches(images, num_workers=workers, batch_size=3, start=4, count=3)], expected[4:7])


@pytest.mark.parametrize("settings", [DISK, Cache(cache="memory")], ids=["disk", "memory"])
def test_a_spawned_worker_reads_the_cache(settings: Cache) -> None:
    images = cached(dataset("single"), settings)
    shutil.rmtree("data")
    assert_same_bits(items(pickle.loads(pickle.dumps(images))), items(images))


def test_a_spawned_worker_decodes_images_if_the_cache_was_deleted(image_cache: Path) -> None:
    images = cached(dataset("single"))
    plain, sent = items(images), pickle.dumps(images)
    shutil.rmtree(image_cache)
    assert_same_bits(items(pickle.loads(sent)), plain)


def test_only_the_items_of_a_selection_are_stored(monkeypatch) -> None:
    plain = items(dataset("single"))
    (Path("data") / "2.png").write_bytes(b"")  # It could not be decoded.
    images = Selection(Selection(dataset("single"), [0, 7, 3, 5]), [1, 3, 3])
    images.use_cache(DISK)
    some = [images.item(index, 1) for index in range(3)]
    assert_same_bits(some, [plain[14], plain[10], plain[10]])
    monkeypatch.setattr(ImageReader, "decoded", lambda *_: pytest.fail("decoded again"))
    assert_same_bits([images.item(index, 1) for index in range(3)], some)
    reader = images._dataset._dataset._reader
    assert [reader._store.get(index) is None for index in (0, 3, 4, 5, 6, 7)] == [True, True, True, False, True, False]


@pytest.mark.parametrize("part", [lambda whole: whole.first(2), lambda whole: whole.sample(0.5, 3)])
def test_a_subset_of_two_sets_is_stored(part: Callable) -> None:
    plain = items(part(dataset("unaligned")))
    images = cached(part(dataset("unaligned")))
    shutil.rmtree("data")
    assert_same_bits(items(images), plain)
    assert_same_bits(items(images.of_domain("b")), items(images.of_domain("b")))


# ---- the command


def train(*typed: str) -> int:
    tiny = ["data=single", "data.root=data", "data.load_size=16", "data.batch_size=4", "network.width=2", "name=run"]
    return main(["train", *tiny, "trainer.accelerator=cpu", "data.num_workers=0", "trainer.steps=2", *typed])


@pytest.mark.parametrize("mode", ["disk", "memory"])
def test_training_fills_the_cache_and_is_bit_identical(mode: str, image_cache: Path) -> None:
    dataset("single")
    assert train("data.cache=off") == 0
    assert not image_cache.exists()
    wanted = newest("run")["model"]
    assert train(f"data.cache={mode}", "resume=never") == 0
    assert image_cache.exists() == (mode == "disk")
    assert_same_bits(newest("run")["model"], wanted)


def test_a_run_resumes_with_another_cache(image_cache: Path) -> None:
    dataset("single")
    assert train("trainer.steps=4", "data.cache=off") == 0
    wanted = newest("run")["model"]
    assert train("resume=never", "data.cache=memory") == 0
    assert train("trainer.steps=4", "data.cache=disk") == 0
    only_file(image_cache)
    assert_same_bits(newest("run")["model"], wanted)


def test_dry_runs_tests_and_finished_runs_do_not_fill_the_cache(image_cache: Path, capsys) -> None:
    dataset("single")
    assert train("data.cache=disk", "dry_run=true") == 0
    assert train("data.cache=off") == 0
    assert train("data.cache=disk") == 0
    assert main(["test", "run=checkpoints/run", "num=2"]) == 0, capsys.readouterr().err
    assert not image_cache.exists()


def test_a_cache_without_space_leaves_the_old_run(image_cache: Path, capsys) -> None:
    dataset("single")
    assert train("data.cache=off") == 0
    assert train("data.cache=disk", "data.cache_limit=1e-9", "resume=never") == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith("gantrain: data.cache=disk: ")
    assert "data/0.png" in message
    assert "data.cache_limit is 1e-09" in message
    assert newest("run")["step"] == 2


def test_auto_does_not_store_images_that_are_decoded_quickly(image_cache: Path, monkeypatch) -> None:
    dataset("single")
    assert train() == 0
    assert not image_cache.exists()
    monkeypatch.setattr(cache, "MIN_DECODE_SECONDS", 0)
    assert train("resume=never") == 0
    only_file(image_cache)


@pytest.mark.parametrize(
    ("typed", "pattern"),
    [
        ("data.cache=ram", "data.cache: .* 'auto', 'disk', 'memory', 'off', got 'ram'"),
        ("data.cache_limit=0", "data.cache_limit: .* above 0, got 0"),
    ],
)
def test_invalid_settings_are_refused(typed: str, pattern: str, capsys) -> None:
    dataset("single")
    assert train(typed) == 2
    assert re.fullmatch(f"gantrain: {pattern}\n", capsys.readouterr().err)


def test_yaml_off_is_accepted() -> None:
    assert DataSettings.split({"cache": False, "mode": "single"}).cache == Cache(cache="off")
