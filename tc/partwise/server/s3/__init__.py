"""The S3 protocol for the server, as strict as the service."""
