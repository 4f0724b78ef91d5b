"""The checks, harnesses and machines of both conformance suites."""
