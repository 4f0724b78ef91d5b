"""The probe of a storage: what it finds out about servers that deviate, and that it leaves nothing behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from attrs import evolve

from partwise.backends.memory import MemoryBackend
from partwise.backends.s3.dialects import DIALECTS
from partwise.backends.s3.flags import SUGGESTIONS
from partwise.backends.s3.probe import ChecksumFacts, Observations, judge, table
from partwise.backends.s3.probing import LockedBucket, Prober
from partwise.bodies import bytes_body
from partwise.checksums import CRC32C
from partwise.errors import AccessDenied, BucketNotFound, CredentialsExpired, ServerFailed
from partwise.model import GIB, KIB, MIB, ObjectOptions, PartLimits
from partwise.server import Fail, LoseResponse, ReplaceResponse, S3Server, ServerFault, ServiceError
from partwise.server.messages import ServerResponse
from partwise.server.s3.dialect import S3Dialect

pytest.importorskip("awscrt")

CHECKSUMS = ("x-amz-checksum-", "x-amz-sdk-checksum-algorithm")


class Deviating(S3Dialect):
    """S3 with deviations, which are words."""

    def __init__(self, *deviations: str) -> None:
        self.deviations = frozenset(deviations)
        self.versions: list[tuple[str, str]] = []

    @staticmethod
    def operation_of(request, target) -> str:
        if request.has_param("versions"):
            return "ListObjects"
        if request.method == "DELETE" and request.has_param("versionId"):
            return "DeleteObject"
        return S3Dialect.operation_of(request, target)

    def authenticate(self, exchange) -> None:
        super().authenticate(exchange)
        if "no checksums" in self.deviations:
            exchange.body.verify = None

    def perform(self, exchange) -> ServerResponse:
        if exchange.operation == "GetObjectLockConfiguration" and "locked" in self.deviations:
            rule = b"<Rule><DefaultRetention><Mode>COMPLIANCE</Mode><Days>1</Days></DefaultRetention></Rule>"
            return ServerResponse(200, (), b"<ObjectLockConfiguration>" + rule + b"</ObjectLockConfiguration>")
        self._change_request(exchange)
        try:
            response = self._versioned(exchange) if "versioned" in self.deviations else super().perform(exchange)
        except ServiceError as error:
            if "errors with 200" in self.deviations and exchange.operation == "CompleteMultipartUpload":
                return ServerResponse(200, (), f"<Error><Code>{error.code}</Code></Error>".encode())
            raise
        return self._changed(exchange, response)

    def _change_request(self, exchange) -> None:
        self._refuse(exchange)
        operation, request, has = exchange.operation, exchange.request, self.deviations.__contains__
        dropped: tuple[str, ...] = ()
        if has("no checksums"):
            dropped += CHECKSUMS
            exchange.report_checksums = False
        if has("no conditions") or (has("no conditions at complete") and operation == "CompleteMultipartUpload"):
            dropped += ("if-match", "if-none-match")
        if has("refuses conditions") and (request.header("if-match") or request.header("if-none-match")):
            raise ServiceError("NotImplemented")
        if dropped:
            kept = tuple(pair for pair in request.headers if not pair[0].startswith(dropped))
            exchange.request = evolve(request, headers=kept)
        if has("equal parts") and operation == "CompleteMultipartUpload":
            parts = list(exchange.bucket.backend.list_parts(exchange.key, exchange.target.upload_id))
            if len({part.size for part in parts[:-1]}) > 1:
                raise ServiceError("InvalidPart", "All non-trailing parts must have the same length.")
        if has("parts need checksums") and operation == "UploadPart":
            upload = exchange.bucket.upload(exchange.target.upload_id)
            sent = [name for name, _ in request.headers if name.startswith("x-amz-checksum-")]
            if upload.names_checksum and not sent:
                raise ServiceError("InvalidArgument", "checksum missing, want CRC64NVME, got none")
        if has("lists exact keys") and operation == "ListMultipartUploads":
            prefix = request.param("prefix") or ""
            if not any(one.key == prefix for one in exchange.bucket.backend.list_uploads(prefix)):
                query = tuple((name, "\0" if name == "prefix" else value) for name, value in request.query)
                exchange.request = evolve(request, query=query)

        if has("ignores markers"):
            markers = ("key-marker", "upload-id-marker", "part-number-marker")
            query = tuple(pair for pair in request.query if pair[0] not in markers)
            exchange.request = evolve(request, query=query)

    def _refuse(self, exchange) -> None:
        operation, request, has = exchange.operation, exchange.request, self.deviations.__contains__
        names_checksum = any(name.startswith("x-amz-checksum-") for name, _ in request.headers)
        if names_checksum and (
            (has("refuses checksums") and operation in ("PutObject", "CreateMultipartUpload"))
            or (has("refuses checksums of parts") and operation == "UploadPart")
        ):
            raise ServiceError("NotImplemented")
        if has("denies the object of conditions") and operation == "PutObject" and exchange.key.endswith("/condition"):
            raise ServiceError("AccessDenied")
        if has("refuses pages") and (request.has_param("max-uploads") or request.has_param("max-parts")):
            raise ServiceError("NotImplemented")
        is_first = operation == "UploadPart" and exchange.key.endswith("/sizes") and exchange.target.part_number == 1
        if has("looks at sizes on arrival") and is_first and len(exchange.body) < 100 * KIB:
            raise ServiceError("EntityTooSmall")
        if has("one part only") and operation == "CompleteMultipartUpload":
            parts = list(exchange.bucket.backend.list_parts(exchange.key, exchange.target.upload_id))
            if len(parts) > 1:
                raise ServiceError("InvalidPart")

    def _changed(self, exchange, response: ServerResponse) -> ServerResponse:
        operation, has = exchange.operation, self.deviations.__contains__
        if has("garbled pages") and {"max-uploads", "max-parts"} & {name for name, _ in exchange.request.query}:
            response = evolve(response, body=b"<html></html>")
        if has("goog hash") and operation in ("PutObject", "HeadObject"):
            value = CRC32C.to_base64(CRC32C.compute(exchange.bucket.backend.read(exchange.key)))
            response = evolve(response, headers=(*response.headers, ("x-goog-hash", f"crc32c={value},md5=x")))
        if operation == "ListMultipartUploads" and has("plus is plus"):
            response = evolve(response, body=response.body.replace(b"+", b"%20").replace(b"%2B", b"+"))
        if operation == "ListMultipartUploads" and has("no plus"):
            response = evolve(response, body=response.body.replace(b"+", b"%20"))
        return response

    def _versioned(self, exchange) -> ServerResponse:
        request, backend = exchange.request, exchange.bucket.backend
        if request.has_param("versions"):
            prefix = request.param("prefix") or ""
            entries = "".join(
                f"<Version><Key>{key}</Key><VersionId>{version}</VersionId></Version>"
                for key, version in self.versions
                if key.startswith(prefix) or key == "tmp/other"  # a storage that ignores the prefix
            )
            text = f"<ListVersionsResult><IsTruncated>false</IsTruncated>{entries}</ListVersionsResult>"
            return ServerResponse(200, (), text.encode())
        if exchange.operation == "DeleteObject":
            version = request.param("versionId")
            if version is not None:
                self.versions.remove((exchange.key, version))
                if not any(key == exchange.key for key, _ in self.versions) and backend.head_object(exchange.key):
                    return super().perform(exchange)
                return ServerResponse(204, ())
            self.versions.append((exchange.key, f"marker-{len(self.versions)}"))
            return ServerResponse(204, ())
        response = super().perform(exchange)
        if exchange.operation in ("PutObject", "CompleteMultipartUpload"):
            version = f"v{len(self.versions)}-{exchange.request_id}"
            self.versions.append((exchange.key, version))
            return evolve(response, headers=(*response.headers, ("x-amz-version-id", version)))
        return response


@pytest.fixture
def serve() -> Iterator:
    """Start a server with deviations, and smaller parts than S3's unless they are what is tested."""
    started = []

    def start(*deviations: str, min_part_size: int = 100 * KIB) -> S3Server:
        kind = type("Server", (S3Server,), {"dialect": Deviating(*deviations)})
        limits = PartLimits(min_part_size=1, max_part_size=GIB, max_parts=10_000, max_object_size=GIB, max_put_size=GIB)
        server = kind(buckets={"examplebucket": MemoryBackend(limits=limits)})
        server.settings = evolve(server.settings, min_part_size=min_part_size)
        started.append(server)
        server.start()
        # What others have stored there, below the same prefix.
        others = server.backend()
        others.put_object("tmp/other", bytes_body(b"other"), ObjectOptions())
        server.other_upload = others.initiate_upload("tmp/pending", ObjectOptions())
        return server

    yield start
    for server in started:
        server.stop()


