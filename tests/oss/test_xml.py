"""The XML of OSS: the part list that is sent, the documents that are parsed, and those that are refused."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import tracemalloc
from datetime import UTC, datetime
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partwise.backends.oss import xml
from partwise.backends.oss.xml import BadDocument
from partwise.model import PendingUpload, UploadedPart

PART = "<Part><PartNumber>{}</PartNumber><ETag>{}</ETag><HashCrc64ecma>{}</HashCrc64ecma><Size>{}</Size></Part>"
UPLOAD = "<Upload><Key>{}</Key><UploadId>{}</UploadId><Initiated>2012-02-23T04:18:23.000Z</Initiated></Upload>"
WHEN = datetime(2012, 2, 23, 4, 18, 23, tzinfo=UTC)


def parts_page(*parts: str, truncated: str = "false", more: str = "") -> bytes:
    return f"<ListPartsResult><IsTruncated>{truncated}</IsTruncated>{more}{''.join(parts)}</ListPartsResult>".encode()


def uploads_page(*uploads: str, truncated: str = "false", more: str = "") -> bytes:
    contents = f"<IsTruncated>{truncated}</IsTruncated>{more}{''.join(uploads)}"
    return f"<ListMultipartUploadsResult>{contents}</ListMultipartUploadsResult>".encode()


# --- writing ---------------------------------------------------------------------------------------------------------


def test_the_part_list_is_that_of_the_official_clients(kit):
    recorded = kit.recording("alibabacloud-oss-v2-fresh-3parts-v4")["requests"]
    answers = [dict(request["response"]["headers"]) for request in recorded[1:4]]
    parts = [UploadedPart(n, 1, answer["ETag"].strip('"')) for n, answer in enumerate(answers, 1)]
    assert recorded[4]["body"]["text"] == b"".join(xml.CompleteDocument(parts)).decode()


@given(st.text(st.characters(min_codepoint=0x21, exclude_categories=("Cs", "Cn", "Co")), min_size=1))
def test_any_etag_survives_in_the_part_list(etag):
    root = ET.fromstring(b"".join(xml.CompleteDocument([UploadedPart(7, 1, etag)])))
    assert ("7", f'"{etag}"') == (root.findtext("Part/PartNumber"), root.findtext("Part/ETag"))


@pytest.mark.parametrize("count", [1, 700, 10_000])
def test_a_long_part_list_is_sent_in_chunks_with_the_length_and_md5_of_the_whole(count):
    document = xml.CompleteDocument([UploadedPart(n, 1, f"{n:032X}") for n in range(1, count + 1)])
    chunks = list(document)
    whole = b"".join(chunks)

    assert (document.length, document.md5) == (len(whole), base64.b64encode(hashlib.md5(whole).digest()).decode())
    assert [part.findtext("PartNumber") for part in ET.fromstring(whole)] == [str(n) for n in range(1, count + 1)]
    assert all(65_536 < len(chunk) < 66_000 for chunk in chunks[:-1]), "a chunk ends with the part that exceeds 64 KiB"
    assert 0 < len(chunks[-1]) < 66_000
    assert chunks == list(document), "it can be sent more than once"


# --- parsing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("namespace", ["", ' xmlns="http://doc.oss-cn-hangzhou.aliyuncs.com"', ' xmlns="urn:other"'])
@pytest.mark.parametrize("start", ["", '<?xml version="1.0" encoding="UTF-8"?>\n', "\ufeff"])
def test_elements_are_found_in_any_namespace(namespace, start):
    text = (
        f"{start}<InitiateMultipartUploadResult{namespace}><UploadId> ID\n</UploadId></InitiateMultipartUploadResult>"
    )
    assert xml.parse_initiated(text.encode()) == "ID"


def test_a_page_of_parts():
    page = xml.parse_parts(
        parts_page(
            PART.format(1, '"ABC"', 18446744073709551615, 102400),
            PART.format(3, "&quot;DEF&quot;", "", 0),
            truncated="true",
            more="<NextPartNumberMarker>3</NextPartNumberMarker>",
        )
    )
    assert page.entries == (UploadedPart(1, 102400, "ABC", 2**64 - 1), UploadedPart(3, 0, "DEF", None))
    assert page.next_marker == 3


def test_the_last_page_has_no_marker_even_if_the_document_has_one():
    page = xml.parse_parts(parts_page(more="<NextPartNumberMarker>3</NextPartNumberMarker>"))
    assert (page.entries, page.next_marker) == ((), None)


def test_a_page_of_uploads_is_url_decoded_if_it_says_so():
    markers = "<NextKeyMarker>b%2F%E4%B8%AD</NextKeyMarker><NextUploadIdMarker>I%20</NextUploadIdMarker>"
    page = xml.parse_uploads(
        uploads_page(
            UPLOAD.format("a%2Bb%01", "I%201"), truncated="true", more=f"<EncodingType>url</EncodingType>{markers}"
        )
    )
    assert page.entries == (PendingUpload("a+b\x01", "I%201", WHEN),)
    assert page.next_marker == ("b/中", "I%20")


def test_a_page_of_uploads_without_an_encoding_is_not_decoded():
    page = xml.parse_uploads(uploads_page(UPLOAD.format(" a%2Bb &amp; ", "I")))
    assert page.entries == (PendingUpload(" a%2Bb & ", "I", WHEN),)


def test_an_error_document_becomes_a_dict_of_its_elements():
    elements = xml.parse_error_document(b"<Error><Code> NoSuchKey\n</Code><Message>x</Message><Odd/><EC>1</EC></Error>")
    assert elements == {"Code": "NoSuchKey", "Message": "x", "Odd": "", "EC": "1"}


@pytest.mark.parametrize(("text", "value"), [(None, None), ("", None), ("0", 0), ("18446744073709551615", 2**64 - 1)])
def test_a_checksum_is_decimal(text, value):
    assert value == xml.parse_crc64(text)


@pytest.mark.parametrize(
    "text", ["-1", "1.0", "0x1", "18446744073709551616", "1" * 21, "0" * 21, "9" * 5000, "abc", " 1", "\u0661"]
)
def test_an_invalid_checksum_is_assert_refused(text):
    with pytest.raises(BadDocument):
        xml.parse_crc64(text)


def test_is_truncated_is_read_in_any_case_and_with_white_space():
    assert xml.parse_parts(parts_page(truncated=" False ")).next_marker is None
    more = "<NextPartNumberMarker> 7 </NextPartNumberMarker>"
    assert xml.parse_parts(parts_page(truncated="TRUE", more=more)).next_marker == 7


@pytest.mark.parametrize(("etag", "bare"), [('"E"', "E"), ("E", "E"), (' "E" ', "E"), ('""', None), ("", None)])
def test_an_etag_is_returned_without_quotes(etag, bare):
    assert xml.parse_etag(etag) == bare


@pytest.mark.parametrize(("size", "value"), [("5368709120", 5_368_709_120), ("0" * 20, 0)])
def test_a_number_has_at_most_twenty_digits(size, value):
    assert xml.parse_parts(parts_page(PART.format(1, "E", 1, size))).entries[0].size == value
    for longer in ("0" * 21, "9" * 5000):
        with pytest.raises(BadDocument, match="its Size is"):
            xml.parse_parts(parts_page(PART.format(1, "E", 1, longer)))


# --- refused ---------------------------------------------------------------------------------------------------------

BOMB = (
    '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    "<InitiateMultipartUploadResult><UploadId>&b;</UploadId></InitiateMultipartUploadResult>"
)
EXTERNAL = (
    '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/hostname">]>'
    "<InitiateMultipartUploadResult><UploadId>&e;</UploadId></InitiateMultipartUploadResult>"
)


DECLARED = "<InitiateMultipartUploadResult><UploadId>x</UploadId></InitiateMultipartUploadResult>"


@pytest.mark.parametrize("text", [BOMB, EXTERNAL, '<?xml version="1.0"?>\n<!DOCTYPE x>' + DECLARED])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le", "utf-32"])
def test_a_document_type_is_refused_in_any_encoding(text, encoding):
    with pytest.raises(BadDocument):
        xml.parse_initiated(text.encode(encoding))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<html>",
        b"<html></html>",
        b"<InitiateMultipartUploadResult><UploadId>x</UploadId>",
        b"<InitiateMultipartUploadResult/>",
        b"<InitiateMultipartUploadResult><UploadId> </UploadId></InitiateMultipartUploadResult>",
        b"<InitiateMultipartUploadResult><UploadId>&undefined;</UploadId></InitiateMultipartUploadResult>",
        b"\xff\xfe",
        b"\x00",
    ],
)
def test_an_invalid_response_to_initiate_is_assert_refused(data):
    with pytest.raises(BadDocument):
        xml.parse_initiated(data)


@pytest.mark.parametrize(
    "data",
    [
        b"<ListPartsResult/>",
        parts_page(truncated="maybe"),
        parts_page(truncated="true"),
        parts_page(truncated="true", more="<NextPartNumberMarker>x</NextPartNumberMarker>"),
        parts_page(PART.format(0, "E", 1, 1)),
        parts_page(PART.format("", "E", 1, 1)),
        parts_page(PART.format(1, "", 1, 1)),
        parts_page(PART.format(1, "E", "x", 1)),
        parts_page(PART.format(1, "E", 1, "-1")),
        parts_page("<Part/>"),
    ],
)
def test_an_invalid_page_of_parts_is_assert_refused(data):
    with pytest.raises(BadDocument):
        xml.parse_parts(data)


@pytest.mark.parametrize(
    "data",
    [
        b"<ListMultipartUploadsResult/>",
        uploads_page(UPLOAD.format("", "I")),
        uploads_page(UPLOAD.format("k", "")),
        uploads_page("<Upload><Key>k</Key><UploadId>i</UploadId><Initiated>soon</Initiated></Upload>"),
        uploads_page("<Upload><Key>k</Key><UploadId>i</UploadId><Initiated>2012-02-23T04:18:23</Initiated></Upload>"),
        uploads_page(UPLOAD.format("%FF", "I"), more="<EncodingType>url</EncodingType>"),
    ],
)
def test_an_invalid_page_of_uploads_is_assert_refused(data):
    with pytest.raises(BadDocument):
        xml.parse_uploads(data)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_assert_refused(data):
    for parse in (xml.parse_initiated, xml.parse_parts, xml.parse_uploads, xml.parse_error_document):
        with pytest.raises(BadDocument):
            parse(data)


# --- limits ----------------------------------------------------------------------------------------------------------


def assert_refused(parse, data: bytes, why: str) -> None:
    tracemalloc.start()
    with pytest.raises(BadDocument, match=why):
        parse(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3 * len(data) + 20_000_000


@pytest.mark.parametrize(
    ("inside", "why"),
    [
        ("<a/>" * 200_000, "more than 50000 elements"),
        ("<a>" * 40_000 + "</a>" * 40_000, "nested more than 16 deep"),
        ("<a " + " ".join(f'a{n}=""' for n in range(100_000)) + "/>", "a tag of more than 4096"),
        ('<a b="" c=""/>' * 40_000, "have attributes"),
        ('<a b=""/>' * 17, "more than 16 of its elements have attributes"),
        ("<a>" * 16 + "</a>" * 16, "nested more than 16 deep"),
        (f"<{'a' * 4096}/>", "a tag of more than 4096"),
        ("<" * 1_000_000, "more than 50000 elements"),
        ("<Part/>" * 1001, "more than 1000 entries"),
        (f"<Part><PartNumber>1</PartNumber><ETag>{'E' * 1025}</ETag><Size>1</Size></Part>", "ETag has more than 1024"),
        ("<Part><PartNumber>10001</PartNumber><ETag>E</ETag><Size>1</Size></Part>", "PartNumber is not a number up to"),
        ("<Part><PartNumber>1</PartNumber><ETag>E</ETag><Size>1000000000000001</Size></Part>", "Size is not a number"),
    ],
)
def test_a_document_beyond_a_limit_is_refused_with_little_memory(inside, why):
    assert_refused(xml.parse_parts, parts_page(more=inside), why)


@pytest.mark.parametrize("number", ["1" * 4400, "-1", "+1", "1_0", " ", "\u0661\u0662", "1e3", "NaN", "0x1", "10001"])
def test_a_part_number_consists_of_digits_within_limits(number):
    assert_refused(
        xml.parse_parts, parts_page(PART.format(number, "E", 1, 1)), "PartNumber is not a number up to 10000"
    )


@pytest.mark.parametrize("size", ["1" * 4400, "-1", "1_0", "\u0661", "1e3", "inf", str(10**15 + 1)])
def test_a_size_consists_of_digits_within_limits(size):
    assert_refused(xml.parse_parts, parts_page(PART.format(1, "E", 1, size)), "Size is not a number up to")


def test_documents_at_the_limits_are_accepted():
    page = xml.parse_parts(parts_page(*[PART.format(n, "E" * 1024, 1, 10**15) for n in range(9001, 10_001)]))
    assert (len(page.entries), page.entries[-1].part_number, page.entries[-1].size) == (1000, 10_000, 10**15)
    for more in ("<a>" * 15 + "</a>" * 15, '<a b=""/>' * 16, f"<{'a' * 4094}/>", "<a/>" * 99_990):
        assert xml.parse_parts(parts_page(more=more)).entries == ()
    named = (
        '<InitiateMultipartUploadResult xmlns="urn:x"><UploadId>'
        + "I" * 1024
        + "</UploadId></InitiateMultipartUploadResult>"
    )
    assert xml.parse_initiated(named.encode()) == "I" * 1024


@pytest.mark.parametrize(("key", "upload_id"), [("k" * 1025, "I"), ("\u4e2d" * 342, "I"), ("k", "I" * 1025)])
def test_a_key_or_an_upload_id_that_is_too_long_is_refused(key, upload_id):
    assert_refused(xml.parse_uploads, uploads_page(UPLOAD.format(key, upload_id)), "has more than 1024")
    marker = f"<NextKeyMarker>{key}</NextKeyMarker><NextUploadIdMarker>{upload_id}</NextUploadIdMarker>"
    assert_refused(xml.parse_uploads, uploads_page(truncated="true", more=marker), "has more than 1024")


@pytest.mark.parametrize("name", ["a\nforged line", "a\x9b2Jb", "a\u202eb"])
def test_an_id_or_an_etag_that_can_not_be_shown_is_refused(name):
    document = f"<InitiateMultipartUploadResult><UploadId>{name}</UploadId></InitiateMultipartUploadResult>"
    assert_refused(xml.parse_initiated, document.encode(), "UploadId contains a control character")
    assert_refused(xml.parse_uploads, uploads_page(UPLOAD.format("k", name)), "UploadId contains a control character")
    assert_refused(xml.parse_parts, parts_page(PART.format(1, name, 1, 1)), "ETag contains a control character")


def test_the_length_of_a_new_upload_id_is_limited():
    document = f"<InitiateMultipartUploadResult><UploadId>{'I' * 1025}</UploadId></InitiateMultipartUploadResult>"
    assert_refused(xml.parse_initiated, document.encode(), "UploadId has more than 1024")


@given(
    st.recursive(
        st.text("<>&;/=\"' aA1-_\u0661é", max_size=8),
        lambda inner: st.builds(
            lambda tag, content: f"<{tag}>{''.join(content)}</{tag}>",
            st.sampled_from(
                ["Part", "PartNumber", "Size", "ETag", "Upload", "Key", "UploadId", "Initiated", "IsTruncated"]
            ),
            st.lists(inner, max_size=4),
        ),
        max_leaves=12,
    ),
    st.sampled_from(["ListPartsResult", "ListMultipartUploadsResult", "InitiateMultipartUploadResult", "Error"]),
)
def test_an_arbitrary_document_is_read_or_assert_refused(inside, root):
    data = f"<{root}><IsTruncated>false</IsTruncated>{inside}</{root}>".encode()
    for parse in (xml.parse_initiated, xml.parse_parts, xml.parse_uploads, xml.parse_error_document):
        with contextlib.suppress(BadDocument):
            parse(data)


# --- weak ETags ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "bare"),
    [
        ('W/"ABC"', "ABC"),
        ('w/"ABC"', "ABC"),
        (' W/"ABC" ', "ABC"),
        ('"W/ABC"', "W/ABC"),
        ("W/ABC", "W/ABC"),
        ('W/""', None),
    ],
)
def test_the_mark_of_a_weak_etag_is_removed(written, bare):
    assert xml.parse_etag(written) == bare
    if bare is not None:
        listed = xml.parse_parts(parts_page(PART.format(1, written.replace('"', "&quot;"), 1, 1)))
        assert listed.entries[0].etag == bare
