"""Caches without space, memory or permission, and images that can't be decoded."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cached_images import DISK, cached, dataset, decoded_images, items, only_file
from conftest import assert_same_bits

from gantrain.data.images import cache
from gantrain.data.images.cache import GB, Cache
from gantrain.errors import ConfigError
from gantrain.runtime.mapped_file import MappedFileWriter

pytestmark = pytest.mark.usefixtures("image_cache")


# ---- limits and failures


REMEDIES = ("set data.cache=off", "GANTRAIN_CACHE to a folder on a larger disk")


def refusal(settings: Cache) -> str:
    """The error of caching with these settings, in one line."""
    with pytest.raises(ConfigError) as caught:
        cached(dataset("single"), settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def unused_cache_warning(capsys, monkeypatch: pytest.MonkeyPatch) -> str:
    """The warning of ``data.cache=auto`` that no cache is used."""
    monkeypatch.setattr(cache, "MIN_DECODE_SECONDS", 0)
    images = cached(dataset("single"), Cache(cache="auto"))
    decoded = decoded_images(monkeypatch)
    images.item(0, 1)
    assert decoded == [0]
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_disk_without_space_is_reported_with_sizes(monkeypatch, image_cache: Path, capsys) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10_000))
    message = refusal(DISK)
    for part in ("data.cache=disk", "data/0.png", "9.6e-06 GB", f"{image_cache}", "1e-05 GB", *REMEDIES):
        assert part in message
    warning = unused_cache_warning(capsys, monkeypatch)
    assert warning.startswith("warning: data.cache=auto: ")
    assert warning.endswith(message.removeprefix("data.cache=disk: "))
    assert not list(image_cache.iterdir())


def test_a_limit_that_is_too_low_is_reported_with_sizes(image_cache: Path) -> None:
    message = refusal(Cache(cache="disk", cache_limit=9.5e-6))
    for part in ("data.cache=disk", "data/0.png", "9.6e-06 GB", f"{image_cache}", "data.cache_limit is 9.5e-06"):
        assert part in message
    assert "raise it to 1, or set data.cache=off" in message


@pytest.mark.parametrize("call", ["os.fsync", "gantrain.runtime.mapped_file.MappedFileWriter.append"])
def test_a_disk_that_fills_up_stores_nothing(call: str, monkeypatch, image_cache: Path, capsys) -> None:
    append, sizes = MappedFileWriter.append, []

    def full(*arguments: Any) -> None:
        sizes.append(1)
        if call == "os.fsync" or len(sizes) % 4 == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        append(*arguments)

    monkeypatch.setattr(call, full)
    message = refusal(DISK)
    for part in ("data.cache=disk", f"{image_cache}", "No space left on device", *REMEDIES):
        assert part in message
    assert not list(image_cache.iterdir())
    warning = unused_cache_warning(capsys, monkeypatch)
    assert warning.startswith("warning: data.cache=auto: ")
    assert warning.endswith(message.removeprefix("data.cache=disk: "))


def test_a_folder_that_is_a_file_is_reported(monkeypatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("GANTRAIN_CACHE", str(tmp_path / "file"))
    message = refusal(DISK)
    for part in ("data.cache=disk", f"{tmp_path}/file/images", "Not a directory", *REMEDIES):
        assert part in message


def test_the_memory_limit_holds_for_both_domains_together() -> None:
    images = dataset("unaligned")  # 4.8 kB each
    assert cached(images, Cache(cache="memory", cache_limit=9.7e-6)).in_memory
    with pytest.raises(ConfigError, match=r"^data\.cache=memory: data/trainB/0\.png and .* 4\.7e-06 GB are available"):
        dataset("unaligned").use_cache(Cache(cache="memory", cache_limit=9.5e-6))


def test_too_little_memory_is_reported_with_sizes(monkeypatch) -> None:
    message = refusal(Cache(cache="memory", cache_limit=9e-6))
    for part in ("data.cache=memory", "data/0.png", "9.6e-06 GB", "9e-06 GB are available"):
        assert part in message
    assert message.endswith("set data.cache=disk or off, or a smaller data.load_size")
    monkeypatch.setattr(cache, "free_memory", lambda: 10_000)
    assert "8e-06 GB are available" in refusal(Cache(cache="memory"))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")  # Each process has its own copy.
    assert "4e-06 GB are available" in refusal(Cache(cache="memory"))
    assert cache.free_memory() == 10_000


def test_the_least_recently_used_cache_is_evicted_unless_in_use(image_cache: Path) -> None:
    held = cached(dataset("single", load_size=17))
    oldest = only_file(image_cache)
    made = [oldest]
    for number in (18, 19):
        cached(dataset("single", load_size=number))
        made += set(image_cache.iterdir()) - set(made)
    for age, path in enumerate(reversed(made)):
        os.utime(path, (10**9 - age, 10**9 - age))
    cached(dataset("single", load_size=18))  # Now it is the most recently used one.
    sizes = sum(path.stat().st_size for path in made)
    cached(dataset("single", load_size=20), Cache(cache="disk", cache_limit=(sizes + 5000) / GB))
    now = set(image_cache.iterdir())
    assert [path in now for path in made] == [True, True, False]
    assert len(now) == 3
    assert_same_bits(items(held), items(dataset("single", load_size=17)))


def test_files_that_another_process_removes_are_ignored(image_cache: Path) -> None:
    image_cache.mkdir()
    for name in ("gone.images", "gone.images.1.tmp"):
        (image_cache / name).symlink_to("nowhere")
    images = cached(dataset("single"))
    assert images.in_memory


def test_no_cache_is_evicted_if_space_would_still_be_too_small(image_cache: Path) -> None:
    cached(dataset("single"))
    larger = dataset("single", load_size=40)
    with pytest.raises(ConfigError, match=r"data\.cache_limit is 2e-05: raise it"):
        cached(larger, Cache(cache="disk", cache_limit=2e-5))
    only_file(image_cache)


@pytest.mark.parametrize("mode", ["disk", "memory"])
def test_a_corrupt_image_is_an_error_or_skipped(mode: str, image_cache: Path, monkeypatch) -> None:
    plain = items(dataset("single"))
    Path("data/3.png").write_bytes(Path("data/3.png").read_bytes()[:100])
    assert refusal(Cache(cache=mode)).startswith("can't read the image data/3.png: ")
    assert not image_cache.exists() or not list(image_cache.iterdir())
    monkeypatch.setattr(cache, "SAMPLE_SIZE", 1)  # Now it is found after the sample.
    assert refusal(Cache(cache=mode)).startswith("can't read the image data/3.png: ")
    assert not image_cache.exists() or not list(image_cache.iterdir())
    images = cached(dataset("single"), Cache(cache=mode, skips=True))
    with pytest.raises(ConfigError, match=r"^can't read the image data/3\.png: "):
        images.item(3, 1)
    assert_same_bits([images.item(index, 1) for index in (2, 4)], [plain[4], plain[8]])


@pytest.mark.parametrize("mode", ["disk", "memory"])
def test_a_stopped_build_leaves_no_files(mode: str, image_cache: Path) -> None:
    asked: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        cached(dataset("single"), Cache(cache=mode, stop=lambda: asked.append(1) or len(asked) > 3))
    assert not image_cache.exists() or not list(image_cache.iterdir())