def settings_of(server: S3Server, **more) -> dict:
    from partwise.backends.s3 import Credentials

    return {
        "endpoint": server.endpoint,
        "region": server.region,
        "credentials": Credentials(server.access_key_id, server.access_key_secret),
        **more,
    }


def prober_of(server: S3Server, url: str = "s3://examplebucket/tmp", **settings) -> Prober:
    def call(attempt, description):
        for _ in range(3):
            try:
                return attempt()
            except Exception as error:
                if not getattr(error, "retryable", False):
                    raise
                last = error
        raise last

    return Prober(url, settings_of(server, **settings), call, lambda what: None)


def probed(server: S3Server, **settings) -> tuple[Observations, Prober]:
    with closing(prober_of(server, **settings)) as prober:
        try:
            prober.check_lock()
            return prober.run(), prober
        finally:
            assert prober.remove() == []


def assert_clean(server: S3Server) -> None:
    backend = server.backend()
    assert backend.keys() == ["tmp/other"], "only the object of others is left"
    assert backend.read("tmp/other") == b"other"
    assert [one.upload_id for one in backend.list_uploads()] == [server.other_upload]
    assert server.dialect.versions == []


# --- observations ----------------------------------------------------------------------------------------------------


EVERYTHING = ChecksumFacts(
    refuses_wrong_object=True,
    reports_object=True,
    refuses_wrong_part=True,
    reports_part=True,
    lists_parts=True,
    refuses_wrong_whole=True,
    reports_whole=True,
    needs_part=False,
)
BOTH = {"forbid_overwrite": True, "if_match": True}
NEITHER = {"forbid_overwrite": False, "if_match": False}


