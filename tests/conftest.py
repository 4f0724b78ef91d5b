"""
Configuration of the whole test suite: Hypothesis profiles, processes, order.

Hypothesis profiles, for ``--hypothesis-profile``: `quick` (the default), `ci`, `soak`, and `mutation`, which needs to
find a failure, but not the smallest one.
"""

from __future__ import annotations

import gc
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from _pytest.runner import runtestprotocol
from hypothesis import HealthCheck, Phase, settings

# Shared machines are slow at times: examples have no deadline, and may take any time to generate.
_SLOW = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much)

settings.register_profile("quick", deadline=None, max_examples=100, suppress_health_check=_SLOW)
settings.register_profile("ci", settings.get_profile("quick"), max_examples=1_000, print_blob=True)
settings.register_profile("soak", settings.get_profile("ci"), max_examples=20_000)
settings.register_profile("mutation", settings.get_profile("quick"), phases=[Phase.generate], database=None)
settings.load_profile("quick")

# In a background job of a script, and under nohup, these signals are ignored, also in all child processes. The tests of
# signals would wait for ever.
for _name, _default in (("SIGINT", signal.default_int_handler), ("SIGHUP", signal.SIG_DFL)):
    if signal.getsignal(getattr(signal, _name, signal.SIGINT)) is signal.SIG_IGN:
        signal.signal(getattr(signal, _name), _default)

# The suite starts some hundred Python processes, and pytest rewrites all test modules. Without cached bytecode each of
# these compiles everything again. Git ignores the cache.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# The suite syncs thousands of small files, which is slow on a disk. Temporary files are in memory where there is room
# for them; TMPDIR chooses another place.
_MEMORY = Path("/dev/shm")
if "TMPDIR" not in os.environ and os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free >= 4 * 2**30:
    os.environ["TMPDIR"] = str(_MEMORY)
    tempfile.tempdir = None

#: Files with long tests. They come first, so that no process is left with a long test at the end.
_LONG = ("test_documents.py", "test_benchmarks.py", "test_processes.py", "test_real_crashes.py", "test_browser.py")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """
    Return how many processes run the tests.

    For directories, one more than there are processors, and at most 4: a hundred tests wait for other processes most of
    the time. Each process imports and collects all tests, so that many of them do not help. 0, which is this process,
    for single files and tests.
    """
    if not all(Path(argument).is_dir() for argument in config.args):
        return 0
    return min(_processors() + 1, 4)


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Move the files with long tests to the front, and skip long runs without ``-m soak``."""
    items.sort(key=lambda item: item.path.name not in _LONG)
    if "soak" not in config.option.markexpr:
        for item in items:
            if item.get_closest_marker("soak"):
                item.add_marker(pytest.mark.skip(reason="long: run it with -m soak"))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, Any, Any]:
    """Collect no garbage while tests are collected: they stay, and to search them again and again takes long."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_finish() -> None:
    """
    Exempt the collected tests, which live as long as the session, from garbage collection.

    What is garbage by then, some 20 MB, is exempted, too: to find it takes half a second in each process.
    """
    gc.freeze()


@pytest.fixture
def fast_collection() -> None:
    """
    Exempt what exists already from garbage collection, for tests that call ``gc.collect``.

    It is not garbage of the test, and in a process that has run thousands of tests a search of it takes 0.2 seconds.
    """
    gc.freeze()


class _FewMessages:
    """
    In a process that runs tests for another one: send the result of a test in one message.

    A test that passes has three reports, and a message for its begin and its end. To send and to read them takes longer
    than most of the tests. The reports of its setup and its teardown say nothing unless they fail; only the durations
    of those that pass are lost, and so this is not done with ``--durations`` and ``--junitxml``.
    """

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool:
        for report in runtestprotocol(item, log=False, nextitem=nextitem):
            if report.when == "call" or not report.passed or report.user_properties:
                item.ihook.pytest_runtest_logreport(report=report)
        reporter = item.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.stats.clear()  # it prints nothing here, and the garbage collector would search what it keeps
        return True


def pytest_configure(config: pytest.Config) -> None:
    """Have the processes that run the tests send few messages."""
    if hasattr(config, "workerinput") and config.option.durations is None and config.option.xmlpath is None:
        config.pluginmanager.register(_FewMessages())


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable(report: pytest.CollectReport | pytest.TestReport) -> Generator[None, Any, Any]:
    """
    Escape what UTF-8 can't encode in a report, such as a logged file name; it would end the worker process.

    The keywords of a test, of which nothing is printed, are not sent.
    """
    data = yield
    if isinstance(report, pytest.TestReport) and report.passed and not report.sections:
        return {**data, "keywords": {}}
    return _encodable(data)


def _encodable(value: Any) -> Any:
    match value:
        case str():
            return value.encode("utf-8", "backslashreplace").decode()
        case dict():
            return {key: _encodable(item) for key, item in value.items()}
        case list() | tuple():
            return type(value)(map(_encodable, value))
    return value
