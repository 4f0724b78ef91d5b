"""The XML of the protocol: what is written, what is read, what is refused."""

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
    inside = f"<IsTruncated>{truncated}</IsTruncated>{more}{''.join(uploads)}"
    return f"<ListMultipartUploadsResult>{inside}</ListMultipartUploadsResult>".encode()


# --- written ---------------------------------------------------------------------------------------------------------


def test_the_list_of_parts_is_as_the_official_clients_write_it(kit):
    recorded = kit.recording("alibabacloud-oss-v2-fresh-3parts-v4")["requests"]
    answers = [dict(request["response"]["headers"]) for request in recorded[1:4]]
    parts = [UploadedPart(n, 1, answer["ETag"].strip('"')) for n, answer in enumerate(answers, 1)]
    assert recorded[4]["body"]["text"] == b"".join(xml.CompleteDocument(parts)).decode()


@given(st.text(st.characters(min_codepoint=0x21, exclude_categories=("Cs", "Cn", "Co")), min_size=1))
def test_any_etag_comes_out_of_the_list_of_parts_as_it_went_in(etag):
    root = ET.fromstring(b"".join(xml.CompleteDocument([UploadedPart(7, 1, etag)])))
    assert ("7", f'"{etag}"') == (root.findtext("Part/PartNumber"), root.findtext("Part/ETag"))


@pytest.mark.parametrize("count", [1, 700, 10_000])
def test_a_long_list_of_parts_comes_in_pieces_with_the_length_and_the_md5_of_the_whole(count):
    document = xml.CompleteDocument([UploadedPart(n, 1, f"{n:032X}") for n in range(1, count + 1)])
    pieces = list(document)
    whole = b"".join(pieces)

    assert (document.length, document.md5) == (len(whole), base64.b64encode(hashlib.md5(whole).digest()).decode())
    assert [part.findtext("PartNumber") for part in ET.fromstring(whole)] == [str(n) for n in range(1, count + 1)]
    assert all(65_536 < len(piece) < 66_000 for piece in pieces[:-1]), "a piece is 64 KiB and what its last part takes"
    assert 0 < len(pieces[-1]) < 66_000
    assert pieces == list(document), "it can be sent more than once"


# --- read ------------------------------------------------------------------------------------------------------------


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


def test_the_last_page_has_no_marker_even_if_the_document_does():
    page = xml.parse_parts(parts_page(more="<NextPartNumberMarker>3</NextPartNumberMarker>"))
    assert (page.entries, page.next_marker) == ((), None)


def test_a_page_of_uploads_is_decoded_as_it_says():
    markers = "<NextKeyMarker>b%2F%E4%B8%AD</NextKeyMarker><NextUploadIdMarker>I%20</NextUploadIdMarker>"
    page = xml.parse_uploads(
        uploads_page(
            UPLOAD.format("a%2Bb%01", "I%201"), truncated="true", more=f"<EncodingType>url</EncodingType>{markers}"
        )
    )
    assert page.entries == (PendingUpload("a+b\x01", "I%201", WHEN),)
    assert page.next_marker == ("b/中", "I%20")


def test_a_page_of_uploads_that_is_not_encoded_is_taken_literally():
    page = xml.parse_uploads(uploads_page(UPLOAD.format(" a%2Bb &amp; ", "I")))
    assert page.entries == (PendingUpload(" a%2Bb & ", "I", WHEN),)


def test_all_that_an_error_says_is_kept():
    said = xml.parse_error(b"<Error><Code> NoSuchKey\n</Code><Message>x</Message><Odd/><EC>1</EC></Error>")
    assert said == {"Code": "NoSuchKey", "Message": "x", "Odd": "", "EC": "1"}


@pytest.mark.parametrize(("text", "value"), [(None, None), ("", None), ("0", 0), ("18446744073709551615", 2**64 - 1)])
def test_a_checksum_is_a_decimal(text, value):
    assert value == xml.crc64_of(text)