def test_a_server_like_s3_is_found_to_be_one(serve) -> None:
    server = serve(min_part_size=5 * MIB)
    observed, prober = probed(server)
    assert observed == Observations(
        checksums=dict.fromkeys(("crc64nvme", "crc32c", "crc32"), EVERYTHING),
        reports_goog_hash=False,
        put_conditions=BOTH,
        complete_conditions=BOTH,
        min_part_size=5 * MIB,
        equal_part_sizes=False,
        lists_uploads=True,
        uploads_ordered=True,
        uploads_paged=True,
        parts_paged=True,
        plus_is_space=True,
        aborts=True,
        etag_is_md5=observed.etag_is_md5,
        versioned=False,
    )
    verdict = prober.judge(observed)
    assert (verdict.dialect, verdict.fits, verdict.mismatches, verdict.unused) == ("aws", True, (), ())
    assert verdict.verified == (
        "CRC-64/NVME of each part, compared by partwise",
        "CRC-64/NVME of the whole object, compared by partwise",
        "the storage itself refuses wrong objects, objects of parts",
    )
    assert prober.bytes_sent < 12 * MIB
    assert_clean(server)


@pytest.mark.parametrize(
    ("deviations", "dialect", "facts"),
    [
        (("no plus",), "aws", {"plus_is_space": None}),
        (
            ("equal parts", "no conditions at complete"),
            "r2",
            {"equal_part_sizes": True, "complete_conditions": NEITHER},
        ),
        (("lists exact keys", "parts need checksums"), "minio", {"lists_uploads": False, "uploads_paged": None}),
        (("no checksums", "no conditions"), "ceph", {"put_conditions": NEITHER, "complete_conditions": NEITHER}),
        (
            ("no checksums", "no conditions", "goog hash", "plus is plus"),
            "gcs",
            {"reports_goog_hash": True, "plus_is_space": False},
        ),
    ],
    ids=lambda value: " + ".join(value) if isinstance(value, tuple) else "",
)
def test_a_deviation_is_observed_and_leads_to_a_dialect(serve, deviations, dialect, facts) -> None:
    server = serve(*deviations, min_part_size=5 * MIB if "equal parts" in deviations else 100 * KIB)
    observed, prober = probed(server)
    assert {name: getattr(observed, name) for name in facts} == facts
    verdict = prober.judge(observed)
    assert (verdict.dialect, verdict.fits) == (dialect, True), verdict
    assert_clean(server)


