"""A backend for the toy of resumable sessions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from partwise import errors
from partwise.checksums import CRC32C
from partwise.model import Capabilities, ObjectOptions, PartLimits, PendingUpload, StoredObject, UploadedPart
from partwise.protocols import Body
from toys.client import Client, read
from toys.services import Sessions, crc32c


class SessionBackend(Client):
    """
    Uploads whose parts are appended to a session, which knows its offset and the checksum of its bytes, and no parts.

    A part that the session has is not sent again, and can't be compared. Where the service reports `checksums`, those
    show when the upload is completed whether the bytes are those of the parts; otherwise nothing does.
    """

    location = "session://toy"
    limits = PartLimits(max_part_size=1024, max_put_size=1024, max_parts=1000)

    def __init__(self, service: Sessions, *, checksums: bool = True) -> None:
        super().__init__()
        self._service = service
        self.capabilities = Capabilities(
            options={"content_type", "metadata", "forbid_overwrite", "if_match"},
            late_options={"forbid_overwrite", "if_match"},
            lists_parts=False,
            lists_uploads=False,
            object_checksums=checksums,
            checksum=CRC32C,
            sequential=True,
            replaces_parts=False,
        )

    def initiate_upload(self, key: str, options: ObjectOptions) -> str:
        headers = self.headers(options)
        self.request(self._service.check_conditions, key, headers)
        return str(self.request(self._service.create, key, headers))

    def upload_part(self, key: str, upload_id: str, part_number: int, body: Body) -> UploadedPart:
        there, _ = self.request(self._service.offset, key, upload_id)
        data, end = read(body), body.offset + len(body)
        if there < end:  # or the session has this part, and the bytes are the same
            self.request(self._service.append, key, upload_id, body.offset, data, crc32c(data))
        return UploadedPart(part_number, len(data), f"{upload_id}:{part_number}:{end}:{crc32c(data)}")

    def list_parts(self, key: str, upload_id: str) -> Iterable[UploadedPart]:
        raise errors.UnsupportedOption(f"{self.location} lists no parts")

    def complete_upload(
        self, key: str, upload_id: str, parts: Sequence[UploadedPart], options: ObjectOptions
    ) -> StoredObject:
        conditions = {name: value for name, value in self.headers(options).items() if name.startswith("If-")}
        there, checksum = self.request(self._service.offset, key, upload_id)
        end, runs = 0, []
        for number, part in enumerate(parts, start=1):
            end += part.size
            at, _, sent = part.etag.removeprefix(f"{upload_id}:{number}:").partition(":")
            if part.part_number != number or at != str(end) or end > there:
                raise errors.PartRejected(f"part {part.part_number} of {key!r} is not what the session has there")
            runs.append((int(sent), part.size))
        if not parts:
            raise errors.PartRejected(f"there are no parts of {key!r}")
        if end != there or (self.capabilities.object_checksums and CRC32C.fold(runs) != checksum):
            raise errors.UploadUnusable(f"the session of {key!r} has other bytes than those parts")
        return self.describe(key, self.request(self._service.finish, key, upload_id, end, conditions), crc32c)

    def abort_upload(self, key: str, upload_id: str) -> None:
        self.request(self._service.abort, key, upload_id)

    def list_uploads(self, prefix: str = "") -> Iterable[PendingUpload]:
        raise errors.UnsupportedOption(f"{self.location} lists no uploads")

    def put_object(self, key: str, body: Body, options: ObjectOptions) -> StoredObject:
        return self.describe(key, self.request(self._service.store, key, read(body), self.headers(options)), crc32c)

    def head_object(self, key: str) -> StoredObject | None:
        found = self.request(self._service.objects.get, key)
        return None if found is None else self.describe(key, found, crc32c)
