"""
CRC-64/XZ, and the checksum of an object from the checksums of its parts.

The variant is that of Alibaba Cloud OSS, `x-oss-hash-crc64ecma`: polynomial 0x42F0E1EBA9EA3693 reflected, initial value
and final xor all ones. Because the two are equal, they cancel in a combination:

    crc64_combine(crc64(a), crc64(b), len(b)) == crc64(a + b)

Appending `length` zero bytes to a message multiplies its remainder by x^(8*length) modulo the polynomial. That is a
linear map on 64 bits. It is computed once for each length and stored as one table per byte, so that combining another
part of the same length takes eight look-ups.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from fastcrc.crc64 import xz as _xz

_POLYNOMIAL = 0xC96C5795D7870F42  # reflected: bit 63 is the coefficient of x^0
_ONE = 1 << 63
_X = 1 << 62


def crc64(data: bytes | bytearray | memoryview, initial: int = 0) -> int:
    """
    Return the CRC-64/XZ of `data`, continuing from the checksum `initial`.

    With `initial`, the result is the checksum of the earlier bytes followed by `data`. The interpreter's lock is
    released for large data, so that workers compute concurrently.
    """
    return _xz(data, initial)


def crc64_combine(first: int, second: int, second_length: int) -> int:
    """
    Return the checksum of two concatenated byte sequences, from those of each.

    Args:
        first: the checksum of the first sequence.
        second: the checksum of the second sequence.
        second_length: the length of the second sequence in bytes.
    """
    a, b, c, d, e, f, g, h = _shift_tables(second_length)
    return (
        a[first & 255]
        ^ b[first >> 8 & 255]
        ^ c[first >> 16 & 255]
        ^ d[first >> 24 & 255]
        ^ e[first >> 32 & 255]
        ^ f[first >> 40 & 255]
        ^ g[first >> 48 & 255]
        ^ h[first >> 56]
        ^ second
    )


def crc64_fold(runs: Iterable[tuple[int, int]]) -> int:
    """
    Return the checksum of concatenated sequences, each a (checksum, length).

    Without a sequence it is 0.
    """
    total = 0
    for checksum, length in runs:
        total = crc64_combine(total, checksum, length)
    return total


def _times_x(value: int) -> int:
    return (value >> 1) ^ _POLYNOMIAL if value & 1 else value >> 1


def _multiply(left: int, right: int) -> int:
    """
    Return the product of two polynomials over GF(2), modulo that of the checksum.

    Bits are in reflected order.
    """
    product = 0
    while left:
        if left & _ONE:
            product ^= right
        left = (left << 1) & 0xFFFFFFFFFFFFFFFF
        right = _times_x(right)
    return product


# An upload uses at most three lengths at once (its part size, the last part, a doubled size). The other entries are for
# programs that upload many files. A source with growing parts needs a new length only every thousandth part.
@lru_cache(maxsize=64)
def _shift_tables(length: int) -> tuple[tuple[int, ...], ...]:
    if length < 0:
        raise ValueError(f"a length can't be negative: {length}")
    image = _power_of_x(8 * length)  # of x^0, which is bit 63; each lower bit is one more power of x
    images = [0] * 64
    for bit in range(63, -1, -1):
        images[bit] = image
        image = _times_x(image)
    tables = []
    for low in range(0, 64, 8):
        table = [0]
        for image in images[low : low + 8]:
            table += [image ^ entry for entry in table]
        tables.append(tuple(table))
    return tuple(tables)


def _power_of_x(exponent: int) -> int:
    result, square = _ONE, _X
    while exponent:
        if exponent & 1:
            result = _multiply(result, square)
        exponent >>= 1
        if exponent:
            square = _multiply(square, square)
    return result
