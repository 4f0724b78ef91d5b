"""The documents of servers that emulate S3, where they differ from those of S3."""

from __future__ import annotations

import pytest

from partwise.backends._http.xml import BadDocument, parse_initiated
from partwise.backends.s3.xml import parse_parts

PART = "<Part><PartNumber>1</PartNumber><ETag>&quot;a&quot;</ETag><Size>3</Size></Part>"


@pytest.mark.parametrize("root", ["InitiateMultipartUploadResult", "InitiateMultipartUpload"])
def test_the_upload_id_of_gofakes3_is_read(root: str) -> None:
    assert parse_initiated(f"<{root}><UploadId>U</UploadId></{root}>".encode()) == "U"


@pytest.mark.parametrize("root", ["ListPartsResult", "ListPartsResponse"])
def test_the_parts_of_moto_are_read(root: str) -> None:
    page = parse_parts(f"<{root}><IsTruncated>false</IsTruncated>{PART}</{root}>".encode(), None)
    assert [(part.part_number, part.size, part.etag) for part in page.entries] == [(1, 3, "a")]


@pytest.mark.parametrize("root", ["html", "Error", "ListPartsResponse", "InitiateMultipartUploadResults"])
def test_any_other_document_is_no_upload_id(root: str) -> None:
    with pytest.raises(BadDocument):
        parse_initiated(f"<{root}><UploadId>U</UploadId></{root}>".encode())
