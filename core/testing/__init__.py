"""The public test kit: faults, conformance suites, and an OSS-protocol server."""
