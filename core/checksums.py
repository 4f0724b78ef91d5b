"""
Algorithms of checksums, and how the checksums of parts combine.

A `Checksum` is a value that names an algorithm. A backend says in its capabilities which one its storage reports; the
engine computes that one while it reads. The result is an integer for every algorithm; a digest such as MD5 is read as a
big-endian number.

The CRCs here are reflected, and their initial value and final xor are all ones. Because the two are equal, they cancel
in a combination:

    combine(compute(a), compute(b), len(b)) == compute(a + b)

Appending `length` zero bytes to a message multiplies its remainder by x^(8*length) modulo the polynomial. That is a
linear map on the bits of the remainder. It is computed once for each length and stored as one table per byte, so that
combining another part of the same length takes as many look-ups as the checksum has bytes.

Digests such as MD5 can't be combined. They verify a part, or an object that is sent in one piece.
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, Protocol

from attrs import define, field
from fastcrc.crc32 import iscsi as _crc32c
from fastcrc.crc64 import xz as _xz

from partwise._extras import install_hint
from partwise._validation import integer, string
from partwise.errors import InvalidInput

__all__ = ["CRC32", "CRC32C", "CRC64_NVME", "CRC64_XZ", "MD5", "SHA1", "SHA256", "Checksum", "RunningChecksum"]
__all__ += ["crc64", "crc64_combine", "crc64_fold"]

Bytes = bytes | bytearray | memoryview

#: Bits of the largest checksum, that of SHA-512.
WIDTH_MAX = 512


class RunningChecksum(Protocol):
    """A checksum of the bytes so far."""

    def update(self, data: Bytes, /) -> None:
        """Add more bytes."""

    @property
    def value(self) -> int:
        """The checksum of all bytes so far."""


class _RunningCrc:
    __slots__ = ("_function", "value")

    def __init__(self, function: Callable[[Any, int], int]) -> None:
        self._function = function
        self.value = 0

    def update(self, data: Bytes) -> None:
        self.value = self._function(data, self.value)


class _RunningDigest:
    __slots__ = ("_hash",)

    def __init__(self, name: str) -> None:
        self._hash = hashlib.new(name, usedforsecurity=False)

    def update(self, data: Bytes) -> None:
        self._hash.update(data)

    @property
    def value(self) -> int:
        return int.from_bytes(self._hash.digest(), "big")


@define(frozen=True)
class Checksum:
    """
    An algorithm of checksums.

    The constants of this module are the ones that storages report. A backend for a storage with another one makes its
    own; `start` must then be a function at the top level of a module, so that a part can be sent by another process.

    Args:
        name: as checkpoints record it, such as ``"crc64xz"``. Two algorithms never have one name.
        width: the number of bits, up to 512.
        start: called without arguments, returns the checksum of no bytes; it is then updated.
        polynomial: the reflected polynomial of a CRC whose initial value and final xor are all ones, without its
            highest term. None: checksums of parts can't be combined to that of the object.
    """

    name: str = field(validator=string)
    width: int = field(validator=integer(8, WIDTH_MAX))
    start: Callable[[], RunningChecksum] = field(eq=False, repr=False)
    polynomial: int | None = field(default=None, validator=integer(1, 2**64 - 1, None), repr=False)

    def __attrs_post_init__(self) -> None:
        if self.width % 8:
            raise InvalidInput(f"the width of a checksum is a multiple of 8 bits, not {self.width}")
        if self.polynomial is not None and not self.width <= 64 >= self.polynomial.bit_length():
            raise InvalidInput("a checksum that can be combined has at most 64 bits, and so has its polynomial")

    @property
    def is_combinable(self) -> bool:
        """Whether the checksum of an object follows from those of its parts."""
        return self.polynomial is not None

    def compute(self, data: Bytes) -> int:
        """Return the checksum of `data`."""
        running = self.start()
        running.update(data)
        return running.value

    def combine(self, first: int, second: int, second_length: int) -> int:
        """
        Return the checksum of two concatenated byte sequences, from those of each.

        Args:
            first: the checksum of the first sequence.
            second: the checksum of the second sequence.
            second_length: the length of the second sequence in bytes.

        Raises:
            InvalidInput: checksums of this algorithm can't be combined.
        """
        if self.polynomial is None:
            raise InvalidInput(f"checksums of the algorithm {self.name} can't be combined")
        if self.width == 64:
            return _combine64(self.polynomial, first, second, second_length)
        total = second
        for table in _shift_tables(self.polynomial, self.width, second_length):
            total ^= table[first & 255]
            first >>= 8
        return total

    def fold(self, runs: Iterable[tuple[int, int]]) -> int | None:
        """
        Return the checksum of concatenated sequences, each a (checksum, length).

        It is None for two or more sequences if checksums of this algorithm can't be combined.
        """
        total = None
        for checksum, length in runs:
            if total is None:
                total = checksum
            elif self.polynomial is None:
                return None
            else:
                total = self.combine(total, checksum, length)
        return self.start().value if total is None else total

    @property
    def is_available(self) -> bool:
        """Whether the package that computes it is installed."""
        try:
            self.start()
        except InvalidInput:
            return False
        return True

    # --- the forms in which storages write it ------------------------------------------------------------------------

    def to_bytes(self, value: int) -> bytes:
        """Return a checksum as big-endian bytes."""
        return value.to_bytes(self.width // 8, "big")

    def from_bytes(self, data: bytes) -> int:
        """
        Return the checksum in big-endian bytes.

        Raises:
            ValueError: it has another number of bytes.
        """
        if len(data) != self.width // 8:
            raise ValueError(f"a {self.name} has {self.width // 8} bytes, not {len(data)}")
        return int.from_bytes(data, "big")

    def to_base64(self, value: int) -> str:
        """Return a checksum as S3, Azure and GCS write it: base64 of its bytes."""
        return base64.b64encode(self.to_bytes(value)).decode("ascii")

    def from_base64(self, text: str) -> int:
        """
        Return the checksum in base64.

        Raises:
            ValueError: it is not base64, or has another number of bytes.
        """
        try:
            data = base64.b64decode(text, validate=True)
        except ValueError as error:
            raise ValueError(f"not the base64 of a {self.name}") from error
        return self.from_bytes(data)

    def to_hex(self, value: int) -> str:
        """Return a checksum as lower-case hexadecimal digits."""
        return self.to_bytes(value).hex()

    def from_hex(self, text: str) -> int:
        """
        Return the checksum in hexadecimal digits, in either case.

        Raises:
            ValueError: it is not hexadecimal, or has another number of bytes.
        """
        return self.from_bytes(bytes.fromhex(text))


# --- CRC-64/XZ as functions ------------------------------------------------------------------------------------------

_XZ_POLYNOMIAL = 0xC96C5795D7870F42


def crc64(data: Bytes, initial: int = 0) -> int:
    """
    Return the CRC-64/XZ of `data`, continuing from the checksum `initial`.

    With `initial`, the result is the checksum of the earlier bytes followed by `data`. The interpreter's lock is
    released for large data, so that workers compute concurrently.
    """
    return _xz(data, initial)


def crc64_combine(first: int, second: int, second_length: int) -> int:
    """Return the CRC-64/XZ of two sequences from those of each; see `Checksum`."""
    return _combine64(_XZ_POLYNOMIAL, first, second, second_length)


def crc64_fold(runs: Iterable[tuple[int, int]]) -> int:
    """
    Return the CRC-64/XZ of concatenated sequences, each a (checksum, length).

    Without a sequence it is 0.
    """
    total = 0
    for checksum, length in runs:
        total = _combine64(_XZ_POLYNOMIAL, total, checksum, length)
    return total


# --- combining -------------------------------------------------------------------------------------------------------


def _combine64(polynomial: int, first: int, second: int, second_length: int) -> int:
    a, b, c, d, e, f, g, h = _shift_tables(polynomial, 64, second_length)
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


# Bits are in reflected order: the highest bit is the coefficient of x^0.


def _times_x(polynomial: int, value: int) -> int:
    return (value >> 1) ^ polynomial if value & 1 else value >> 1


def _multiply(polynomial: int, width: int, left: int, right: int) -> int:
    """Return the product of two polynomials over GF(2), modulo that of the checksum."""
    product, one, mask = 0, 1 << (width - 1), (1 << width) - 1
    while left:
        if left & one:
            product ^= right
        left = (left << 1) & mask
        right = _times_x(polynomial, right)
    return product


# An upload uses at most three lengths at once (its part size, the last part, a doubled size). The other entries are for
# programs that upload many files. A source with growing parts needs a new length only every thousandth part.
@lru_cache(maxsize=64)
def _shift_tables(polynomial: int, width: int, length: int) -> tuple[tuple[int, ...], ...]:
    if length < 0:
        raise ValueError(f"a length can't be negative: {length}")
    image = _power_of_x(polynomial, width, 8 * length)  # of x^0, the highest bit; each lower bit is one more power of x
    images = [0] * width
    for bit in range(width - 1, -1, -1):
        images[bit] = image
        image = _times_x(polynomial, image)
    tables = []
    for low in range(0, width, 8):
        table = [0]
        for image in images[low : low + 8]:
            table += [image ^ entry for entry in table]
        tables.append(tuple(table))
    return tuple(tables)


def _power_of_x(polynomial: int, width: int, exponent: int) -> int:
    result, square = 1 << (width - 1), 1 << (width - 2)
    while exponent:
        if exponent & 1:
            result = _multiply(polynomial, width, result, square)
        exponent >>= 1
        if exponent:
            square = _multiply(polynomial, width, square, square)
    return result


# --- the algorithms --------------------------------------------------------------------------------------------------


def _start_crc64_xz() -> RunningChecksum:
    return _RunningCrc(_xz)


def _start_crc64_nvme() -> RunningChecksum:
    return _RunningCrc(_nvme())


@lru_cache(maxsize=1)
def _nvme() -> Callable[[Any, int], int]:
    try:
        from awscrt.checksums import crc64nvme  # type: ignore[import-untyped]
    except ImportError as error:
        raise InvalidInput(
            "this storage verifies objects by CRC-64/NVME, which needs the package awscrt",
            hint=install_hint("nvme"),
        ) from error
    compute: Callable[[Any, int], int] = crc64nvme
    return compute


def _start_crc32c() -> RunningChecksum:
    return _RunningCrc(_crc32c)


def _start_crc32() -> RunningChecksum:
    return _RunningCrc(zlib.crc32)


def _start_md5() -> RunningChecksum:
    return _RunningDigest("md5")


def _start_sha1() -> RunningChecksum:
    return _RunningDigest("sha1")


def _start_sha256() -> RunningChecksum:
    return _RunningDigest("sha256")


#: Alibaba Cloud OSS (`x-oss-hash-crc64ecma`) and Tencent COS.
CRC64_XZ = Checksum("crc64xz", 64, _start_crc64_xz, _XZ_POLYNOMIAL)

#: Amazon S3 (CRC64NVME) and Azure. Needs the package awscrt.
CRC64_NVME = Checksum("crc64nvme", 64, _start_crc64_nvme, 0x9A6C9329AC4BC9B5)

#: Amazon S3 and Google Cloud Storage: CRC-32/ISCSI.
CRC32C = Checksum("crc32c", 32, _start_crc32c, 0x82F63B78)

#: Amazon S3: the CRC-32 of zlib.
CRC32 = Checksum("crc32", 32, _start_crc32, 0xEDB88320)

MD5 = Checksum("md5", 128, _start_md5)
SHA1 = Checksum("sha1", 160, _start_sha1)
SHA256 = Checksum("sha256", 256, _start_sha256)
