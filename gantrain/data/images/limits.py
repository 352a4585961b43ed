"""The limit of the size of images: unusual ones must fit in memory, and not be compressed like an attack."""

from __future__ import annotations

from gantrain.runtime.memory import free_memory

USUAL_PIXELS, USUAL_BYTES = 178_956_970, 2_863_311_520  # Pillow's limit, and that many pixels of 16 bytes.
COPIES = {1: 8}  # By bytes per value: how many times an image exists while it is decoded, converted and scaled.
DEEP_COPIES = 12  # Values of more bytes are converted to float64 on the way.
MAX_SHARE = 0.8  # The fraction of the free memory that an image may take.
MAX_RATIO = 250  # Of decoded to stored bytes; photographs and scans have at most a tenth of it.
GB = 10**9


def check_size(width: int, height: int, channels: int, value_bytes: int, stored: int) -> bool:
    """Whether an image is unusually large, so that only one should be decoded at a time.

    Args:
        width: In pixels, like ``height``.
        height: See ``width``.
        channels: The number of channels.
        value_bytes: Bytes per value.
        stored: Bytes of the encoded image.

    Raises:
        ValueError: It does not fit in memory, or its file is too small for it.
    """
    decoded = width * height * channels * value_bytes
    if width * height <= USUAL_PIXELS and decoded <= USUAL_BYTES:
        return False
    size = f"its {width} x {height} pixels of {channels} channels"
    if decoded > MAX_RATIO * stored:
        raise ValueError(f"{size} in {stored:,} bytes could be an attack: scale it, or store it with less compression")
    needed, available = decoded * COPIES.get(value_bytes, DEEP_COPIES), MAX_SHARE * free_memory()
    if needed > available:
        raise ValueError(
            f"{size} take about {needed / GB:.3g} GB to decode, and {available / GB:.3g} GB (80 % of the free memory) "
            "are available: scale it, or leave it out"
        )
    return True
