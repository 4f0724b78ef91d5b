"""Values of response headers."""

from __future__ import annotations

from partwise.server.exchange import Exchange

#: The header with the CRC-64 of a part or an object.
CHECKSUM = "x-oss-hash-crc64ecma"


def checksum_headers(exchange: Exchange, crc64: int | None) -> tuple[tuple[str, str], ...]:
    """
    Return the header that reports a CRC-64, or nothing.

    There is none if the checksum is unknown, or if settings or faults suppress it.
    """
    if crc64 is None or not exchange.checksums:
        return ()
    return ((CHECKSUM, str(crc64 ^ 1 if exchange.corrupt_checksum else crc64)),)
