"""
What was observed of a storage that speaks S3, and which dialect fits it.

Pure: the requests are made by `partwise.backends.s3.probing`. An observation that is None is not known: a request was
denied, or could not be made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import define, field

from partwise.backends.s3.dialects import DIALECTS, Dialect
from partwise.checksums import CRC32, CRC32C, CRC64_NVME, Checksum
from partwise.model import KIB, MIB

#: The algorithms that are tried. Digests such as SHA-256 can't be combined, so that no object of parts has them.
ALGORITHMS: tuple[Checksum, ...] = (CRC64_NVME, CRC32C, CRC32)

#: The sizes of parts that are tried, the smallest first. 5 MiB is the minimum of S3.
PART_SIZES = (KIB, 100 * KIB, 5 * MIB)

#: Dialects for storages of any host, in the order in which they are preferred, then those of one service.
_ORDER = ("aws", "minio", "ceph", "gcs", "r2", "b2", "oss")

_CONDITIONS = {"forbid_overwrite": "If-None-Match", "if_match": "If-Match"}


@define(frozen=True)
class ChecksumFacts:
    """
    What a storage does with the checksums of one algorithm.

    Args:
        refuses_wrong_object: whether an object that is sent with a wrong one is refused.
        reports_object: whether it is reported of an object that was stored by one request.
        refuses_wrong_part: whether a part that is sent with a wrong one is refused.
        reports_part: whether the response to a part has it.
        lists_parts: whether a list of parts has it.
        refuses_wrong_whole: whether parts are not put together if the object was announced with a wrong one.
        reports_whole: whether that of all bytes is reported of an object that was put together of parts.
        needs_part: whether a part without it is refused, where the upload has announced the algorithm.
    """

    refuses_wrong_object: bool | None = None
    reports_object: bool | None = None
    refuses_wrong_part: bool | None = None
    reports_part: bool | None = None
    lists_parts: bool | None = None
    refuses_wrong_whole: bool | None = None
    reports_whole: bool | None = None
    needs_part: bool | None = None

    @property
    def is_usable(self) -> bool:
        """Whether objects of both kinds can be verified by it."""
        return self.reports_object is True and self.reports_whole is True


@define(frozen=True)
class Observations:
    """
    What requests to a storage have shown.

    Args:
        checksums: by the name of the algorithm.
        reports_goog_hash: whether responses have a CRC-32C as ``x-goog-hash``.
        put_conditions: whether an object is stored only under a condition, by the name of the option.
        complete_conditions: the same for objects of parts.
        min_part_size: the smallest of `PART_SIZES` that is accepted for a part that is not the last.
        equal_part_sizes: whether all parts but the last must have one size.
        lists_uploads: whether pending uploads are listed by the beginning of their keys.
        uploads_ordered: whether they are listed in the order of their keys.
        uploads_paged: whether a list of uploads in pages is complete.
        parts_paged: the same for a list of parts.
        plus_is_space: whether a plus in a key of a list is a space; None if spaces and pluses are percent-encoded.
        aborts: whether an upload is gone after it was aborted.
        etag_is_md5: whether the ETag of an object from one request is its MD5.
        versioned: whether the bucket keeps old versions of objects.
    """

    checksums: Mapping[str, ChecksumFacts] = field(factory=dict)
    reports_goog_hash: bool | None = None
    put_conditions: Mapping[str, bool | None] = field(factory=dict)
    complete_conditions: Mapping[str, bool | None] = field(factory=dict)
    min_part_size: int | None = None
    equal_part_sizes: bool | None = None
    lists_uploads: bool | None = None
    uploads_ordered: bool | None = None
    uploads_paged: bool | None = None
    parts_paged: bool | None = None
    plus_is_space: bool | None = None
    aborts: bool | None = None
    etag_is_md5: bool | None = None
    versioned: bool | None = None

    def honours(self, option: str) -> bool | None:
        """Return whether a condition is honoured by every request that stores an object."""
        found = (self.put_conditions.get(option), self.complete_conditions.get(option))
        return False if False in found else None if None in found else True


@define(frozen=True)
class Verdict:
    """
    Which dialect fits a storage.

    Args:
        dialect: its name; of several that fit, the one that makes use of the most. If none fits, the nearest.
        fits: whether it fits.
        mismatches: why it does not.
        unused: what the storage can do, and uploads with this dialect do without.
        verified: what partwise compares, and what the storage itself refuses, with this dialect.
    """

    dialect: str
    fits: bool
    mismatches: tuple[str, ...]
    unused: tuple[str, ...]
    verified: tuple[str, ...]


def judge(observed: Observations, configured: str = "aws") -> Verdict:
    """
    Return which dialect fits what was observed.

    Args:
        observed: the observations.
        configured: the dialect of the host or of the user, which is preferred among equals.
    """
    names = (configured, *(name for name in _ORDER if name != configured))
    candidates = [DIALECTS[name] for name in names]
    judged = [(mismatches(dialect, observed), unused(dialect, observed), dialect) for dialect in candidates]
    # The order of the candidates decides between equals: `min` returns the first.
    wrong, idle, best = min(judged, key=lambda one: (len(one[0]), len(one[1])))
    return Verdict(best.name, not wrong, tuple(wrong), tuple(idle), tuple(verified(best, observed)))


def mismatches(dialect: Dialect, observed: Observations) -> list[str]:
    """Return what a dialect expects of a storage in vain."""
    found = _missing_checksums(dialect, observed)
    smallest = dialect.limits.min_part_size
    if observed.min_part_size is not None and observed.min_part_size > smallest:
        found.append(
            f"it allows parts of {size_text(smallest)}, and the storage has the minimum of "
            f"{size_text(observed.min_part_size)}"
        )
    if observed.equal_part_sizes and not dialect.equal_part_sizes:
        found.append("it allows parts of several sizes, which the storage refuses")
    if observed.lists_uploads is False and dialect.lists_uploads:
        found.append("it lists pending uploads by a prefix, which the storage does not do")
    if dialect.lists_uploads and observed.plus_is_space not in (None, dialect.plus_is_space):
        found.append("it decodes keys in lists of uploads in another way than the storage encodes them")
    for option, header in _CONDITIONS.items():
        if option not in dialect.refused_options and observed.honours(option) is False:
            found.append(f"it offers {option} ({header}), which the storage does not honour for every object")
    return found


def _missing_checksums(dialect: Dialect, observed: Observations) -> list[str]:
    found = []
    algorithm = dialect.checksum
    if algorithm is not None and dialect.sends_checksums:
        facts = observed.checksums.get(algorithm.name, ChecksumFacts())
        if False in (facts.reports_object, facts.reports_whole):
            found.append(f"it expects the {title_of(algorithm)} of whole objects, which the storage does not report")
        if facts.needs_part and not dialect.parts_need_checksums:
            found.append("it sends parts without their checksum, which the storage refuses")
    elif algorithm is not None and observed.reports_goog_hash is False:
        found.append(f"it expects the {title_of(algorithm)} as x-goog-hash, which the storage does not report")
    return found


def unused(dialect: Dialect, observed: Observations) -> list[str]:
    """Return what a storage can do, and a dialect makes no use of."""
    found = []
    usable = [one for one in ALGORITHMS if observed.checksums.get(one.name, ChecksumFacts()).is_usable]
    if dialect.checksum is None and (usable or observed.reports_goog_hash):
        found.append(f"checksums of objects ({', '.join(map(title_of, usable)) or 'x-goog-hash'})")
    elif dialect.checksum is not None and not dialect.sends_checksums and usable:
        found.append("checksums in requests, which the storage would verify")
    if dialect.equal_part_sizes and observed.equal_part_sizes is False:
        found.append("parts of several sizes")
    if not dialect.lists_uploads and observed.lists_uploads:
        found.append("lists of pending uploads")
    if dialect.parts_need_checksums and dialect.checksum is not None:
        facts = observed.checksums.get(dialect.checksum.name, ChecksumFacts())
        if facts.needs_part is False:
            found.append("parts without a checksum of their own, which need not be read twice")
    found += [
        f"{option} ({header})"
        for option, header in _CONDITIONS.items()
        if option in dialect.refused_options and observed.honours(option)
    ]
    return found


def verified(dialect: Dialect, observed: Observations) -> list[str]:
    """Return what is verified of uploads with a dialect."""
    algorithm = dialect.checksum
    if algorithm is None:
        return ["sizes and ETags only: no checksum of an object is compared"]
    title = title_of(algorithm)
    if not dialect.sends_checksums:
        return [f"{title} of objects and parts, compared by partwise"] if observed.reports_goog_hash else []
    facts = observed.checksums.get(algorithm.name, ChecksumFacts())
    found = []
    if facts.reports_part:
        found.append(f"{title} of each part, compared by partwise")
    if facts.is_usable:
        found.append(f"{title} of the whole object, compared by partwise")
    refused = {
        "objects": facts.refuses_wrong_object,
        "parts": facts.refuses_wrong_part if dialect.parts_need_checksums else None,
        "objects of parts": facts.refuses_wrong_whole,
    }
    if any(refused.values()):
        found.append(f"the storage itself refuses wrong {', '.join(name for name, yes in refused.items() if yes)}")
    return found


_TITLES: Mapping[str, str] = {"crc64nvme": "CRC-64/NVME", "crc32c": "CRC-32C", "crc32": "CRC-32"}


def title_of(algorithm: Checksum) -> str:
    """Return the name of an algorithm, for people."""
    return _TITLES.get(algorithm.name, algorithm.name)


def size_text(size: int) -> str:
    """Return one of `PART_SIZES`, or a limit, for people."""
    return f"{size // MIB} MiB" if size % MIB == 0 and size else f"{size // KIB} KiB"


def table(observed: Observations) -> Sequence[tuple[str, str]]:
    """Return the observations as rows of text."""
    rows = []
    for algorithm in ALGORITHMS:
        facts = observed.checksums.get(algorithm.name, ChecksumFacts())
        reported = {
            "objects": facts.reports_object,
            "parts": facts.reports_part,
            "objects of parts": facts.reports_whole,
            "lists of parts": facts.lists_parts,
        }
        refused = {
            "objects": facts.refuses_wrong_object,
            "parts": facts.refuses_wrong_part,
            "objects of parts": facts.refuses_wrong_whole,
        }
        rows.append((f"{title_of(algorithm)} reported", _listed(reported)))
        rows.append((f"{title_of(algorithm)} verified", _listed(refused)))
        if facts.needs_part:
            rows.append((f"{title_of(algorithm)} required", "parts"))
    if observed.reports_goog_hash:
        rows.append(("x-goog-hash", "yes"))
    for option, header in _CONDITIONS.items():
        honoured = {
            "objects": observed.put_conditions.get(option),
            "objects of parts": observed.complete_conditions.get(option),
        }
        rows.append((header, _listed(honoured)))
    smallest = observed.min_part_size
    upper = smallest is not None and smallest == PART_SIZES[0]
    rows.append(("smallest part", "not known" if smallest is None else f"{size_text(smallest)}{' or less' * upper}"))
    rows += [
        ("parts of equal size", _answer(observed.equal_part_sizes, "required", "not required")),
        ("lists of uploads", _answer(observed.lists_uploads, "by prefix", "not by prefix")),
        ("order of uploads", _answer(observed.uploads_ordered, "by key", "any")),
        ("pages of lists", _answer(_both(observed.uploads_paged, observed.parts_paged), "complete", "not complete")),
        ("a plus in lists", _answer(observed.plus_is_space, "is a space", "is a plus", "is encoded")),
        ("abort", _answer(observed.aborts, "deletes the parts", "has no effect")),
        ("ETag", _answer(observed.etag_is_md5, "MD5", "not the MD5")),
        ("old versions", _answer(observed.versioned, "kept", "not kept")),
    ]
    return rows


def _both(first: bool | None, second: bool | None) -> bool | None:
    return False if False in (first, second) else first if second is None else second


def _answer(value: bool | None, yes: str, no: str, unknown: str = "not known") -> str:
    return unknown if value is None else yes if value else no


def _listed(found: Mapping[str, bool | None]) -> str:
    names = [name for name, yes in found.items() if yes]
    if names:
        return ", ".join(names)
    return "not known" if all(value is None for value in found.values()) else "no"
