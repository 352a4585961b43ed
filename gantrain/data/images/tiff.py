"""Which pages of a TIFF are its image: thumbnails and masks are left out, and channels may be pages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO, cast

import tifffile

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # The last two are for BigTIFF.
REDUCED_OR_MASK = 1 | 4  # Bits of the tag NewSubfileType.
MAX_PAGES = 4096
THUMBNAIL = 4  # A page whose area is that many times smaller than the largest is one, whatever its tag says.


def pages_of(file: IO[bytes], channels: int) -> list[tifffile.TiffPage]:
    """The pages of an open TIFF that are its image: one, or one per channel.

    Args:
        file: It is read from its start.
        channels: The number of channels of the data set; 0 for those of the file.

    Raises:
        ValueError: It can't be decided which they are.
    """
    file.seek(0)
    pages = [cast(tifffile.TiffPage, page) for page in tifffile.TiffFile(file).pages]
    if len(pages) == 1:
        return pages
    if len(pages) > MAX_PAGES:
        raise ValueError(f"it has {len(pages):,} pages: save each as a file of its own")
    full = [page for page in pages if not int(page.subfiletype) & REDUCED_OR_MASK] or pages
    largest = max(map(_area, full))
    full = [page for page in full if _area(page) * THUMBNAIL > largest]
    if len(full) == 1:
        return full
    sizes = {(page.imagewidth, page.imagelength) for page in full}
    plain = len({page.dtype for page in full}) == 1 and all(page.samplesperpixel == 1 for page in full)
    if len(sizes) == 1 and plain and channels in (0, len(full)):
        return full
    kind = f"{len(full)} pages of {_listed(sizes)} pixels"
    if len(sizes) == 1 and plain:
        raise ValueError(f"it has {kind}: data.channels={len(full)} reads them as channels; or save one as a file")
    raise ValueError(f"it has {kind}, which are not the channels of one image: save one as a file of its own")


def _area(page: tifffile.TiffPage) -> int:
    return page.imagewidth * page.imagelength


def _listed(sizes: set[tuple[int, int]]) -> str:
    shown: Sequence[str] = [f"{width} x {height}" for width, height in sorted(sizes, reverse=True)[:3]]
    return " and ".join(shown) + (" and other" if len(sizes) > len(shown) else "")
