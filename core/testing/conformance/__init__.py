"""Conformance suites for backends and checkpoint stores; their faces are in `partwise.testing`."""
