"""Features of real images in the cache: computed once, resumed, bounded, and recognised as those of other images."""

from __future__ import annotations

import os

import pytest
from conftest import assert_mentions
from measurable import KEYS, Numbered, measurement, model
from tiny import CPU

from gantrain.data.base import Batch, Selection
from gantrain.errors import ConfigError
from gantrain.metrics import reference
from gantrain.metrics.base import MeasurementError
from gantrain.metrics.build import build_measurement
from gantrain.runtime.atomic import cache_dir, file_lock


def test_real_images_are_read_once_and_again_when_they_change() -> None:
    dataset = Numbered(70)
    dataset.fingerprint = "read once"
    gan = model(dataset)
    first = measurement(dataset)(gan)
    assert sorted(dataset.read) == list(range(70))
    assert measurement(dataset)(gan) == first
    assert len(dataset.read) == 70
    dataset.fingerprint = "other images"
    assert measurement(dataset)(gan) == first
    assert len(dataset.read) == 140


def test_interrupted_features_are_continued() -> None:
    whole, dataset = Numbered(150), Numbered(150)
    whole.fingerprint = "undisturbed"
    item = dataset.item

    def interrupted(index: int, seed: int) -> Batch:
        if index == 140:
            raise KeyboardInterrupt
        return item(index, seed)

    dataset.item = interrupted  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        measurement(dataset)(model(dataset))
    dataset.read.clear()
    dataset.item = item  # type: ignore[method-assign]
    assert measurement(dataset)(model(dataset)) == measurement(whole)(model(whole))
    assert sorted(dataset.read) == list(range(128, 150))  # The first two blocks were stored.


def test_flipped_bits_are_found_and_the_features_computed_again() -> None:
    dataset = Numbered(70)
    dataset.fingerprint = "flipped"
    gan = model(dataset)
    before = set((cache_dir() / "features").glob("*.features"))
    expected = measurement(dataset)(gan)
    (path,) = {*(cache_dir() / "features").glob("*.features")} - before
    content = path.read_bytes()
    for position in range(0, len(content), len(content) // 10):
        damaged = bytearray(content)
        damaged[position] ^= 1
        path.write_bytes(damaged)
        dataset.read.clear()
        assert measurement(dataset)(gan) == expected
        assert sorted(dataset.read) == list(range(70))


def test_images_that_training_repeats_or_hides_are_measured_once() -> None:
    dataset = Numbered(40)
    half = Selection(dataset, range(40), known=range(4))
    assert len(half) > 40
    real = measurement(half).comparisons[0].real
    assert "150 fake vs 40 train" in measurement(half).protocol(averaged=False)
    assert real.labels is not None
    assert real.labels.tolist() == dataset.labels


def test_data_without_a_stamp_are_told_apart_by_their_root() -> None:
    first, other = Numbered(30), Numbered(30)
    first.fingerprint = other.fingerprint = ""
    read = []
    for dataset, root in ((first, "one"), (other, "other")):
        measured = build_measurement(KEYS, {"mode": "mine", "root": root}, model(dataset), dataset, None, CPU)
        assert measured is not None
        measured(model(dataset))
        read.append(len(dataset.read))
    assert read == [30, 30]


def test_unreadable_images_are_left_out_and_the_rest_is_stored() -> None:
    dataset = Numbered(30)
    dataset.fingerprint = "with an unreadable image"
    item = dataset.item

    def broken(index: int, seed: int) -> Batch:
        if index == 7:
            raise ConfigError("unreadable")
        return item(index, seed)

    dataset.item = broken  # type: ignore[method-assign]
    measured = build_measurement(KEYS, {"mode": "mine"}, model(dataset), dataset, None, CPU, on_error="skip")
    assert measured is not None
    assert measured.features is not None
    found = measured.real_features(measured.features, measured.comparisons[0].real)
    assert found.labels is not None
    assert found.labels.tolist() == [label for number, label in enumerate(dataset.labels) if number != 7]
    dataset.read.clear()
    measured.real_features(measured.features, measured.comparisons[0].real)
    assert dataset.read == []
    dataset.fingerprint = "strictly"
    with pytest.raises(MeasurementError, match="unreadable"):
        measurement(dataset)(model(dataset))


def test_a_full_disk_is_a_warning(monkeypatch, capsys) -> None:
    dataset = Numbered(30)
    dataset.fingerprint = "on a full disk"

    class Full:
        name = "there"

        def write(self, data: bytes) -> int:
            raise OSError(28, "No space left on device")

    append = reference._append
    monkeypatch.setattr(reference, "_append", lambda file, rows: append(Full() if file else None, rows))
    assert "fid" in measurement(dataset)(model(dataset))
    assert_mentions(capsys.readouterr().err, "warning: ", "No space left on device")


def test_the_least_recently_used_features_are_deleted_beyond_a_limit(monkeypatch) -> None:
    sets = {name: Numbered(30) for name in ("first", "second", "third")}
    for name, dataset in sets.items():
        dataset.fingerprint = f"limited {name}"
    gan = model(sets["first"])
    folder = cache_dir() / "features"
    for path in folder.glob("*"):
        path.unlink()  # Of other tests.
    measurement(sets["first"])(gan)
    measurement(sets["second"])(gan)
    old, new = sorted(folder.glob("*.features"), key=lambda path: path.stat().st_mtime_ns)
    os.utime(new, (1, 1))
    os.utime(old, (2, 2))
    being_computed, abandoned = folder / "other.part", folder / "killed.part"
    for path in (being_computed, abandoned):
        path.write_bytes(b"0" * 10)
        os.utime(path, (0, 0))
    monkeypatch.setattr(reference, "LIMIT", 2 * old.stat().st_size + 15)
    with file_lock(being_computed):
        measurement(sets["third"])(gan)
    left = set(folder.iterdir())
    assert {old, being_computed} < left
    assert not {new, abandoned} & left
    assert len(left) == 3