def test_a_storage_without_checksums_reports_and_refuses_none(serve) -> None:
    observed, prober = probed(serve("no checksums"))
    for facts in observed.checksums.values():
        assert (facts.reports_object, facts.reports_part, facts.reports_whole, facts.lists_parts) == (False,) * 4
        assert (facts.refuses_wrong_object, facts.refuses_wrong_part, facts.refuses_wrong_whole) == (False,) * 3
    assert prober.judge(observed).verified == ("sizes and ETags only: no checksum of an object is compared",)


def test_a_storage_that_demands_checksums_of_parts_is_observed(serve) -> None:
    observed, _ = probed(serve("parts need checksums"))
    assert {name: facts.needs_part for name, facts in observed.checksums.items()} == {
        "crc64nvme": True,
        "crc32c": True,
        "crc32": True,
    }


@pytest.mark.parametrize("size", [KIB, 100 * KIB, 5 * MIB])
def test_the_smallest_part_is_found(serve, size) -> None:
    observed, _ = probed(serve(min_part_size=size))
    assert (observed.min_part_size, observed.equal_part_sizes) == (size, False)


def test_a_condition_that_is_not_implemented_is_not_honoured(serve) -> None:
    server = serve("refuses conditions")
    observed, prober = probed(server)
    assert (observed.put_conditions, observed.complete_conditions) == (NEITHER, NEITHER)
    assert "forbid_overwrite" in prober.backend.capabilities.options
    assert prober.judge(observed).dialect == "ceph"
    assert_clean(server)


def test_what_is_denied_is_not_known(serve) -> None:
    server = serve()
    for operation in ("ListMultipartUploads", "GetObjectLockConfiguration"):
        server.plan(ServerFault(operation, Fail("AccessDenied"), times=None))
    with closing(prober_of(server)) as prober:
        prober.check_lock()
        observed = prober.run()
        prober.remove()
    assert (observed.lists_uploads, observed.uploads_paged, observed.plus_is_space) == (None, None, None)
    assert prober.judge(observed).fits
    assert_clean(server)


NOTHING_REPORTED = {"reports_object": False, "refuses_wrong_object": False, "reports_whole": False}


@pytest.mark.parametrize(
    ("deviation", "facts"),
    [
        ("refuses checksums", evolve(ChecksumFacts(), **NOTHING_REPORTED)),
        (
            "refuses checksums of parts",
            ChecksumFacts(refuses_wrong_object=True, reports_object=True, reports_part=False, reports_whole=False),
        ),
    ],
)
def test_a_storage_that_refuses_requests_with_checksums_reports_none(serve, deviation, facts) -> None:
    server = serve(deviation)
    observed, prober = probed(server)
    assert observed.checksums == dict.fromkeys(("crc64nvme", "crc32c", "crc32"), facts)
    assert not any("CRC" in text for text in prober.judge(observed).unused)
    assert_clean(server)


