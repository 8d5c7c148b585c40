"""Bodies of readings as they lie in the file: packed; all others as they are. What is hashed, sent and replayed is not.

A packed body is one byte 0x01, the CRC-32 of what follows (big-endian, 4 bytes) and a raw deflate stream (RFC 1951).
A body that begins with any other byte lies there as it is, as all do in schema versions 1 and 2: JSON begins with
`{`. The CRC is there for the few bits of a deflate stream that mean nothing, which no hash of the body would notice.
"""

import zlib

PACKED_STREAMS = frozenset(("rdg",))

_PACKED = b"\x01"
_CRC_BYTES = 4
_BODY_BYTES_MAX = 16 << 20  # beyond that a body is not packed, and none is unpacked
_LEVEL, _RAW, _MEMORY = 9, -15, 9  # a record comes once a slot: 0.5 ms for 128 meters


def stored_body(stream: str, body: bytes) -> bytes:
    """What to store for a body: the shorter of packed and as it is."""
    if stream not in PACKED_STREAMS or len(body) > _BODY_BYTES_MAX:
        return body
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _RAW, _MEMORY)
    content = packer.compress(body) + packer.flush()
    packed = _PACKED + zlib.crc32(content).to_bytes(_CRC_BYTES, "big") + content
    # One that looks packed is packed even if that makes it longer: else nobody could tell.
    return packed if len(packed) < len(body) or body.startswith(_PACKED) else body


def body_of(stream: object, stored: bytes) -> bytes:
    """The body that was stored. ValueError if these bytes were not written by `stored_body`."""
    if stream not in PACKED_STREAMS or not stored.startswith(_PACKED):
        return stored
    begins = len(_PACKED) + _CRC_BYTES
    content = stored[begins:]
    if zlib.crc32(content).to_bytes(_CRC_BYTES, "big") != stored[len(_PACKED) : begins]:
        raise ValueError("the packed body is damaged: its CRC does not fit")
    unpacker = zlib.decompressobj(_RAW)
    try:
        body = unpacker.decompress(content, _BODY_BYTES_MAX + 1)
    except zlib.error as error:
        raise ValueError(f"the packed body is damaged: {error}") from error
    if not unpacker.eof or unpacker.unused_data or len(body) > _BODY_BYTES_MAX:
        raise ValueError("the packed body is damaged: it does not end where it should")
    return body
