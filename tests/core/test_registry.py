"""From a URL to a backend or a store."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

import partwise
import partwise.backends
import partwise.stores
from partwise import registry as plugins
from partwise._validation import without_password
from partwise.backends.memory import MemoryBackend
from partwise.backends.oss import Credentials
from partwise.errors import InvalidInput, UnknownScheme
from partwise.protocols import CheckpointStore, MultipartBackend
from partwise.registry import (
    BACKENDS,
    CHECKPOINT_STORES,
    default_checkpoint_store,
    open_backend,
    open_checkpoint_store,
    register_backend,
    register_checkpoint_store,
)
from partwise.stores.memory import MemoryCheckpointStore
from partwise.uploader import Uploader


@pytest.fixture(autouse=True)
def nothing_registered(monkeypatch):
    monkeypatch.setattr(plugins, "_registered", {})


@pytest.fixture
def installed(monkeypatch):
    """Plays the entry points that are installed."""

    def play(*found):
        monkeypatch.setattr(
            "importlib.metadata.entry_points",
            lambda *, group, name=None: [e for e in found if e.group == group and name in (None, e.name)],
        )

    return play


def test_a_url_names_a_backend_and_a_key():
    backend, key = open_backend("memory://plugins/a/b.bin")

    assert isinstance(backend, MultipartBackend)
    assert (backend.location, key) == ("memory://plugins", "a/b.bin")


def test_a_url_may_name_no_key():
    assert open_backend("memory://plugins")[1] == ""


def test_a_url_names_a_store():
    assert isinstance(open_checkpoint_store("memory:"), CheckpointStore)


def test_a_scheme_may_be_written_in_capitals():
    """The plug-in parses the rest of the URL."""
    register_backend("THINGS", lambda url, **settings: (settings, url))

    assert open_backend("Things://Box/Key") == ({}, "Things://Box/Key")


def test_what_a_program_registers_takes_precedence():
    backend, store = MemoryBackend(), MemoryCheckpointStore()
    register_backend("memory", lambda url, **settings: (backend, "key"))
    register_checkpoint_store("memory", lambda url: store)

    assert open_backend("memory://plugins") == (backend, "key")
    assert open_checkpoint_store("memory:") is store


def test_what_is_registered_again_replaces_what_was():
    register_backend("things", lambda url, **settings: (None, "old"))
    register_backend("THINGS", lambda url, **settings: (None, "new"))

    assert open_backend("things:")[1] == "new"


@pytest.mark.parametrize("scheme", ["", "things:", "things://", "my things", "1st", "-", "ünter", "things\n"])
@pytest.mark.parametrize("register", [register_backend, register_checkpoint_store])
def test_what_no_url_can_begin_with_is_refused(register, scheme):
    """Else it would be registered, and never found."""
    with pytest.raises(InvalidInput, match="is not a URL scheme"):
        register(scheme, lambda url: None)
    assert plugins._registered == {}


def test_an_upload_by_url_reaches_what_a_program_has_registered():
    backend = MemoryBackend()
    register_backend("box+things", lambda url, **settings: (backend, url.partition("//")[2]))
    partwise.upload(b"some bytes", "box+things://key", resume="never")

    assert backend.read("key") == b"some bytes"


def test_a_backends_scheme_serves_no_stores():
    register_backend("things", lambda url, **settings: (None, ""))

    with pytest.raises(UnknownScheme):
        open_checkpoint_store("things:")


def test_only_settings_that_were_given_are_passed_on():
    register_backend("things", lambda url, **settings: (settings, ""))

    assert open_backend("things:", region="cn-hangzhou", endpoint=None, timeout=0)[0] == {
        "region": "cn-hangzhou",
        "timeout": 0,
    }


def test_a_setting_that_means_nothing_is_refused():
    with pytest.raises(InvalidInput, match="colour"):
        open_backend("memory://plugins/key", colour="red")


def test_a_factory_need_not_take_settings():
    """The lambda of the docstring takes none, so `open_backend` refuses them for it."""
    backend = MemoryBackend()
    register_backend("things", lambda url: (backend, url.removeprefix("things:")))

    assert open_backend("things:key", region=None) == (backend, "key")
    with pytest.raises(InvalidInput, match=r"the plug-in of things: URLs does not take region: .*'region'"):
        open_backend("things:key", region="cn-hangzhou")


def test_an_error_of_a_factory_that_takes_the_settings_is_its_own():
    def open_url(url, *, region):
        raise TypeError("of the factory")

    register_backend("things", open_url)

    with pytest.raises(TypeError, match="of the factory"):
        open_backend("things:key", region="cn-hangzhou")


@pytest.mark.parametrize(
    "returned",
    [MemoryBackend(), (MemoryBackend(),), (MemoryBackend(), None), None],
    ids=["a backend", "no key", "None as the key", "None"],
)
def test_a_factory_that_returns_no_backend_and_key_is_named(returned):
    register_backend("things", lambda url: returned)

    with pytest.raises(InvalidInput, match=r"of things: URLs returned .* not a tuple of a backend and a key"):
        partwise.upload(b"some bytes", "Things:key", resume="never")


def test_a_factory_that_returns_no_store_is_named():
    register_checkpoint_store("things", lambda url: 5)

    with pytest.raises(InvalidInput, match="the plug-in of things: URLs returned 5, which is not a CheckpointStore"):
        Uploader(MemoryBackend(), store="things:")


@pytest.mark.parametrize("url", ["", "key", "/dir/key", ":key", "bucket/key"])
def test_an_invalid_url_is_refused(url):
    with pytest.raises(InvalidInput, match="does not start with a scheme, as oss://bucket/key or file:///dir/key does"):
        open_backend(url)
    with pytest.raises(InvalidInput, match=r"does not start with a scheme, as sqlite:///uploads.db does"):
        open_checkpoint_store(url)


@pytest.mark.parametrize(
    "url",
    [
        "postgre://me:secret@db/uploads",
        "postgre://me:se/cret@db",
        "postgre://me:se@cret@db/uploads",
        "postgre://me@server:secret@db/uploads",
        "postgre://:secret@db",
        "postgre://me:se\ncret@db",
        "proxie:secret@db",
        "postgre://db/x?user=me&password=secret&a=b",
        "//a:secret@b",
    ],
)
def test_the_password_of_a_url_with_an_unknown_scheme_is_not_shown(url):
    for open_url in (open_backend, open_checkpoint_store):
        with pytest.raises(InvalidInput, match=r"\*\*\*") as caught:
            open_url(url)
        assert "cret" not in str(caught.value)


_KEYS = Credentials("id", "key")


@pytest.mark.parametrize(
    ("open_url", "url", "settings"),
    [
        (open_backend, "oss://me:secret@db/key", {}),
        (open_backend, "oss://me:secret@db/key", {"region": "cn-hangzhou", "credentials": _KEYS}),
        (open_backend, "s3://me:secret@db/key", {"region": "eu-west-1", "credentials": _KEYS}),
        (open_backend, "file://me:secret@db/key", {}),
        (open_checkpoint_store, "file://me:secret@db/key", {}),
        (open_checkpoint_store, "memory://me:secret@db/key", {}),
        (open_checkpoint_store, "sqlite://me:secret@db/key", {}),
    ],
)
def test_the_password_of_a_url_that_can_have_none_is_not_shown(open_url, url, settings, monkeypatch):
    for name in ("OSS_REGION", "OSS_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InvalidInput, match=r"\*\*\*") as caught:
        open_url(url, **settings)
    assert "cret" not in str(caught.value)


@pytest.mark.parametrize("url", ["ftp://host/a:b@c", "ftp:///a@b:c@d", "ftp://host:21/a"])
def test_a_url_with_an_unknown_scheme_and_no_password_is_shown_as_it_is(url):
    with pytest.raises(UnknownScheme, match=re.escape(repr(url))):
        open_backend(url)


def test_an_unknown_scheme_is_reported_with_the_known_ones(installed):
    installed(EntryPoint("things", "m:f", BACKENDS), EntryPoint("redis", "m:f", CHECKPOINT_STORES))
    register_backend("box", lambda url, **settings: (None, ""))

    known = "Known are box:, file:, memory:, oss:, s3:, things:$"
    with pytest.raises(UnknownScheme, match=rf"'ftp://x/y': no installed plug-in handles ftp: URLs. {known}"):
        open_backend("ftp://x/y")
    with pytest.raises(UnknownScheme, match=r"Known are file:, memory:, postgres:, postgresql:, redis:, sqlite:$"):
        open_checkpoint_store("ftp:")


@pytest.mark.parametrize("url", ["file:///dir/key", "memory://plugins/key", "FILE:///dir/key"])
def test_a_backend_that_ships_works_without_the_metadata_of_packages(installed, url):
    installed()

    assert isinstance(open_backend(url)[0], MultipartBackend)


def test_a_store_that_ships_works_without_the_metadata_of_packages(installed, tmp_path):
    installed()

    for url in ("memory:", f"file://{tmp_path.as_posix()}/checkpoints", f"sqlite:///{tmp_path}/uploads.db"):
        assert isinstance(open_checkpoint_store(url), CheckpointStore)


def test_an_installed_package_does_not_take_over_what_ships(installed):
    installed(EntryPoint("memory", "m:f", BACKENDS), EntryPoint("memory", "m:f", CHECKPOINT_STORES))

    assert isinstance(open_backend("memory://plugins")[0], MemoryBackend)
    assert isinstance(open_checkpoint_store("memory:"), MemoryCheckpointStore)


def test_an_installed_package_serves_a_scheme_of_its_own(installed):
    installed(EntryPoint("things", "partwise.backends.memory:open_url", BACKENDS))

    with pytest.raises(InvalidInput):  # its word: the URL is not a memory URL
        open_backend("things:")


_FROM_A_ZIP_FILE = """
import importlib.metadata, sys
importlib.metadata.entry_points = lambda **selection: ()
def missing(name):
    raise importlib.metadata.PackageNotFoundError(name)