@pytest.mark.parametrize(
    ("deviation", "paged"), [("ignores markers", False), ("garbled pages", False), ("refuses pages", None)]
)
def test_lists_whose_pages_do_not_follow_each_other_are_not_paged(serve, deviation, paged) -> None:
    server = serve(deviation)
    observed, _ = probed(server)
    assert (observed.lists_uploads, observed.uploads_paged, observed.parts_paged) == (True, paged, paged)
    assert_clean(server)


def test_a_list_of_uploads_that_is_not_one_lists_none(serve) -> None:
    server = serve()
    server.plan(ServerFault("ListMultipartUploads", ReplaceResponse(b"<html></html>", 200, "text/html"), times=None))
    observed, _ = probed(server)
    assert (observed.lists_uploads, observed.uploads_ordered, observed.uploads_paged) == (False, None, None)
    assert_clean(server)


def test_a_storage_may_look_at_the_size_of_a_part_when_it_arrives(serve) -> None:
    server = serve("looks at sizes on arrival")
    observed, _ = probed(server)
    assert (observed.min_part_size, observed.equal_part_sizes) == (100 * KIB, False)
    assert_clean(server)


def test_no_size_of_parts_is_found_where_objects_have_one_part(serve) -> None:
    server = serve("one part only", min_part_size=KIB)
    observed, _ = probed(server)
    assert (observed.min_part_size, observed.equal_part_sizes) == (None, None)
    assert_clean(server)


def test_a_refusal_in_a_response_with_status_200_is_one(serve) -> None:
    server = serve("errors with 200")
    observed, _ = probed(server)
    assert (observed.complete_conditions, observed.min_part_size) == (BOTH, 100 * KIB)
    assert {facts.refuses_wrong_whole for facts in observed.checksums.values()} == {True}
    assert_clean(server)


def test_conditions_are_not_known_where_their_object_is_denied(serve) -> None:
    server = serve("denies the object of conditions")
    observed, prober = probed(server)
    assert (observed.put_conditions, observed.complete_conditions) == (BOTH, {})
    assert observed.honours("if_match") is None
    assert prober.judge(observed).fits
    assert_clean(server)


def test_parts_that_can_t_be_listed_say_nothing_about_checksums_pages_and_aborted_uploads(serve) -> None:
    server = serve()
    server.plan(ServerFault("ListParts", Fail("AccessDenied"), times=None))
    observed, _ = probed(server)
    assert ({facts.lists_parts for facts in observed.checksums.values()}, observed.parts_paged) == ({None}, None)
    assert observed.aborts is None
    assert_clean(server)


@pytest.mark.parametrize(("code", "aborts"), [("AccessDenied", None), ("NotImplemented", False)])
def test_uploads_that_can_t_be_aborted_are_named(serve, code, aborts) -> None:
    server = serve()
    server.plan(ServerFault("AbortMultipartUpload", Fail(code), times=None))
    with closing(prober_of(server)) as prober:
        assert prober.run().aborts is aborts
        remaining = prober.remove()
    left = {one.upload_id for one in server.backend().list_uploads()} - {server.other_upload}
    assert left
    assert {text.split()[2] for text in remaining} == left


# --- nothing is left behind ------------------------------------------------------------------------------------------


def test_every_version_is_deleted_in_a_bucket_that_keeps_them(serve) -> None:
    server = serve("versioned")
    server.dialect.versions.append(("tmp/other", "theirs"))
    observed, _ = probed(server)
    assert observed.versioned is True
    assert server.dialect.versions == [("tmp/other", "theirs")]
    server.dialect.versions.clear()
    assert_clean(server)


def test_versions_that_can_t_be_listed_are_named(serve) -> None:
    server = serve("versioned")
    server.plan(ServerFault("ListObjects", Fail("AccessDenied"), times=None))
    with closing(prober_of(server)) as prober:
        prober.run()
        (remaining,) = prober.remove()
    assert remaining.startswith("old versions of the objects below tmp/partwise-probe-")
    assert server.dialect.versions


