"""A backend for the toy of block blobs in Azure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from partwise import errors
from partwise.checksums import CRC64_NVME
from partwise.model import Capabilities, ObjectOptions, PartLimits, PendingUpload, StoredObject, UploadedPart, utc
from partwise.protocols import Body
from toys.client import Client, read
from toys.services import BlockBlobs, crc64nvme


class BlockBlobBackend(Client):
    """
    Uploads whose parts are blocks. All options act at commit; the service reports `checksums` of blobs, or not.

    The name of a block is the only place that keeps something: a time, later than that of all others of the blob; the
    upload; the number of the part; its checksum, which the service has compared. Block 0 says that the upload was
    initiated: the latest one has the blob. Of two blocks of a part the later one counts.
    """

    location = "azure://toy"
    limits = PartLimits(max_part_size=1024, max_put_size=1024, max_parts=1000)

    def __init__(self, service: BlockBlobs, *, checksums: bool = True) -> None:
        super().__init__()
        self._service = service
        self.capabilities = Capabilities(
            options={"content_type", "metadata", "forbid_overwrite", "if_match"},
            late_options={"content_type", "metadata", "forbid_overwrite", "if_match"},
            part_checksums=True,
            object_checksums=checksums,
            checksum=CRC64_NVME,
            one_upload_per_key=True,
            aborts=False,
        )

    def initiate_upload(self, key: str, options: ObjectOptions) -> str:
        self.request(self._service.check_conditions, key, self.headers(options))
        upload_id = str(self.request(self._service.new_id))
        self._put_block(key, upload_id, 0, b"initiated")
        return upload_id

    def upload_part(self, key: str, upload_id: str, part_number: int, body: Body) -> UploadedPart:
        self._parts(key, upload_id)
        data = read(body)
        name = self._put_block(key, upload_id, part_number, data)
        return UploadedPart(part_number, len(data), name, crc64nvme(data))

    def list_parts(self, key: str, upload_id: str) -> Iterable[UploadedPart]:
        return list(self._parts(key, upload_id).values())

    def complete_upload(
        self, key: str, upload_id: str, parts: Sequence[UploadedPart], options: ObjectOptions
    ) -> StoredObject:
        headers, current = self.headers(options), self._parts(key, upload_id)
        numbers, names = [part.part_number for part in parts], [part.etag for part in parts]
        if not parts or numbers != sorted(set(numbers)) or names != [current[n].etag for n in numbers if n in current]:
            raise errors.PartRejected(f"the parts {numbers} of {key!r} are not the current ones in order")
        blob = self.request(self._service.commit, key, names, headers)
        return self.describe(key, blob, crc64nvme)

    def abort_upload(self, key: str, upload_id: str) -> None:
        self.request(lambda: None)  # nothing drops blocks without touching the blob

    def list_uploads(self, prefix: str = "") -> Iterable[PendingUpload]:
        keys = self.request(lambda: sorted(self._service.uncommitted))
        return [PendingUpload(key, self._blocks(key)[0], utc(0)) for key in keys if key.startswith(prefix)]

    def put_object(self, key: str, body: Body, options: ObjectOptions) -> StoredObject:
        return self.describe(key, self.request(self._service.put, key, read(body), self.headers(options)), crc64nvme)

    def head_object(self, key: str) -> StoredObject | None:
        found = self.request(self._service.objects.get, key)
        return None if found is None else self.describe(key, found, crc64nvme)

    def _blocks(self, key: str) -> tuple[str, dict[int, UploadedPart], int]:
        """Return the upload that has the blob, its blocks by part number, and the next time."""
        upload_id, parts, time = "", dict[int, UploadedPart](), 0
        for name, size in sorted(self.request(self._service.blocks, key).items()):
            time, number = int(name[:8], 16), int(name[24:29])
            if number == 0:
                upload_id, parts = name[8:24], {}
            if name[8:24] == upload_id:
                parts[number] = UploadedPart(max(1, number), size, name, int(name[29:], 16))
        return upload_id, parts, time + 1

    def _parts(self, key: str, upload_id: str) -> dict[int, UploadedPart]:
        current, parts, _ = self._blocks(key)
        if upload_id != current or not parts:
            raise errors.UploadNotFound(f"{self.location} has no upload {upload_id!r:.60} of {key!r}")
        return {number: part for number, part in sorted(parts.items()) if number}

    def _put_block(self, key: str, upload_id: str, part_number: int, data: bytes) -> str:
        name = f"{self._blocks(key)[2]:08x}{upload_id}{part_number:05}{crc64nvme(data):016x}"
        self.request(self._service.put_block, key, name, data, crc64nvme(data))
        return name
