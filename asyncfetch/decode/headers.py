"""What an image's header says before anything is decoded."""

from __future__ import annotations

_LOOK = 64 << 10  # bytes in which the headers of AVIF and JPEG 2000 are looked for


def sample_bits(kind: str, data: memoryview) -> int:
    """The bits that an unsigned sample of 16 really has: AVIF and JPEG 2000 have 10 and 12 of them, low in the word."""
    if kind == "AVIF":  # AV1 in ISOBMFF, section 2.3.3: high_bitdepth and twelve_bit
        head = bytes(data[:_LOOK])
        at = head.find(b"av1C")
        if 0 <= at < len(head) - 6:
            return {0: 8, 2: 10, 3: 12}.get(head[at + 6] >> 5 & 3, 16)
    if kind == "JPEG 2000":  # ISO/IEC 15444-1, section A.5.1: Ssiz of the first component, less one
        head = bytes(data[:_LOOK])
        at = head.find(b"\xff\x4f\xff\x51")
        if 0 <= at < len(head) - 42:
            return (head[at + 42] & 0x7F) + 1
    return 16
