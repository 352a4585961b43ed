"""Shards of images that can't be decoded, and what an index of them contains."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from gantrain.data.sets.shard_index import Member, ShardIndex
from gantrain.data.sets.tar_samples import Shard


def made(folder: Path, *counts: int, size: int = 3) -> list[Shard]:
    """Shards of so many samples each, of an image of ``size`` bytes with a label; no image can be decoded."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, count in enumerate(counts):
        with tarfile.open(folder / f"{number}.tar", "w", format=tarfile.USTAR_FORMAT) as archive:
            for sample in range(count):
                for kind, content in (("png", b"%d" % (sample % 10) * size), ("cls", b"%d" % (sample % 7))):
                    member = tarfile.TarInfo(f"{sample:06}.{kind}")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
    return listed(folder)


def listed(folder: Path) -> list[Shard]:
    return [Shard.at(path) for path in sorted(folder.glob("*.tar"))]


def rows(index: ShardIndex) -> list[tuple[Member, str, int]]:
    return [(index[number], index.name(number), int(index.labels[number])) for number in range(len(index))]


def only(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path
