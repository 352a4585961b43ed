"""Images of a stream that decodes JPEGs after they are in a batch, beside those of one that decodes them before.

The CPU stands in for the GPU: torchvision decodes there as well, by the same call.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gantrain.data.images import deferred
from gantrain.data.images.store import DecodeJob
from gantrain.data.settings import DataSettings
from gantrain.data.stream import BatchStream
from gantrain.errors import ConfigError
from gantrain.runtime.seeding import derive_seed

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _cpu_as_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deferred, "check_decoder", lambda device: None)


def photo(path: Path, height: int, width: int, *, channels: int = 3, **saved: Any) -> None:
    """Smooth colours, which differ at every pixel and between files."""
    rows, columns = np.linspace(0, 3, height)[:, None], np.linspace(0, 4, width)
    phase = derive_seed(path.name) % 100
    planes = [np.sin(rows * (k + 1) + columns + phase) * 100 + 128 for k in range(channels)]
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.stack(planes, 2).astype(np.uint8)
    Image.fromarray(pixels[..., 0] if channels == 1 else pixels).save(path, **saved)


def batches(tmp_path: Path, device: str, count: int = 2, **data: Any) -> Iterator[dict[str, Any]]:
    """The first batches of a run with ``data.decode_device=device``."""
    values = {
        "mode": "single",
        "root": str(tmp_path),
        "list": None,
        "channels": 3,
        "load_size": [40, 36],
        "crop_size": 32,
        "crop": "random",
        "flip": True,
        "preprocess": "resize_and_crop",
        "range": None,
        "depth": "auto",
        "decoder": "exact",
        "batch_size": 4,
        "num_workers": 0,
        "decode_device": device,
        **data,
    }
    settings = DataSettings.split({key: value for key, value in values.items() if value != "absent"})
    dataset = settings.build(phase="train")
    stream = BatchStream(dataset, seed=3, device=CPU, dtype=torch.float64, channels_last=False, **settings.stream)
    try:
        for _ in range(count):
            yield next(stream)
    finally:
        stream.close()


def assert_alike(tmp_path: Path, levels: float = 4, **data: Any) -> None:
    """Equal names and labels, and images whose values differ by less than ``levels`` of 255."""
    for on_cpu, on_gpu in zip(batches(tmp_path, "cpu", **data), batches(tmp_path, "cuda", **data), strict=True):
        assert on_cpu.keys() == on_gpu.keys()
        for key, expected in on_cpu.items():
            if key in ("image", "a", "b"):
                assert on_gpu[key].shape == expected.shape
                assert (on_gpu[key] - expected).abs().max() * 127.5 < levels, key
            else:
                assert list(on_gpu[key]) == list(expected)


@pytest.mark.parametrize("workers", [0, 2])
def test_photos_of_any_size_have_the_same_crops_flips_and_labels(tmp_path: Path, workers: int) -> None:
    for number in range(6):
        photo(tmp_path / f"{'ab'[number % 2]}/{number}.jpg", 50 + 9 * number, 90 - 7 * number, quality=95)
    assert_alike(tmp_path, num_workers=workers)


@pytest.mark.parametrize("preprocess", [None, "crop", "scale_width_and_crop"])
def test_every_mode_that_crops_scales_alike(tmp_path: Path, preprocess: str | None) -> None:
    for number in range(4):
        photo(tmp_path / f"{number}.jpg", 60, 48 + number, channels=1, quality=95)
    assert_alike(tmp_path, preprocess=preprocess, channels=1, max_size=3)


def test_what_the_gpu_would_read_otherwise_is_decoded_before(tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    photo(tmp_path / "turned.jpg", 40, 60, exif=turned, quality=95)
    photo(tmp_path / "plain.jpg", 40, 60, quality=95)
    photo(tmp_path / "gray.jpg", 40, 60, channels=1, quality=95)
    photo(tmp_path / "lossless.png", 40, 60)
    Image.new("CMYK", (60, 40), (10, 60, 110, 30)).save(tmp_path / "inks.jpg", quality=95)
    contents = {path.name: deferred.jpeg_size(path.read_bytes(), 3) for path in tmp_path.iterdir()}
    assert {name for name, size in contents.items() if size} == {"plain.jpg"}
    assert contents["plain.jpg"] == (40, 60)
    assert_alike(tmp_path, batch_size=5)


def test_both_halves_of_a_pair_are_decoded_once_and_cropped_alike(tmp_path: Path, monkeypatch) -> None:
    from torchvision import io

    for number in range(4):
        photo(tmp_path / f"train/{number}.jpg", 48, 88, quality=95)
    counts = []
    decode_jpeg = io.decode_jpeg
    monkeypatch.setattr(
        io, "decode_jpeg", lambda files, **others: counts.append(len(files)) or decode_jpeg(files, **others)
    )
    pairs = {"mode": "aligned", "direction": "b_to_a", "channels_b": 3, "range_b": None}
    assert_alike(tmp_path, **pairs, list="absent", crop="absent")
    assert counts == [4, 4, 4, 4]  # Of two batches, each with the halves A and B.


def test_unpaired_photos_are_drawn_alike(tmp_path: Path) -> None:
    for number in range(5):
        photo(tmp_path / f"trainA/{number}.jpg", 48, 50, quality=95)
        photo(tmp_path / f"trainB/{number}.jpg", 60, 44, quality=95)
    two = {"mode": "unaligned", "direction": "a_to_b", "channels_b": 3, "range_b": None, "serial": False}
    assert_alike(tmp_path, **two, list="absent", crop="absent")


def test_corrupt_photos_are_reported_or_skipped_as_without_it(tmp_path: Path) -> None:
    for number in range(4):
        photo(tmp_path / f"{number}.jpg", 48, 50, quality=95)
    whole = (tmp_path / "2.jpg").read_bytes()
    (tmp_path / "2.jpg").write_bytes(whole[: len(whole) // 2])
    assert deferred.jpeg_size(whole, 3) == (48, 50)
    assert deferred.jpeg_size(whole[: len(whole) // 2], 3) is None
    with pytest.raises(ConfigError, match=r"2\.jpg"):
        list(batches(tmp_path, "cuda"))
    assert_alike(tmp_path, on_error="skip")


def test_a_batch_that_the_gpu_fails_at_is_decoded_by_the_cpu(tmp_path: Path, monkeypatch, capsys) -> None:
    from torchvision import io

    for number in range(4):
        photo(tmp_path / f"{number}.jpg", 48, 50, quality=95)

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("unsupported sampling")

    monkeypatch.setattr(io, "decode_jpeg", fail)
    assert_alike(tmp_path, levels=1e-9)
    error = capsys.readouterr().err
    assert error.count("data.decode_device=cuda") == 1
    assert "unsupported sampling" in error


def test_running_out_of_memory_is_no_fault_of_an_image(tmp_path: Path, monkeypatch) -> None:
    photo(tmp_path / "0.jpg", 48, 50)

    def fail(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(deferred, "decode_deferred", fail)
    with pytest.raises(torch.OutOfMemoryError):
        list(batches(tmp_path, "cuda"))


def test_a_cache_of_images_decoded_by_the_cpu_contradicts_it() -> None:
    with pytest.raises(ConfigError, match="data.cache=disk.*data.decode_device=cuda"):
        DataSettings.split({"mode": "single", "cache": "disk", "decode_device": "cuda"})
    cache = DataSettings.split({"mode": "single", "cache": "auto", "decode_device": "cuda"}).cache
    job = DecodeJob("photos", dict, np.arange(1), decode=lambda _: pytest.fail("decoded"))
    assert cache.get_or_build(job) is None
    assert cache.bytes_of_files > 0  # Of files at a URL, which are as they were.


def test_data_without_image_files_is_refused() -> None:
    settings = DataSettings.split({"mode": "digits", "load_size": 32, "batch_size": 4})
    with pytest.raises(ConfigError, match="data.decode_device=cuda"):
        BatchStream(
            settings.build(phase="train"),
            **{"seed": 0, "num_workers": 0, "device": CPU, "dtype": torch.float32, "channels_last": False},
            **settings.stream,
            decode_device="cuda",
        )
