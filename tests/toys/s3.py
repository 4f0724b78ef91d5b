"""A backend for the toy of Amazon S3."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from partwise.checksums import CRC64_NVME
from partwise.model import Capabilities, ObjectOptions, PartLimits, PendingUpload, StoredObject, UploadedPart, utc
from partwise.protocols import Body
from toys.client import Client, read
from toys.services import S3, crc64nvme

STORAGE_CLASSES = {"standard": "STANDARD", "infrequent-access": "STANDARD_IA", "archive": "GLACIER"}


class S3Backend(Client):
    """Multipart uploads; many a copy of S3 reports no `checksums`."""

    location = "s3://toy"

    def __init__(self, service: S3, *, checksums: bool = True) -> None:
        super().__init__()
        self._service = service
        self.limits = PartLimits(service.min_part_size, max_part_size=1024, max_put_size=1024, max_parts=1000)
        self.capabilities = Capabilities(
            options={"content_type", "metadata", "acl", "storage_class", "forbid_overwrite", "if_match"},
            late_options={"forbid_overwrite", "if_match"},
            part_checksums=checksums,
            object_checksums=checksums,
            checksum=CRC64_NVME,
            equal_part_sizes=service.equal_part_sizes,
        )

    def initiate_upload(self, key: str, options: ObjectOptions) -> str:
        storage_class = STORAGE_CLASSES.get(options.storage_class or "", options.storage_class)
        headers = self.headers(options, acl=options.acl, storage_class=storage_class)
        self.request(self._service.check_conditions, key, headers)
        return str(self.request(self._service.create, key, headers))

    def upload_part(self, key: str, upload_id: str, part_number: int, body: Body) -> UploadedPart:
        self.request(self._service.upload, key, upload_id)
        data = read(body)
        etag, checksum = self.request(self._service.put_part, key, upload_id, part_number, data)
        return UploadedPart(part_number, len(data), etag, checksum if self.capabilities.part_checksums else None)

    def list_parts(self, key: str, upload_id: str) -> Iterable[UploadedPart]:
        parts = sorted(self.request(self._service.upload, key, upload_id).parts.items())
        reported = self.capabilities.part_checksums
        return [UploadedPart(n, len(data), etag, crc64nvme(data) if reported else None) for n, (etag, data) in parts]

    def complete_upload(
        self, key: str, upload_id: str, parts: Sequence[UploadedPart], options: ObjectOptions
    ) -> StoredObject:
        conditions = {name: value for name, value in self.headers(options).items() if name.startswith("If-")}
        etags = [(part.part_number, part.etag) for part in parts]
        stored = self.request(self._service.complete, key, upload_id, etags, conditions)
        return self.describe(key, stored, crc64nvme)

    def abort_upload(self, key: str, upload_id: str) -> None:
        self.request(self._service.abort, key, upload_id)

    def list_uploads(self, prefix: str = "") -> Iterable[PendingUpload]:
        found = self.request(self._service.uploads.copy).items()
        listed = [PendingUpload(one.key, upload_id, utc(one.initiated)) for upload_id, one in found]
        return [pending for pending in listed if pending.key.startswith(prefix)]

    def put_object(self, key: str, body: Body, options: ObjectOptions) -> StoredObject:
        storage_class = STORAGE_CLASSES.get(options.storage_class or "", options.storage_class)
        headers = self.headers(options, acl=options.acl, storage_class=storage_class)
        return self.describe(key, self.request(self._service.store, key, read(body), headers), crc64nvme)

    def head_object(self, key: str) -> StoredObject | None:
        found = self.request(self._service.objects.get, key)
        return None if found is None else self.describe(key, found, crc64nvme)