@pytest.mark.parametrize("operation", ["PutObject", "CreateMultipartUpload", "CompleteMultipartUpload", "UploadPart"])
def test_what_a_lost_response_has_made_is_removed_too(serve, operation) -> None:
    server = serve()
    server.plan(ServerFault(operation, LoseResponse(), occurrence=2))
    probed(server)
    assert_clean(server)


@pytest.mark.parametrize(
    "operation", ["PutObject", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload", "ListParts"]
)
@pytest.mark.parametrize("occurrence", [1, 3])
def test_a_failure_half_way_leaves_nothing_behind(serve, operation, occurrence) -> None:
    server = serve()
    server.plan(ServerFault(operation, Fail("InternalError"), occurrence=occurrence, times=9))
    with pytest.raises(ServerFailed):
        probed(server)
    assert_clean(server)


@pytest.mark.parametrize(
    ("operation", "occurrence", "code", "error"),
    [
        ("PutObject", 1, "ExpiredToken", CredentialsExpired),
        ("PutObject", 2, "AccessDenied", AccessDenied),
        ("CreateMultipartUpload", 4, "AccessDenied", AccessDenied),
        ("UploadPart", 10, "AccessDenied", AccessDenied),
        ("UploadPart", 12, "InternalError", ServerFailed),
    ],
)
def test_what_every_upload_needs_and_is_refused_ends_the_probe(serve, operation, occurrence, code, error) -> None:
    server = serve()
    server.plan(ServerFault(operation, Fail(code), occurrence=occurrence, times=9))
    with pytest.raises(error):
        probed(server)
    assert_clean(server)


@pytest.mark.parametrize("code", ["AccessDenied", "InternalError"])
def test_what_can_t_be_removed_is_named(serve, code) -> None:
    server = serve()
    server.plan(ServerFault("DeleteObject", Fail(code), occurrence=2, times=None))
    with closing(prober_of(server)) as prober:
        prober.run()
        remaining = prober.remove()
    left = {*server.backend().keys()} - {"tmp/other"}
    assert left
    assert left <= {*remaining}


def test_who_may_not_delete_leaves_one_small_object(serve) -> None:
    server = serve()
    server.plan(ServerFault("DeleteObject", Fail("AccessDenied"), times=None))
    with closing(prober_of(server)) as prober:
        with pytest.raises(AccessDenied):
            prober.run()
        remaining = prober.remove()
    (left,) = {*server.backend().keys()} - {"tmp/other"}
    assert remaining == [left]
    assert len(server.backend().read(left)) < 100


def test_a_bucket_with_a_default_retention_is_not_probed(serve) -> None:
    server = serve("locked")
    with closing(prober_of(server)) as prober:
        with pytest.raises(LockedBucket, match="default retention"):
            prober.check_lock()
        assert prober.remove() == []
    assert [request.operation for request in server.requests] == ["GetObjectLockConfiguration"]
    assert_clean(server)


def test_every_key_and_prefix_of_a_request_is_one_of_the_probe(serve) -> None:
    server = serve()
    probed(server)
    for request in server.requests:
        key = request.key or request.query.get("prefix", "")
        assert key.startswith("tmp/partwise-probe-") or request.operation == "GetObjectLockConfiguration", request


def test_who_may_not_write_leaves_nothing_behind(serve) -> None:
    server = serve()
    server.plan(ServerFault("PutObject", Fail("AccessDenied"), times=None))
    server.plan(ServerFault("DeleteObject", Fail("AccessDenied"), times=None))
    with closing(prober_of(server)) as prober:
        with pytest.raises(AccessDenied):
            prober.run()
        assert prober.remove() == []
    assert not [request for request in server.requests if request.operation == "DeleteObject"]
    assert_clean(server)


def test_a_bucket_that_does_not_exist_is_an_error(serve) -> None:
    with closing(prober_of(serve(), "s3://nosuchbucket")) as prober:
        with pytest.raises(BucketNotFound):
            prober.run()
        prober.remove()


# --- the decision ----------------------------------------------------------------------------------------------------


def observed_of(**more) -> Observations:
    return evolve(
        Observations(
            checksums={"crc64nvme": EVERYTHING, "crc32c": EVERYTHING},
            put_conditions=BOTH,
            complete_conditions=BOTH,
            min_part_size=5 * MIB,
            equal_part_sizes=False,
            lists_uploads=True,
            plus_is_space=True,
            aborts=True,
        ),
        **more,
    )


@pytest.mark.parametrize("name", DIALECTS)
def test_a_storage_that_is_what_a_dialect_says_fits_it(name) -> None:
    dialect = DIALECTS[name]
    can = {option: option not in dialect.refused_options for option in BOTH}
    facts = evolve(EVERYTHING, needs_part=dialect.parts_need_checksums) if dialect.sends_checksums else ChecksumFacts()
    observed = observed_of(
        checksums=dict.fromkeys((one.name for one in dialect.checksums), facts),
        reports_goog_hash=dialect.reads_checksums_of == "goog",
        put_conditions=can,
        complete_conditions=can,
        min_part_size=dialect.limits.min_part_size,
        equal_part_sizes=dialect.equal_part_sizes,
        lists_uploads=dialect.lists_uploads,
        plus_is_space=dialect.plus_is_space if dialect.lists_uploads else None,
    )
    verdict = judge(observed, name)
    assert (verdict.dialect, verdict.fits, verdict.unused) == (name, True, ())


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (
            {"put_conditions": {"forbid_overwrite": False, "if_match": True}},
            "it offers forbid_overwrite (If-None-Match)",
        ),
        ({"complete_conditions": {"forbid_overwrite": True, "if_match": False}}, "it offers if_match (If-Match)"),
        ({"equal_part_sizes": True}, "it allows parts of several sizes"),
        ({"lists_uploads": False}, "it lists pending uploads by a prefix"),
        ({"plus_is_space": False}, "it decodes keys"),
        ({"checksums": {"crc64nvme": evolve(EVERYTHING, reports_whole=False)}}, "it expects the CRC-64/NVME of whole"),
        ({"checksums": {"crc64nvme": evolve(EVERYTHING, reports_object=False)}}, "it expects the CRC-64/NVME of whole"),
        ({"checksums": {"crc64nvme": evolve(EVERYTHING, needs_part=True)}}, "it sends parts without their checksum"),
        ({"min_part_size": 50 * MIB}, "it allows parts of 5 MiB, and the storage has the minimum of 50 MiB"),
    ],
    ids=str,
)
def test_the_dialect_of_aws_does_not_fit_a_storage_that_deviates(more, words) -> None:
    from partwise.backends.s3.probe import mismatches

    (found,) = mismatches(DIALECTS["aws"], observed_of(**more))
    assert found.startswith(words)


def test_if_none_fits_the_nearest_is_named_with_what_differs() -> None:
    verdict = judge(observed_of(min_part_size=50 * MIB, equal_part_sizes=True, lists_uploads=False))
    assert not verdict.fits
    assert verdict.mismatches


def test_what_is_not_known_rules_no_dialect_out() -> None:
    assert judge(Observations()).fits
    assert judge(Observations(), "gcs").dialect == "gcs"


def test_the_table_shows_what_is_required_and_what_is_not_known() -> None:
    observed = observed_of(
        checksums={"crc64nvme": evolve(EVERYTHING, needs_part=True)},
        reports_goog_hash=True,
        put_conditions={"forbid_overwrite": False},
        complete_conditions={"forbid_overwrite": False},
    )
    rows = dict(table(observed))
    assert (rows["CRC-64/NVME required"], rows["x-goog-hash"]) == ("parts", "yes")
    assert (rows["If-None-Match"], rows["If-Match"], rows["CRC-32C reported"]) == ("no", "not known", "not known")


def test_the_shell_suggests_every_dialect() -> None:
    assert SUGGESTIONS["dialect"] == tuple(DIALECTS)
