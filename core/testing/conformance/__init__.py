"""The checks, harnesses and machines behind `partwise.testing.conformance_backend` and `conformance_store`."""
