"""Shards at URLs: the same batches as from a disk, errors of storages, and what is kept on the disk."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from batches import batches
from conftest import assert_same_bits
from file_server import serving
from sharded import made, names, pack, png, refusal, shards

from gantrain.data.images import remote
from gantrain.data.sets import tar_samples
from gantrain.data.settings import DataSettings
from gantrain.errors import ConfigError

pytestmark = pytest.mark.usefixtures("shard_indices")


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> fsspec.AbstractFileSystem:
    """An empty ``memory://bucket``; transient errors are not waited for."""
    monkeypatch.setattr(remote, "WAITS", (0, 0))
    files = fsspec.filesystem("memory")
    files.store.clear()
    files.pseudo_dirs[:] = [""]
    return files


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    pytest.importorskip("aiohttp")
    monkeypatch.setattr(remote, "WAITS", (0, 0))
    with serving(tmp_path) as server:
        yield server


def test_batches_equal_those_of_the_same_shards_on_a_disk(
    tmp_path: Path, bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tar_samples, "AT_ONCE", 700)  # Bytes, fewer than a header and an image.
    made(tmp_path / "in/train", 12)
    made(tmp_path / "in/test", 2, phase="test")
    bucket.put(str(tmp_path / "in"), "/bucket/in", recursive=True)
    for phase in ("train", "test"):
        here, there = shards(tmp_path / "in", phase=phase), shards("memory://bucket/in", phase=phase)
        assert_same_bits([*batches(here)], [*batches(there)])
        assert here.fingerprint == there.fingerprint
        assert here.held_out == there.held_out is True
        assert here.spec == there.spec
    wanted = names(shards(tmp_path / "in/train/part-*.tar"))
    for root in ("part-*.tar", "part-{000..002}.tar", ""):
        assert names(shards(f"memory://bucket/in/train/{root}")) == wanted


def test_what_is_kept_is_read_again_and_bounded(
    tmp_path: Path, bucket: Any, cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack(tmp_path / "x.tar", [(f"{number}.png", png(number)) for number in range(12)])
    bucket.put(str(tmp_path / "x.tar"), "/bucket/x.tar")
    read: list[int] = []
    cat = type(bucket).cat_file
    monkeypatch.setattr(type(bucket), "cat_file", lambda *words, **keys: read.append(1) or cat(*words, **keys))
    data = {"mode": "shards", "root": "memory://bucket/x.tar", "channels": 1, "load_size": 28, "crop_size": 28}
    data |= {"crop": "center", "flip": False, "preprocess": None, "range": None, "depth": "auto", "decoder": "exact"}

    def items(limit: float, mode: str = "auto") -> list[Any]:
        dataset = DataSettings.split({**data, "cache": mode, "cache_limit": limit / 1e9}).build(phase="train")
        dataset = pickle.loads(pickle.dumps(dataset))
        read.clear()
        return [dataset.item(index, 0)["image"] for index in range(12)]

    def stored() -> dict[Path, int]:
        return {path: path.stat().st_size for path in (cache_folder / "ranges").rglob("*") if path.is_file()}

    wanted = items(1e6, "off")
    assert len(read) == 12
    assert not stored()
    assert_same_bits(items(1e6), wanted)
    assert len(read) == 12
    assert_same_bits(items(1e6), wanted)
    assert not read
    first, second, *_, damaged = sorted(stored())
    first.write_bytes(first.read_bytes()[:-1])  # As a full disk may leave it.
    second.write_bytes(b"")
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    assert_same_bits(items(1e6), wanted)
    assert len(read) == 3
    limit = 6 * max(stored().values())
    assert_same_bits(items(limit), wanted)  # The first one that is stored makes room.
    for path in stored():
        path.unlink()
    assert_same_bits(items(limit), wanted)
    assert 0 < sum(stored().values()) <= limit


def test_a_replaced_shard_is_not_read_from_what_was_kept(tmp_path: Path, bucket: Any) -> None:
    for number in (1, 2):
        pack(tmp_path / "x.tar", [("a.png", png(number))])
        bucket.put(str(tmp_path / "x.tar"), "/bucket/x.tar")
        there = shards("memory://bucket/x.tar")
        there.readers["image"].source.keep(1e6)
        assert_same_bits(there.item(0, 0), shards(tmp_path / "x.tar").item(0, 0))
    again = pickle.loads(pickle.dumps(there))
    again.readers["image"].source.keep(0)
    bucket.touch("/bucket/x.tar")
    with pytest.raises(ConfigError, match=r"memory://bucket/x.tar/a.png: the shard was changed"):
        again.item(0, 0)


@pytest.mark.parametrize(
    ("root", "parts"),
    [
        ("s3://key:secret@bucket/x.tar", ["data.root=s3://bucket/x.tar: ", "pip install 'gantrain[s3]'"]),
        ("gs://bucket", ["data.root=gs://bucket: ", "pip install 'gantrain[gcs]'"]),
        ("nowhere://bucket", ["data.root=nowhere://bucket: ", "s3://"]),
        ("memory://bucket/none", ["data.root: can't read memory://bucket/none: ", "no such"]),
        ("memory://bucket/none.tar", ["data.root: can't read memory://bucket/none.tar: ", "no such"]),
        ("memory://bucket/b*.tar", ["no shard matches memory://bucket/b*.tar"]),
        ("memory://bucket/a.tar.gz", ["memory://bucket/a.tar.gz is compressed"]),
        ("memory://bucket", ["memory://bucket/a.tar.gz is compressed"]),
        ("memory://bucket/empty", ["no .tar files in memory://bucket/empty"]),
    ],
)
def test_a_url_that_cannot_be_read_is_named_without_credentials(root: str, parts: list[str], bucket: Any) -> None:
    bucket.pipe({"/bucket/a.tar.gz": b"x", "/bucket/empty/a.txt": b"x"})
    message = refusal(root)
    assert "secret" not in message
    for part in parts:
        assert part in message


def test_transient_errors_are_tried_again_and_others_end_in_a_line(tmp_path: Path, web: Any) -> None:
    made(tmp_path / "in", 3)
    url = f"{web.url.replace('//', '//user:secret@')}/in/part-000.tar?signature=secret"
    there = shards(url)
    wanted = [*batches(shards(tmp_path / "in/part-000.tar"))]
    for failures in ([503, 503], ["cut", 429]):
        web.failures[:] = failures
        assert_same_bits([*batches(there)], wanted)
        assert not web.failures
    for failures, reason in (([500] * 9, "500 "), (["cut"] * 9, "can't read"), (["always 401"], "credentials")):
        web.failures[:] = failures
        with pytest.raises(ConfigError) as error:
            there.item(0, 0)
        assert str(error.value).startswith(f"data.root: can't read {web.url}/in/part-000.tar: ")
        assert reason in str(error.value)
        assert "secret" not in str(error.value)
    web.failures.clear()
    web.ranges = False
    assert "ranges of bytes" in refusal(url)
    assert "no such file" in refusal(f"{web.url}/in/none.tar")
    web.ranges = True
    assert_same_bits([*batches(shards(f"{web.url}/in/part-*.tar"))], wanted)


def test_a_lost_storage_ends_a_run_that_skips_broken_images(tmp_path: Path, web: Any) -> None:
    made(tmp_path / "in", 9)
    there = shards(f"{web.url}/in")
    web.failures[:] = [503] * 99
    with pytest.raises(ConfigError, match=rf"^data.root: can't read {web.url}/in/part-00\d.tar: 503"):
        [*batches(there, num_workers=1, on_error="skip")]