@pytest.mark.parametrize(
    "text", ["-1", "1.0", "0x1", "18446744073709551616", "1" * 21, "0" * 21, "9" * 5000, "abc", " 1", "\u0661"]
)
def test_what_is_no_checksum_is_refused(text):
    with pytest.raises(BadDocument):
        xml.crc64_of(text)


def test_the_last_page_is_known_however_it_is_written():
    assert xml.parse_parts(parts_page(truncated=" False ")).next_marker is None
    more = "<NextPartNumberMarker> 7 </NextPartNumberMarker>"
    assert xml.parse_parts(parts_page(truncated="TRUE", more=more)).next_marker == 7


@pytest.mark.parametrize(("etag", "bare"), [('"E"', "E"), ("E", "E"), (' "E" ', "E"), ('""', None), ("", None)])
def test_an_etag_comes_without_its_quotes(etag, bare):
    assert xml.bare_etag(etag) == bare


@pytest.mark.parametrize(("size", "read"), [("5368709120", 5_368_709_120), ("0" * 20, 0)])
def test_a_number_has_twenty_digits_at_most(size, read):
    assert xml.parse_parts(parts_page(PART.format(1, "E", 1, size))).entries[0].size == read
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
def test_what_is_no_answer_to_an_initiate_is_refused(data):
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
def test_what_is_no_page_of_parts_is_refused(data):
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
def test_what_is_no_page_of_uploads_is_refused(data):
    with pytest.raises(BadDocument):
        xml.parse_uploads(data)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data):
    for parse in (xml.parse_initiated, xml.parse_parts, xml.parse_uploads, xml.parse_error):
        with pytest.raises(BadDocument):
            parse(data)


# --- bounded ---------------------------------------------------------------------------------------------------------


def refused(parse, data: bytes, why: str) -> None:
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
def test_a_document_beyond_all_bounds_is_refused_and_costs_little(inside, why):
    refused(xml.parse_parts, parts_page(more=inside), why)


@pytest.mark.parametrize("number", ["1" * 4400, "-1", "+1", "1_0", " ", "\u0661\u0662", "1e3", "NaN", "0x1", "10001"])
def test_a_part_number_is_of_plain_digits_within_bounds(number):
    refused(xml.parse_parts, parts_page(PART.format(number, "E", 1, 1)), "PartNumber is not a number up to 10000")


@pytest.mark.parametrize("size", ["1" * 4400, "-1", "1_0", "\u0661", "1e3", "inf", str(10**15 + 1)])
def test_a_size_is_of_plain_digits_within_bounds(size):
    refused(xml.parse_parts, parts_page(PART.format(1, "E", 1, size)), "Size is not a number up to")


def test_what_is_just_within_bounds_is_read():
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
def test_a_key_or_an_upload_id_that_can_not_be_one_is_refused(key, upload_id):
    refused(xml.parse_uploads, uploads_page(UPLOAD.format(key, upload_id)), "has more than 1024")
    marker = f"<NextKeyMarker>{key}</NextKeyMarker><NextUploadIdMarker>{upload_id}</NextUploadIdMarker>"
    refused(xml.parse_uploads, uploads_page(truncated="true", more=marker), "has more than 1024")


def test_an_upload_id_without_end_is_refused():
    document = f"<InitiateMultipartUploadResult><UploadId>{'I' * 1025}</UploadId></InitiateMultipartUploadResult>"
    refused(xml.parse_initiated, document.encode(), "UploadId has more than 1024")


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
def test_any_document_is_read_or_refused(inside, root):
    data = f"<{root}><IsTruncated>false</IsTruncated>{inside}</{root}>".encode()
    for parse in (xml.parse_initiated, xml.parse_parts, xml.parse_uploads, xml.parse_error):
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
def test_an_etag_that_was_marked_as_weak_on_the_way_is_the_services(written, bare):
    assert xml.bare_etag(written) == bare
    if bare is not None:
        listed = xml.parse_parts(parts_page(PART.format(1, written.replace('"', "&quot;"), 1, 1)))
        assert listed.entries[0].etag == bare
