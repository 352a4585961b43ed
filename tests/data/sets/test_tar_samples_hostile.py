"""Headers of tar files that were made to do harm."""

from __future__ import annotations

import tarfile
import tracemalloc
from pathlib import Path

import pytest
from sharded import refusal

pytestmark = pytest.mark.usefixtures("shard_indices")


def header(kind: bytes, size: int, name: str = "1.png") -> bytes:
    """A header block of any type and size."""
    member = tarfile.TarInfo(name)
    member.type = kind
    block = bytearray(member.tobuf(tarfile.GNU_FORMAT)[:512])
    block[124:136] = b"%011o\0" % size if size < 8**11 else b"\x80" + size.to_bytes(11, "big")
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def pax(**fields: str) -> bytes:
    """A pax header with its records."""
    records = b""
    for key, value in fields.items():
        text = f" {key}={value}\n"
        length = next(n for n in range(len(text), len(text) + 9) if n == len(f"{n}{text}"))
        records += f"{length}{text}".encode()
    return header(tarfile.XHDTYPE, len(records)) + records + bytes(-len(records) % 512)


HOSTILE = {
    **{f"a pax size of {size:.3g}": pax(size=str(size)) + header(b"0", 0) for size in (2**40, 2**63, 2**64, 10**30)},
    "a pax size of 5000 digits": pax(size="9" * 5000) + header(b"0", 3) + b"abc" + bytes(509),
    "a size of 2^80": header(b"0", 2**80),
    **{f"8 GB of holes of type {kind.decode()}": header(kind, 8 << 30) for kind in (b"L", b"K", b"x", b"g", b"X")},
    "a chain of long names": header(b"L", 0) * 4000,
    "a chain of pax headers": pax(comment="x") * 4000,
    "a chain of global headers": header(b"g", 0) * 4000,
    "a sparse map without an end": header(b"S", 0) + b"\xff" * 4096,
    "a sparse map of 10^9": pax(**{"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}) + header(b"0", 512) + b"9" * 512,
}


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_hostile_headers_are_refused_in_a_short_line(tmp_path: Path, content: bytes, first: bool) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes((b"" if first else header(b"0", 0, "0.txt")) + content)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size + (9 << 30))
    tracemalloc.start()
    try:
        message = refusal(path)
        assert tracemalloc.get_traced_memory()[1] < 100 << 20
    finally:
        tracemalloc.stop()
    assert str(path) in message
    assert len(message) < 700