importlib.metadata.version = missing
import partwise
assert ".zip" in partwise.__file__, partwise.__file__
store = partwise.open_checkpoint_store("memory:")
result = partwise.upload(b"some bytes", "file:" + sys.argv[1] + "/a.bin", store=store)
assert result.verified
from partwise.cli import main
sys.argv = ["partwise", "--version"]
main()
"""


def _modules():
    """Each module, and its name in the package: in a checkout they lie in three folders, in a wheel in one."""
    found = {}
    for package in (partwise, partwise.backends, partwise.stores):
        root = Path(package.__file__).parent
        inner = Path(*package.__name__.split("."))
        found.update({path: inner / path.relative_to(root) for path in root.rglob("*.py")})
    return found


def test_what_ships_works_from_a_zip_file_without_metadata(tmp_path):
    with zipfile.ZipFile(tmp_path / "partwise.zip", "w") as archive:
        for path, name in _modules().items():
            archive.write(path, name)
    ended = subprocess.run(
        [sys.executable, "-c", _FROM_A_ZIP_FILE, (tmp_path / "bucket").as_uri().removeprefix("file:")],
        env={**os.environ, "PYTHONPATH": str(tmp_path / "partwise.zip")},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (ended.returncode, ended.stdout, ended.stderr) == (
        0,
        "partwise, unknown version: the package metadata is missing\n",
        "",
    )
    assert (tmp_path / "bucket" / "a.bin").read_bytes() == b"some bytes"


def test_a_plug_in_that_can_not_be_loaded_says_why(installed):
    installed(EntryPoint("things", "partwise_things_that_are_not_there:open_url", BACKENDS))

    with pytest.raises(UnknownScheme, match="its plug-in can't be loaded: No module named") as caught:
        open_backend("things://box/key")
    assert isinstance(caught.value.__cause__, ImportError)


def test_a_plug_in_without_its_factory_says_so(installed):
    installed(EntryPoint("things", "partwise.registry:not_there", BACKENDS))

    with pytest.raises(UnknownScheme, match=r"its plug-in can't be loaded: .*not_there"):
        open_backend("things://box/key")


def test_the_default_store_is_one_of_files():
    opened = []
    register_checkpoint_store("file", opened.append)
    default_checkpoint_store()

    assert opened == ["file:"]


def test_the_package_offers_registering():
    assert partwise.register_backend is register_backend
    assert partwise.open_backend is open_backend


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://ann:secret@host/db", "postgresql://ann:***@host/db"),
        ("postgresql://ann:se/cr@et@host/db", "postgresql://ann:***@host/db"),
        ("postgresql://:secret@host/db", "postgresql://:***@host/db"),
        ("ann:secret@host/db", "ann:***@host/db"),
        ("postgresql://host/db?password=secret&a=b", "postgresql://host/db?password=***&a=b"),
        ("postgresql://ann@host:5432/db", "postgresql://ann@host:5432/db"),
        ("sqlite:////home/ann@office/u.db", "sqlite:////home/ann@office/u.db"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert without_password(url) == shown
