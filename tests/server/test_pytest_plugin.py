"""The pytest plugin: its fixtures, and that it imports nothing until one is used."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest_plugins = ["pytester"]

# The plugin is loaded once, whether or not it is registered by its entry point.
_LOADED = ("-p", "no:partwise", "-p", "partwise.testing.pytest_plugin", "-p", "no:cacheprovider")


@pytest.mark.parametrize(
    "test",
    [
        """
        import http.client

        def test_it(oss_server, memory_backend):
            assert oss_server.backend("examplebucket") is memory_backend
            connection = http.client.HTTPConnection(oss_server.endpoint.removeprefix("http://"))
            connection.request("GET", "/")
            assert connection.getresponse().status == 403
            connection.close()
        """,
        """
        def test_it(memory_backend, memory_store):
            assert memory_backend.keys() == []
            assert list(memory_store.scan()) == []
        """,
    ],
    ids=["server", "memory"],
)
def test_the_fixtures_work_in_tests_of_other_projects(pytester: pytest.Pytester, test: str) -> None:
    pytester.makepyfile(test)
    pytester.runpytest_inprocess(*_LOADED).assert_outcomes(passed=1)


def test_a_planned_fault_that_was_not_reached_fails_the_test(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        from partwise.server import Fail, ServerFault

        def test_it(oss_server):
            oss_server.plan(ServerFault("UploadPart", Fail()))
        """
    )
    result = pytester.runpytest_inprocess(*_LOADED)
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*planned faults that no request reached: ServerFault(operation='UploadPart'*"])


def test_loading_the_plugin_imports_nothing_else_that_pytest_has_not_imported() -> None:
    program = """
import sys, pytest
before = set(sys.modules)
import partwise.testing.pytest_plugin
print(*sorted(set(sys.modules) - before))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)

    assert done.stdout.split() == ["partwise", "partwise.testing", "partwise.testing.pytest_plugin"]
