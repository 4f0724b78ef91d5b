"""Mutations of the rules of the S3 server."""

from __future__ import annotations

from mutated.mutation import Mutation

MULTIPART = "core/server/s3/multipart.py"
OBJECTS = "core/server/s3/objects.py"
OPTIONS = "core/server/s3/options.py"
PAYLOAD = "core/server/s3/payload.py"
SIGNATURES = "core/server/s3/signatures.py"
ERRORS = "core/server/s3/errors.py"
UPLOADS = "core/server/uploads.py"
MULTIPART_TESTS = ("tests/s3_server/test_multipart.py",)
REQUESTS_TESTS = ("tests/s3_server/test_requests.py",)

MUTATIONS = [
    # --- who signed a request ----------------------------------------------------------------------------------------
    Mutation(
        "S3 takes a header of its own that is not signed",
        SIGNATURES,
        "    if unsigned:\n",
        "    if False:\n",
        REQUESTS_TESTS,
    ),
    Mutation(
        "S3 takes a request of any time",
        SIGNATURES,
        "        if abs(now - moment) > SKEW_MAX:\n",
        "        if False:\n",
        REQUESTS_TESTS,
    ),
    Mutation(
        "S3 takes a signature for another region",
        SIGNATURES,
        "    if claimed_region != region:\n",
        "    if False:\n",
        REQUESTS_TESTS,
    ),
    Mutation(
        "S3 takes a signature of another day",
        SIGNATURES,
        " or date != claim.date[:8]:",
        ":",
        REQUESTS_TESTS,
    ),
    Mutation(
        "S3 takes any session token",
        SIGNATURES,
        "not equal_secrets(claim.token, expected)",
        "False",
        REQUESTS_TESTS,
    ),
    Mutation(
        "S3 takes a temporary key that has expired",
        SIGNATURES,
        "now >= access_key.expiration",
        "False",
        REQUESTS_TESTS,
    ),
    Mutation(
        "S3 takes a presigned URL that has expired",
        SIGNATURES,
        "    if now > moment + int(claim.expires):\n",
        "    if False:\n",
        REQUESTS_TESTS,
    ),
    Mutation(
        "S3 takes a presigned URL that is valid for longer than a week, with zeros before the number",
        SIGNATURES,
        " and len(claim.expires) <= _DIGITS_MAX\n    if not (is_number and 1 <= int(claim.expires) <=",
        "\n    if not (is_number and 1 <= int(claim.expires[:9]) <=",
        REQUESTS_TESTS,
    ),
    Mutation(
        "a time that is out of range ends a request with an internal error",
        "core/server/times.py",
        "min(max(seconds, 0), _LAST_SECOND)",
        "seconds",
        REQUESTS_TESTS,
    ),
    # --- the bytes of a body -----------------------------------------------------------------------------------------
    Mutation(
        "S3 takes a body without its signed digest",
        PAYLOAD,
        "        if self.signed_digest is not None and self.signed_digest !=",
        "        if False and self.signed_digest !=",
        REQUESTS_TESTS,
    ),
    Mutation(
        "S3 takes a body without its Content-MD5",
        PAYLOAD,
        "        if md5 is not None and md5 !=",
        "        if False and md5 !=",
        MULTIPART_TESTS,
    ),
    Mutation(
        "S3 takes a body without its checksum",
        PAYLOAD,
        "        if sent is not None and sent[1] !=",
        "        if False and sent[1] !=",
        MULTIPART_TESTS,
    ),
    Mutation(
        "S3 takes a chunk with any signature",
        PAYLOAD,
        "        if signature != expected:\n",
        "        if False:\n",
        REQUESTS_TESTS,
    ),
    Mutation(
        "S3 signs each chunk as if it were the first",
        PAYLOAD,
        "        self._signature = expected\n",
        "",
        REQUESTS_TESTS,
    ),
    Mutation(
        "S3 sends the checksum of an object with a range of it",
        OBJECTS,
        "with_checksum=requested is None",
        "with_checksum=True",
        REQUESTS_TESTS,
    ),
    # --- parts and completion ----------------------------------------------------------------------------------------
    Mutation(
        "S3 takes parts in any order",
        UPLOADS,
        "    if any(before >= after for (before, _), (after, _) in pairwise(listed)):\n",
        "    if False:\n",
        MULTIPART_TESTS,
    ),
    Mutation(
        "S3 takes a part twice",
        UPLOADS,
        "if any(before >= after for",
        "if any(before > after for",
        MULTIPART_TESTS,
    ),
    Mutation(
        "S3 takes a part that was replaced",
        UPLOADS,
        """part is None or part.etag.strip('"') != etag:""",
        "part is None:",
        MULTIPART_TESTS,
    ),
    Mutation(
        "S3 takes parts of any size",
        UPLOADS,
        "        if part.size < smallest:\n",
        "        if False:\n",
        MULTIPART_TESTS,
    ),
    Mutation(
        "S3 refuses a small last part",
        UPLOADS,
        "    for part in parts[:-1]:\n",
        "    for part in parts:\n",
        MULTIPART_TESTS,
    ),
    Mutation(
        "S3 takes 9,999 parts",
        UPLOADS,
        "range(1, 10_000 + 1)",
        "range(1, 10_000)",
        MULTIPART_TESTS,
    ),
    Mutation(
        "S3 aborts what does not exist",
        UPLOADS,
        "    if not any((upload.key, upload.upload_id) == (exchange.key, upload_id) for upload in pending):\n",
        "    if False:\n",
        MULTIPART_TESTS,
    ),
    Mutation(
        "S3 makes an object of any size",
        MULTIPART,
        "    if size is not None and size !=",
        "    if False and size !=",
        MULTIPART_TESTS,
    ),
    Mutation(
        "S3 makes an object with another checksum",
        MULTIPART,
        "    if sent is not None and (sent[0] != algorithm or",
        "    if False and (sent[0] != algorithm or",
        MULTIPART_TESTS,
    ),
    Mutation(
        "S3 makes an object of a part with another checksum than listed",
        MULTIPART,
        "        if text is not None and text.strip() !=",
        "        if False and text.strip() !=",
        MULTIPART_TESTS,
    ),
    Mutation(
        "S3 takes a part without the key of the customer",
        OPTIONS,
        "    if customer_key_of(request) != expected:\n",
        "    if False:\n",
        MULTIPART_TESTS,
    ),
    # --- conditions --------------------------------------------------------------------------------------------------
    Mutation(
        "S3 completes an upload whatever the condition",
        MULTIPART,
        "    check_conditions(exchange)\n",
        "",
        MULTIPART_TESTS,
    ),
    Mutation(
        "S3 says that there is a conflict where there is an object",
        OBJECTS,
        'raise ServiceError("PreconditionFailed", elements={"Condition": "If-None-Match"})',
        'raise ServiceError("ConditionalRequestConflict", elements={"Condition": "If-None-Match"})',
        MULTIPART_TESTS,
    ),
    Mutation(
        "S3 says that a condition failed where there was a conflict",
        ERRORS,
        '"ConditionalRequestConflict": (409,',
        '"ConditionalRequestConflict": (412,',
        MULTIPART_TESTS,
    ),
    Mutation(
        "S3 says that a condition failed where there is no object",
        OBJECTS,
        '    if info is None:\n        raise ServiceError("NoSuchKey"',
        '    if info is None:\n        raise ServiceError("PreconditionFailed"',
        MULTIPART_TESTS,
    ),
    Mutation(
        "a range that ends before it begins is refused",
        "core/server/reading.py",
        "    if first and last and int(last) < int(first):\n",
        "    if False:\n",
        REQUESTS_TESTS,
    ),
    Mutation(
        "a condition on a time that is not a date fails",
        "core/server/reading.py",
        "latest is not None and int(info.modified) > latest:",
        "unmodified_since is not None and int(info.modified) > (latest or 0):",
        REQUESTS_TESTS,
    ),
    Mutation(
        "a condition on a time that is not a date is met by every time",
        "core/server/reading.py",
        "unchanged = known is not None and int(info.modified) <= known",
        'unchanged = modified_since is not None and int(info.modified) <= (known or float("inf"))',
        REQUESTS_TESTS,
    ),
    # --- lists -------------------------------------------------------------------------------------------------------
    Mutation(
        "S3 lists uploads of one key in another order than that of time",
        MULTIPART,
        "(upload.key, upload.initiated))",
        "(upload.key, -upload.initiated.timestamp()))",
        MULTIPART_TESTS,
    ),
    Mutation(
        "S3 leaves out what follows an upload that has ended",
        MULTIPART,
        "found = not id_marker or not any(",
        "found = not id_marker and not any(",
        MULTIPART_TESTS,
    ),
    Mutation(
        "S3 says of every page of parts that it is the last",
        UPLOADS,
        "0 < limit < len(parts))",
        "False)",
        MULTIPART_TESTS,
    ),
    Mutation(
        "S3 does not encode keys",
        "core/server/xml.py",
        '(lambda key: quote(key, safe="")) if encoding_type else',
        "(lambda key: key) if encoding_type else",
        MULTIPART_TESTS,
    ),
    Mutation(
        "S3 lists the objects of a common prefix, too",
        "core/server/paging.py",
        "        if common is not None and (common <= marker or (prefixes and common == prefixes[-1])):\n",
        "        if common is not None and common <= marker:\n",
        REQUESTS_TESTS,
    ),
    Mutation(
        "S3 deletes any number of objects by one request",
        "core/server/s3/listings.py",
        "    if len(keys) > _DELETED_MAX:\n",
        "    if False:\n",
        REQUESTS_TESTS,
    ),
    Mutation(
        "S3 deletes no object after one that can't be deleted",
        "core/server/s3/listings.py",
        "            nodes.append(_failed_deletion(key, error_for(error)))\n",
        "            raise error_for(error) from error\n",
        REQUESTS_TESTS,
    ),
    Mutation(
        "S3 lists the objects that a quiet deletion deleted",
        "core/server/s3/listings.py",
        "            if not quiet:\n",
        "            if True:\n",
        REQUESTS_TESTS,
    ),
    Mutation(
        "S3 refuses a limit of a page above 1000",
        OPTIONS,
        "ACCEPTED_LIMITS = range(2**31)",
        "ACCEPTED_LIMITS = range(1001)",
        REQUESTS_TESTS,
    ),
    Mutation(
        "S3 refuses a page of no entries",
        OPTIONS,
        "ACCEPTED_LIMITS = range(2**31)",
        "ACCEPTED_LIMITS = range(1, 2**31)",
        REQUESTS_TESTS,
    ),
    Mutation(
        "S3 says that more follows a page of no objects",
        "core/server/paging.py",
        "    if not limit:\n        return ListPage((), (), False, None)\n",
        "",
        REQUESTS_TESTS,
    ),
    Mutation(
        "S3 says that more follows a page of no parts",
        UPLOADS,
        "0 < limit < len(parts))",
        "limit < len(parts))",
        REQUESTS_TESTS,
    ),
    Mutation(
        "S3 reads no more of a body whose framing is refused",
        "core/server/body.py",
        "            for _ in self._arriving:",
        "            for _ in self._incoming:",
        REQUESTS_TESTS,
    ),
    Mutation(
        "S3 takes any number of trailers",
        PAYLOAD,
        "            if lines > _TRAILERS_MAX:\n",
        "            if False:\n",
        REQUESTS_TESTS,
    ),
    Mutation(
        "S3 takes a request for the bucket of another owner",
        OPTIONS,
        "    if expected is not None and expected != OWNER:\n",
        "    if False:\n",
        REQUESTS_TESTS,
    ),
]
