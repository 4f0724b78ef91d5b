"""
Filesystems of fsspec whose writes are resumable, retried and verified.

    import fsspec

    with fsspec.open("s3+partwise://bucket/report.csv", "w") as file:
        file.write("a,b\\n")

    fsspec.filesystem("s3+partwise").put_file("backup.tar", "bucket/backup.tar")

They upload, and leave everything else to the filesystem that is given as `read_fs`, such as that of s3fs. fsspec finds
them by their protocols: ``file+partwise``, ``oss+partwise`` and ``s3+partwise``. Needs fsspec:
``pip install "partwise[fsspec]"``.
"""

from partwise._extras import missing_module

try:
    import fsspec  # noqa: F401  # the first of all modules, to say what is missing, and how to get it
except ModuleNotFoundError as error:
    if error.name != "fsspec":
        raise
    raise missing_module("partwise.fsspec", error, "fsspec") from error

from partwise.fsspec.files import UploadFile
from partwise.fsspec.filesystems import (
    LocalUploadFileSystem,
    OSSUploadFileSystem,
    S3UploadFileSystem,
    UploadFileSystem,
)

__all__ = ["UploadFileSystem", "LocalUploadFileSystem", "OSSUploadFileSystem", "S3UploadFileSystem", "UploadFile"]
