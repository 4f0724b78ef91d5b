"""The page in a real browser, over a service that is killed and restarted."""

from __future__ import annotations

import os
import re
import shutil
import signal

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from partwise.backends.memory import MemoryBackend
from partwise.server.faults import Fail, ServerFault
from partwise.testing import OSSServer
from partwise.testing.fakes import pseudo_random_bytes

SOON = 30_000  # milliseconds
SIZE = 3 * 1024 * 1024  # 12 parts
SLOW, FAST = 500_000, 1_500_000  # bytes per second

# Options that keep the browser from connecting to anything but the service.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def installed_browser() -> str:
    """Return the installed browser. Without one, tests are skipped, but fail in CI."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if (path := shutil.which(name)) is not None:
            return path
    if os.environ.get("CI"):
        pytest.fail("no Chromium is installed; in CI the tests of the page must run in a browser")
    pytest.skip("no Chromium is installed; on Debian: apt-get install chromium")


@pytest.fixture(scope="module")
def browser():
    path = installed_browser()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)  # headless, with a new profile
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def tab(browser: Browser):
    """The page that all tests use one after the other: to create one takes longer than to load it again."""
    with browser.new_context() as context:
        yield context.new_page()


@pytest.fixture
def page(tab: Page):
    tab.set_default_timeout(SOON)
    errors: list[object] = []
    tab.on("pageerror", note := lambda error: errors.append(error))  # noqa: PLW0108  # a built-in can't be marked
    yield tab
    tab.goto("about:blank")
    tab.remove_listener("pageerror", note)
    assert errors == []


@pytest.fixture(scope="module")
def server():
    with OSSServer(buckets={"examplebucket": (bucket := MemoryBackend())}) as server:
        server.bucket = bucket
        yield server


@pytest.fixture
def storage(server):
    """The storage of the service: an OSS server with a bucket in memory, and the keys of the objects of this test."""
    before = server.bucket.keys()
    server.new_keys = lambda: sorted({*server.bucket.keys()} - {*before})
    return server


@pytest.fixture(scope="module")
def service(make_service, server):
    """A service that the tests start, kill and restart; it takes longer to start than most of them."""
    return make_service(
        "oss://examplebucket/incoming/",
        OSS_ENDPOINT=server.endpoint,
        OSS_REGION=server.region,
        OSS_ACCESS_KEY_ID=server.access_key_id,
        OSS_ACCESS_KEY_SECRET=server.access_key_secret,
    )


def test_a_missing_browser_fails_the_test_in_ci_only(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="in CI the tests of the page must run"):
        installed_browser()
    monkeypatch.delenv("CI")
    with pytest.raises(pytest.skip.Exception, match="apt-get install chromium"):
        installed_browser()


def choose(page: Page, name: str, data: bytes) -> None:
    page.set_input_files("input", {"name": name, "mimeType": "application/octet-stream", "buffer": data})


def row_of(page: Page, name: str):
    return page.locator("li").filter(has=page.get_by_text(name, exact=True))


def wait_for_state(row, state: str) -> None:
    expect(row).to_have_attribute("data-state", state, timeout=SOON)


def wait_until_sent(page: Page, row, share: float) -> None:
    wait_for_state(row, "sending")  # the bar was full before, when the file had been received
    page.wait_for_function(
        "([bar, share]) => bar.position >= share",
        arg=[row.locator("progress").element_handle(), share],
        timeout=SOON,
        polling=50,  # milliseconds; by default the page is drawn for each look at it
    )


def kept_by(row) -> str:
    """Return the kept size that the page shows."""
    expect(row.locator(".figures")).to_contain_text("kept", timeout=SOON)
    return re.search(r"([\d.]+\s.?B) kept", row.locator(".figures").text_content())[1].replace(
        "\N{NO-BREAK SPACE}", " "
    )


def format_size(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB"


def test_the_buttons_pause_resume_and_cancel(page, service, storage):
    data = pseudo_random_bytes(SIZE // 2)
    service.ensure_running(bandwidth_limit=SLOW)
    page.goto(service.url)
    choose(page, "one.bin", data)
    choose(page, "two.bin", data)
    one, two = row_of(page, "one.bin"), row_of(page, "two.bin")
    wait_until_sent(page, one, 0.2)

    one.get_by_role("button", name="Pause").click()
    wait_for_state(one, "paused")
    expect(one.get_by_role("button", name="Pause")).to_be_hidden()
    two.get_by_role("button", name="Cancel").click()
    expect(two).to_have_count(0, timeout=SOON)
    assert {upload.key for upload in storage.bucket.list_uploads()} == {"incoming/one.bin"}

    one.get_by_role("button", name="Resume").click()
    wait_for_state(one, "stored")
    one.get_by_role("button", name="Dismiss").click()
    expect(one).to_have_count(0, timeout=SOON)
    assert storage.new_keys() == ["incoming/one.bin"]
    assert storage.bucket.read("incoming/one.bin") == data


def test_a_service_killed_within_an_upload_resumes_it_and_the_page_shows_that(page, service, storage):
    data = pseudo_random_bytes(SIZE)
    service.ensure_running(bandwidth_limit=SLOW)
    page.goto(service.url)
    choose(page, "holiday.mov", data)
    row = row_of(page, "holiday.mov")
    wait_until_sent(page, row, 0.4)

    service.stop(signal.SIGKILL)
    expect(page.locator(".note")).to_contain_text("can't be reached", timeout=SOON)
    [upload] = storage.bucket.uploads
    acknowledged = sum(part.size for part in storage.bucket.list_parts("incoming/holiday.mov", upload))

    service.start(bandwidth_limit=FAST)
    expect(page.locator(".note")).to_be_hidden(timeout=SOON)
    wait_for_state(row, "sending")
    assert acknowledged > 0
    assert kept_by(row) == format_size(acknowledged)
    wait_for_state(row, "stored")

    assert storage.bucket.read("incoming/holiday.mov") == data
    assert storage.bucket.uploads == {}
    assert [path.name for path in service.spool.rglob("*") if path.is_file()] == []


def test_a_service_that_is_stopped_pauses_its_upload_and_resumes_it_after_a_restart(page, service, storage):
    data = pseudo_random_bytes(SIZE)
    service.ensure_running(bandwidth_limit=FAST)
    page.goto(service.url)
    choose(page, "concert.mov", data)
    row = row_of(page, "concert.mov")
    wait_until_sent(page, row, 0.3)

    assert service.stop(signal.SIGTERM) in (0, -signal.SIGTERM)
    service.start()
    wait_for_state(row, "stored")
    assert kept_by(row) != "0.0 kB"
    assert storage.bucket.read("incoming/concert.mov") == data


def test_a_failure_is_shown_and_the_upload_can_be_resumed(page, service, storage):
    storage.plan(ServerFault("InitiateMultipartUpload", Fail("AccessDenied")))
    service.ensure_running()
    page.goto(service.url)
    choose(page, "theatre.mov", pseudo_random_bytes(SIZE))
    row = row_of(page, "theatre.mov")
    wait_for_state(row, "failed")
    expect(row.locator(".error")).to_contain_text("AccessDenied")

    row.get_by_role("button", name="Resume").click()
    wait_for_state(row, "stored")
    expect(row.locator(".error")).to_be_hidden()


def test_a_file_name_is_shown_as_text_and_never_interpreted(page, service, storage):
    """The client chooses the name."""
    name = "<img src=x onerror='document.title=1'>& 100% ü#?.bin"
    service.ensure_running()
    page.goto(service.url)
    choose(page, name, b"some bytes")
    wait_for_state(row_of(page, name), "stored")

    assert page.title() == "Uploads"
    assert storage.new_keys() == [f"incoming/{name}"]


@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_fits_its_window(page, service, width):
    service.ensure_running()
    page.set_viewport_size({"width": width, "height": 700})
    page.goto(service.url)
    name = "a-very-long-name-" * 8 + f"{width}.bin"
    choose(page, name, b"some bytes")
    wait_for_state(row_of(page, name), "stored")

    assert page.evaluate("document.documentElement.scrollWidth") <= width
