"""The OSS dialect of the server: requests, signatures, documents, errors."""
