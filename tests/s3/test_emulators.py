"""The documents of servers that emulate S3, where they differ from those of S3."""

from __future__ import annotations

import pytest

from partwise.backends._http.xml import BadDocument, parse_initiated
from partwise.backends.s3.xml import parse_parts, parse_uploads

PART = "<Part><PartNumber>1</PartNumber><ETag>&quot;a&quot;</ETag><Size>3</Size></Part>"
UPLOAD = "<Upload><Key>k</Key><UploadId>U</UploadId><Initiated>2025-03-09T08:07:06Z</Initiated></Upload>"


@pytest.mark.parametrize("root", ["InitiateMultipartUploadResult", "InitiateMultipartUpload"])
def test_the_upload_id_of_gofakes3_is_read(root: str) -> None:
    assert parse_initiated(f"<{root}><UploadId>U</UploadId></{root}>".encode()) == "U"


@pytest.mark.parametrize("root", ["ListPartsResult", "ListPartsResponse"])
def test_the_parts_of_moto_are_read(root: str) -> None:
    page = parse_parts(f"<{root}><IsTruncated>false</IsTruncated>{PART}</{root}>".encode(), None)
    assert [(part.part_number, part.size, part.etag) for part in page.entries] == [(1, 3, "a")]


def parts_page(end: str) -> bytes:
    return f"<ListPartsResult><MaxParts>1000</MaxParts>{end}{PART}</ListPartsResult>".encode()


def uploads_page(end: str) -> bytes:
    return f"<ListMultipartUploadsResult>{end}{UPLOAD}</ListMultipartUploadsResult>".encode()


@pytest.mark.parametrize("marker", ["", "0", " ", None])
def test_a_page_of_parts_without_an_end_and_without_a_marker_is_the_last(marker: str | None) -> None:
    """As of gofakes3, which leaves out what is false. For botocore, too, it is the last page."""
    end = "" if marker is None else f"<NextPartNumberMarker>{marker}</NextPartNumberMarker>"
    page = parse_parts(parts_page(end), None)
    assert ([part.part_number for part in page.entries], page.next_marker) == ([1], None)


@pytest.mark.parametrize(
    "end",
    [
        "<NextPartNumberMarker>1</NextPartNumberMarker>",
        "<NextPartNumberMarker>x</NextPartNumberMarker>",
        "<IsTruncated/>",
        "<IsTruncated>maybe</IsTruncated>",
        "<IsTruncated>true</IsTruncated>",
    ],
)
def test_a_page_of_parts_that_leaves_open_whether_it_is_the_last_is_refused(end: str) -> None:
    with pytest.raises(BadDocument):
        parse_parts(parts_page(end), None)


@pytest.mark.parametrize("end", ["", "<NextKeyMarker/>", "<NextKeyMarker/><NextUploadIdMarker/>"])
def test_a_page_of_uploads_without_an_end_and_without_a_marker_is_the_last(end: str) -> None:
    page = parse_uploads(uploads_page(end), plus_is_space=False)
    assert ([upload.upload_id for upload in page.entries], page.next_marker) == (["U"], None)


@pytest.mark.parametrize(
    "end",
    [
        "<NextKeyMarker>0</NextKeyMarker>",
        "<NextKeyMarker> </NextKeyMarker>",
        "<NextUploadIdMarker>U</NextUploadIdMarker>",
        "<IsTruncated/>",
        "<IsTruncated>maybe</IsTruncated>",
    ],
)
def test_a_page_of_uploads_that_leaves_open_whether_it_is_the_last_is_refused(end: str) -> None:
    with pytest.raises(BadDocument):
        parse_uploads(uploads_page(end), plus_is_space=False)


@pytest.mark.parametrize("root", ["html", "Error", "ListPartsResponse", "InitiateMultipartUploadResults"])
def test_any_other_document_is_no_upload_id(root: str) -> None:
    with pytest.raises(BadDocument):
        parse_initiated(f"<{root}><UploadId>U</UploadId></{root}>".encode())
