"""The pages of an LMDB file, read and verified without the library, which ends the process if one is damaged.

The layout is that of LMDB 0.9 on 64-bit little-endian machines (``mdb.c`` in https://git.openldap.org/openldap/openldap):
two meta pages, then the pages of B+ trees, and overflow pages for values that don't fit in a leaf.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import NamedTuple

# The magic number, the version, two fields for mapping, the trees of free pages and of the keys (page size or padding,
# flags, depth, three numbers of pages, entries, root), the last page and the transaction. It follows a page header.
META = struct.Struct("<II16x IHH24xQQ IHH24xQQ QQ")
META_START, MAGIC, VERSION = 16, 0xBEEFC0DE, 1
PAGE = struct.Struct("<QHHHH")  # Its number, padding, flags, and the ends of the offsets of nodes and of free space.
BRANCH, LEAF, KINDS = 0x01, 0x02, 0x6F
NODE = struct.Struct("<HHHH")  # The size of the value, low and high part; flags; the size of the key, which follows.
BIG = 0x01  # The flag of a value that is in overflow pages, of which the node has the first number.
NUMBER = struct.Struct("<Q")
FIRST_PAGE = 2
MAX_DEPTH = 32


class DamagedError(Exception):
    """The reason why a file can't be read as an LMDB."""


class Header(NamedTuple):
    """The newer of the two meta pages."""

    page_size: int  # In bytes.
    flags: int  # Of the tree of keys.
    depth: int  # Of that tree.
    entries: int  # The number of keys.
    root: int  # The page number of its root.
    last_page: int
    transaction: int

    @property
    def size(self) -> int:
        """The minimum size of the file in bytes."""
        return (self.last_page + 1) * self.page_size


def read_header(file: int) -> Header:
    """The header of an open file, given by its descriptor.

    Raises:
        DamagedError: It has none.
    """
    first = _meta(file, 0)
    second = _meta(file, first.page_size)
    newer = second if second.transaction > first.transaction else first
    return newer._replace(page_size=first.page_size)


def _meta(file: int, start: int) -> Header:
    content = os.pread(file, META.size, start + META_START)
    if len(content) == META.size:
        magic, version, page_size, *_, flags, depth, entries, root, last_page, transaction = META.unpack(content)
        if (magic, version) == (MAGIC, VERSION) and page_size >= META_START + META.size:
            return Header(page_size, flags, depth, entries, root, last_page, transaction)
    raise DamagedError("it has no header")


def verified_keys(file: int, header: Header) -> Iterator[bytes]:
    """All keys in their order; every page of the tree is verified, so that the library can read it.

    Raises:
        DamagedError: A page, a key or the place of a value is impossible.
    """
    count, last = 0, b""
    if header.entries and not 0 < header.depth <= MAX_DEPTH:
        raise DamagedError(f"its tree has a depth of {header.depth}")
    for key in _keys_below(file, header, header.root, header.depth) if header.entries else ():
        if count and key <= last and not header.flags:
            raise DamagedError(f"its keys are not in order at number {count:,}")
        count, last = count + 1, key
        yield key
    if count != header.entries:
        raise DamagedError(f"it has {count:,} of {header.entries:,} keys")


def _keys_below(file: int, header: Header, number: int, depth: int) -> Iterator[bytes]:
    page, starts = _page(file, header, number, LEAF if depth == 1 else BRANCH)
    for start in starts:
        low, high, flags, key_size = NODE.unpack_from(page, start)
        end = start + NODE.size + key_size
        if depth > 1:
            if end > len(page):
                raise DamagedError(f"page {number:,} has a key beyond its end")
            yield from _keys_below(file, header, low | high << 16 | flags << 32, depth - 1)
            continue
        size = low | high << 16
        if end + (NUMBER.size if flags & BIG else size) > len(page):
            raise DamagedError(f"page {number:,} has a value beyond its end")
        if flags & BIG:
            (first,) = NUMBER.unpack_from(page, end)
            if first < FIRST_PAGE or first * header.page_size + PAGE.size + size > header.size:
                raise DamagedError(f"page {number:,} refers to a value beyond the end of the file")
        yield page[start + NODE.size : end]


def _page(file: int, header: Header, number: int, kind: int) -> tuple[bytes, tuple[int, ...]]:
    """A page of the tree, and where its nodes start."""
    size = header.page_size
    page = os.pread(file, size, number * size) if FIRST_PAGE <= number <= header.last_page else b""
    if len(page) < size:
        raise DamagedError(f"it refers to page {number:,}, which does not exist")
    written, _, flags, end, _ = PAGE.unpack_from(page)
    nodes = (end - PAGE.size) // 2
    if written != number or flags & KINDS != kind or not (2 if kind == BRANCH else 1) <= nodes <= size // NODE.size:
        raise DamagedError(f"page {number:,} is damaged")
    starts = struct.unpack_from(f"<{nodes}H", page, PAGE.size)
    if min(starts) < end or max(starts) + NODE.size > size:
        raise DamagedError(f"page {number:,} has a node beyond its end")
    return page, starts
