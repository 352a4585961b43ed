"""Loading tensors from files of anyone: no code runs, and no more memory is taken than the file has bytes."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from typing import IO, Any

import torch

MAX_REPEATED = 1 << 30  # Bytes of tensors that are larger than what is stored of them.


class BombError(ValueError):
    """A file asks for much more memory than it has bytes."""


def load_bounded(file: IO[bytes]) -> Any:
    """``torch.load`` on the CPU of tensors and plain values.

    Raises:
        BombError: Records of the archive are compressed or shared, which torch never writes, or tensors of more
            than ``MAX_REPEATED`` bytes repeat what is stored of them.
        Exception: torch raises anything for arbitrary bytes.
    """
    size = file.seek(0, os.SEEK_END)
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            records = archive.infolist()
        if any(record.compress_type != zipfile.ZIP_STORED for record in records):
            raise BombError("its records are compressed")
        if sum(record.file_size for record in records) > size:
            raise BombError("its records are larger than the file")
    file.seek(0)
    content = torch.load(file, map_location="cpu", weights_only=True)
    tensors = (each for each in _tensors(content) if each.layout == torch.strided)
    if sum(each.nbytes for each in tensors if each.nbytes > each.untyped_storage().nbytes()) > MAX_REPEATED:
        raise BombError("its tensors repeat a few values, and would fill the memory")
    return content


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    unvisited, seen = [value], set[int]()
    while unvisited:
        each = unvisited.pop()
        if isinstance(each, torch.Tensor):
            yield each
        elif isinstance(each, (dict, list, tuple)) and id(each) not in seen:
            seen.add(id(each))
            unvisited += each.values() if isinstance(each, dict) else each
