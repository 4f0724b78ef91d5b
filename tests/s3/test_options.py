"""The headers of options: those that botocore sends, and values that are refused."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime

import pytest
from attrs import fields

from partwise.backends._http.option_headers import RequestKind
from partwise.backends.s3 import DIALECTS, S3Options
from partwise.backends.s3.options import capabilities, option_table
from partwise.errors import InvalidInput
from partwise.model import ObjectOptions

AWS = DIALECTS["aws"]
KEY = base64.b64encode(bytes(range(32))).decode()
RETAIN = datetime(2030, 12, 31, tzinfo=UTC)

#: Options, and the arguments of botocore that mean the same.
SAME = [
    (S3Options(content_type="text/plain"), {"ContentType": "text/plain"}),
    (S3Options(cache_control="no-cache"), {"CacheControl": "no-cache"}),
    (S3Options(content_disposition='attachment; filename="a b"'), {"ContentDisposition": 'attachment; filename="a b"'}),
    (S3Options(content_encoding="gzip"), {"ContentEncoding": "gzip"}),
    (S3Options(content_language="en-GB"), {"ContentLanguage": "en-GB"}),
    (S3Options(expires="Tue, 31 Dec 2030 00:00:00 GMT"), {"Expires": RETAIN}),
    (S3Options(metadata={"author": "me  too", "empty": ""}), {"Metadata": {"author": "me  too", "empty": ""}}),
    (S3Options(tags={"a b": "c&d", "ü": "1+1"}), {"Tagging": "a%20b=c%26d&%C3%BC=1%2B1"}),
    (S3Options(acl="public-read"), {"ACL": "public-read"}),
    (S3Options(acl="bucket-owner-full-control"), {"ACL": "bucket-owner-full-control"}),
    (S3Options(storage_class="standard"), {"StorageClass": "STANDARD"}),
    (S3Options(storage_class="infrequent-access"), {"StorageClass": "STANDARD_IA"}),
    (S3Options(storage_class="archive"), {"StorageClass": "GLACIER"}),
    (S3Options(storage_class="deep-archive"), {"StorageClass": "DEEP_ARCHIVE"}),
    (S3Options(storage_class="GLACIER_IR"), {"StorageClass": "GLACIER_IR"}),
    (S3Options(encryption="AES256"), {"ServerSideEncryption": "AES256"}),
    (S3Options(encryption="KMS"), {"ServerSideEncryption": "aws:kms"}),
    (
        S3Options(encryption="aws:kms:dsse", kms_key_id="arn:aws:kms:r:1:key/2"),
        {"ServerSideEncryption": "aws:kms:dsse", "SSEKMSKeyId": "arn:aws:kms:r:1:key/2"},
    ),
    (S3Options(encryption="KMS", bucket_key=True), {"ServerSideEncryption": "aws:kms", "BucketKeyEnabled": True}),
    (
        S3Options(encryption="KMS", encryption_context={"a": "ü"}),
        {
            "ServerSideEncryption": "aws:kms",
            "SSEKMSEncryptionContext": base64.b64encode('{"a":"ü"}'.encode()).decode(),
        },
    ),
    (
        S3Options(object_lock_mode="GOVERNANCE", object_lock_retain_until="2030-12-31T00:00:00Z"),
        {"ObjectLockMode": "GOVERNANCE", "ObjectLockRetainUntilDate": RETAIN},
    ),
    (S3Options(object_lock_legal_hold=True), {"ObjectLockLegalHoldStatus": "ON"}),
    (S3Options(website_redirect="/other"), {"WebsiteRedirectLocation": "/other"}),
]
#: Options of requests, with their arguments, and the kinds of requests that carry them.
OF_REQUESTS = [
    (S3Options(request_payer="requester"), {"RequestPayer": "requester"}, "put initiate part complete read other"),
    (
        S3Options(expected_bucket_owner="123456789012"),
        {"ExpectedBucketOwner": "123456789012"},
        "put initiate part complete read other",
    ),
    (
        S3Options(sse_customer_key=KEY),
        {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": bytes(range(32))},
        "put initiate part complete read",
    ),
    (S3Options(forbid_overwrite=True), {"IfNoneMatch": "*"}, "put complete"),
    (S3Options(if_match="abc-1"), {"IfMatch": '"abc-1"'}, "put complete"),
    (S3Options(if_match='"abc-1"'), {"IfMatch": '"abc-1"'}, "put complete"),
]
OPERATIONS = {
    "put": ("put_object", {}),
    "initiate": ("create_multipart_upload", {}),
    "part": ("upload_part", {"UploadId": "u", "PartNumber": 1}),
    "complete": ("complete_multipart_upload", {"UploadId": "u", "MultipartUpload": {"Parts": []}}),
    "read": ("head_object", {}),
    "other": ("abort_multipart_upload", {"UploadId": "u"}),
}


def sent_by_botocore(judge, kind, arguments):
    """Return the headers that the arguments add, by lower-case name."""
    operation, usual = OPERATIONS[kind]
    plain, sent = (
        judge.sent(operation, Bucket="examplebucket", Key="k", **usual, **more).headers for more in ({}, arguments)
    )
    texts = {name.lower(): value.decode() if isinstance(value, bytes) else value for name, value in sent.items()}
    signing = {"authorization", "x-amz-date", "amz-sdk-invocation-id", "user-agent", "amz-sdk-request"}
    return {n: v for n, v in texts.items() if n not in signing and (n not in plain or n == "content-type")}


def ours(kind, options):
    option_table(AWS).check(options)
    headers = option_table(AWS).headers(RequestKind[kind.upper()], options)
    return {name.lower(): value for name, value in headers.items()}


@pytest.mark.parametrize(("options", "arguments"), SAME)
@pytest.mark.parametrize("kind", ["put", "initiate"])
def test_an_option_of_the_object_is_sent_as_botocore_sends_it(judge, options, arguments, kind):
    assert ours(kind, options) == sent_by_botocore(judge, kind, arguments)


@pytest.mark.parametrize(("options", "arguments"), SAME)
@pytest.mark.parametrize("kind", ["part", "complete", "read", "other"])
def test_an_option_of_the_object_is_sent_once(options, arguments, kind):
    assert ours(kind, options) == {}


@pytest.mark.parametrize(("options", "arguments", "kinds"), OF_REQUESTS)
@pytest.mark.parametrize("kind", OPERATIONS)
def test_an_option_of_requests_is_sent_with_them(judge, options, arguments, kinds, kind):
    if kind in kinds.split():
        assert ours(kind, options) == sent_by_botocore(judge, kind, arguments)
    else:
        assert ours(kind, options) == {}


def test_every_option_is_tested():
    tested = set().union(*(options.explicitly_set() for options, *_ in SAME + OF_REQUESTS))
    assert tested == {field.name for field in fields(S3Options)}
    assert capabilities(AWS).options == tested


def test_a_key_of_the_customer_is_neither_shown_nor_recorded():
    options = S3Options(sse_customer_key=KEY)

    assert KEY not in repr(options)
    assert "sse_customer_key" in capabilities(AWS).late_options
    assert KEY not in json.dumps(options.fixed_data(capabilities(AWS).late_options))


@pytest.mark.parametrize(
    "value", ["", "x", base64.b64encode(b"x" * 31).decode(), base64.b64encode(b"x" * 33).decode(), "ü" * 44, KEY + "\n"]
)
def test_a_key_of_another_length_is_refused_and_not_shown(value):
    with pytest.raises(InvalidInput, match="base64 of 32 bytes") as caught:
        option_table(AWS).check(S3Options(sse_customer_key=value))
    assert len(value) < 2 or value not in str(caught.value)


def test_options_that_act_later_can_be_changed_by_a_resumed_run():
    late = {"forbid_overwrite", "if_match", "request_payer", "expected_bucket_owner", "sse_customer_key"}
    assert capabilities(AWS).late_options == late


@pytest.mark.parametrize(
    "options",
    [
        S3Options(acl="default"),
        S3Options(storage_class="Standard"),
        S3Options(encryption="SM4"),
        S3Options(kms_key_id="k"),
        S3Options(encryption="AES256", kms_key_id="k"),
        S3Options(encryption_context={"a": "b"}),
        S3Options(bucket_key=True),
        S3Options(encryption="aws:kms:dsse", bucket_key=True),
        S3Options(encryption="AES256", sse_customer_key=KEY),
        S3Options(forbid_overwrite=True, if_match="x"),
        S3Options(if_match=""),
        S3Options(if_match="ü"),
        S3Options(object_lock_mode="GOVERNANCE"),
        S3Options(object_lock_retain_until="2030-12-31T00:00:00Z"),
        S3Options(object_lock_mode="NONE", object_lock_retain_until="2030-12-31T00:00:00Z"),
        S3Options(object_lock_mode="GOVERNANCE", object_lock_retain_until="2030-12-31"),
        S3Options(request_payer="me"),
        S3Options(expected_bucket_owner="1234"),
        S3Options(website_redirect="/a\r\nb"),
        S3Options(metadata={"a": "x" * 2048}),
        S3Options(metadata={"ü": "x"}),
        S3Options(metadata={"a": "ü"}),
        S3Options(metadata={"a": "1", "A": "2"}),
        S3Options(tags={str(n): "" for n in range(11)}),
        S3Options(tags={"": "x"}),
        S3Options(encryption="KMS", encryption_context={"a": "\ud800"}),
        S3Options(content_type=" text/plain"),
    ],
)
def test_what_can_not_be_sent_is_refused(options):
    with pytest.raises(InvalidInput):
        option_table(AWS).check(options)


def test_the_metadata_of_s3_has_two_kibibytes():
    option_table(AWS).check(S3Options(metadata={"a": "x" * 2047}))


def test_neutral_options_are_enough():
    assert ours("put", ObjectOptions(storage_class="archive")) == {"x-amz-storage-class": "GLACIER"}
