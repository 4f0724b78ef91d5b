"""
Backends and checkpoint stores by URL.

The scheme of the URL selects a factory. These are searched in this order:

1. factories registered by the program, by `register_backend` or `register_checkpoint_store`;
2. those of partwise itself, which need no package metadata, so they work in a zip file or a stripped installation;
3. those of other distributions: entry points in the group `partwise.backends` or `partwise.checkpoint_stores` with the
   name of the scheme. So an installed package can't replace a scheme of partwise.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, cast

from partwise._validation import brief, brief_url, check_callable, check_type, has_methods
from partwise.errors import InvalidInput, UnknownScheme
from partwise.protocols import CheckpointStore, MultipartBackend

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["BackendFactory", "StoreFactory"]
__all__ += ["open_backend", "open_checkpoint_store", "register_backend", "register_checkpoint_store"]

BACKENDS = "partwise.backends"
CHECKPOINT_STORES = "partwise.checkpoint_stores"


class BackendFactory(Protocol):
    """Creates a backend from a URL."""

    def __call__(self, url: str, /, **settings: Any) -> tuple[MultipartBackend, str]:
        """
        Return the backend at a URL, and the key in the URL ("" if it has none).

        Args:
            url: the URL, unchanged.
            settings: further settings, such as an endpoint or a region. Unknown ones are refused.

        Raises:
            InvalidInput: the URL or a setting is invalid.
        """


class StoreFactory(Protocol):
    """Creates a checkpoint store from a URL."""

    def __call__(self, url: str, /) -> CheckpointStore:
        """
        Return the store at a URL.

        Raises:
            InvalidInput: the URL is invalid.
        """


#: Returns the store for the source of a given name.
StoreOfSource = Callable[[str], CheckpointStore]

#: What the argument `store` of an uploader takes.
StoreLike = CheckpointStore | str | StoreOfSource

_registered: dict[tuple[str, str], Any] = {}

#: The modules of partwise's own schemes, each with a factory `open_url`. By name, so that only used ones are imported.
_SHIPPED = {
    BACKENDS: {
        "file": "partwise.backends.local",
        "memory": "partwise.backends.memory",
        "oss": "partwise.backends.oss",
        "s3": "partwise.backends.s3",
    },
    CHECKPOINT_STORES: {
        "file": "partwise.stores.file",
        "memory": "partwise.stores.memory",
        "postgres": "partwise.stores.postgres",
        "postgresql": "partwise.stores.postgres",
        "sqlite": "partwise.stores.sqlite",
    },
}


def register_backend(scheme: str, factory: BackendFactory | Callable[[str], tuple[MultipartBackend, str]]) -> None:
    """
    Use `factory` for backend URLs of this scheme in this process.

    For example::

        register_backend("database", lambda url: (DatabaseBackend("objects.db"), url.removeprefix("database:")))

    Args:
        scheme: the part before the colon, such as ``"database"``; not case-sensitive. An earlier factory is replaced.
        factory: called with each URL. It need not take settings: then they are refused.

    Raises:
        InvalidInput: the scheme is not valid in a URL, or `factory` can't be called.
    """
    check_callable("factory", factory)
    _registered[BACKENDS, _checked(scheme)] = factory


def register_checkpoint_store(scheme: str, factory: StoreFactory) -> None:
    """
    Use `factory` for store URLs of this scheme in this process.

    Args:
        scheme: as for `register_backend`, and independent of it.
        factory: called with each URL.

    Raises:
        InvalidInput: the scheme is not valid in a URL, or `factory` can't be called.
    """
    check_callable("factory", factory)
    _registered[CHECKPOINT_STORES, _checked(scheme)] = factory


def _checked(scheme: object) -> str:
    # RFC 3986, 3.1. A scheme such as "things://" would never match.
    if not isinstance(scheme, str) or not re.fullmatch(r"[a-z][a-z0-9+.-]*", scheme, re.ASCII | re.IGNORECASE):
        raise InvalidInput(f"{brief(scheme)} is not a URL scheme: a letter, then letters, digits, '+', '.' and '-'")
    return scheme.lower()


def open_backend(url: str, **settings: Any) -> tuple[MultipartBackend, str]:
    """
    Return the backend at a URL such as ``oss://bucket/key``, and the key.

    Args:
        url: the URL.
        settings: arguments for the factory. Those that are None are left out.

    Raises:
        UnknownScheme: no plug-in handles this scheme.
        InvalidInput: the URL or a setting is invalid; or the plug-in returned something else.
    """
    factory: BackendFactory = _find(BACKENDS, url)
    given = {name: value for name, value in settings.items() if value is not None}
    if given:
        _check_settings(factory, url, given)
    opened: Any = factory(url, **given)
    match opened:
        case tuple((backend, str(key))):
            return backend, key
    raise InvalidInput(f"{_plug_in(url)} returned {brief(opened)}, which is not a tuple of a backend and a key")


def _check_settings(factory: BackendFactory, url: str, settings: Mapping[str, object]) -> None:
    """
    Check that a factory takes settings of these names.

    Raises:
        InvalidInput: it does not.
    """
    from inspect import signature

    try:
        taken = signature(factory)
    except (TypeError, ValueError):  # written in C
        return
    try:
        taken.bind(url, **settings)
    except TypeError as error:
        raise InvalidInput(f"{_plug_in(url)} does not take {', '.join(sorted(settings))}: {error}") from None


def open_checkpoint_store(url: str) -> CheckpointStore:
    """
    Return the store at a URL such as ``sqlite:///uploads.db``.

    Args:
        url: the URL. ``file:`` alone is the store in the user's state directory.

    Raises:
        UnknownScheme: no plug-in handles this scheme.
        InvalidInput: the URL is invalid.
    """
    factory: StoreFactory = _find(CHECKPOINT_STORES, url)
    return factory(url)


def default_checkpoint_store() -> CheckpointStore:
    """Return the default store: files in the user's state directory."""
    return open_checkpoint_store("file:")


def check_store(store: StoreLike) -> CheckpointStore | StoreOfSource:
    """
    Return the given store, the store at a URL, or the given function.

    Raises:
        InvalidInput: it is not one of these, or not the URL of a store; or the plug-in returned something else.
    """
    if isinstance(store, str):
        opened = open_checkpoint_store(store)
        if not _is_store(opened):
            raise InvalidInput(f"{_plug_in(store)} returned {brief(opened)}, which is not a CheckpointStore")
        return opened
    if not _is_store(store) and (isinstance(store, type) or not callable(store)):
        expected = "a CheckpointStore, the URL of one, a function from the name of a source to one, or None"
        raise InvalidInput(f"store must be {expected}, not {brief(store)}")
    return store


def store_of_source(store: CheckpointStore | StoreOfSource, source: str) -> CheckpointStore:
    """
    Return the store for the source of this name.

    Raises:
        InvalidInput: the function of the caller returned something else.
    """
    if _is_store(store):
        return cast(CheckpointStore, store)
    found = cast(StoreOfSource, store)(source)
    if not _is_store(found):
        raise InvalidInput(f"the function given as store returned {brief(found)}, which is not a CheckpointStore")
    return found


def _is_store(value: object) -> bool:
    return has_methods(value, ("claim", "save", "append_part"))


def _find(group: str, url: str) -> Any:
    check_type("the URL", url, str, f"a string such as {_example(group)}")
    scheme, colon, _ = url.partition(":")
    scheme = scheme.lower()
    if not colon or not scheme:
        raise InvalidInput(f"{brief_url(url)} is not a URL: it does not start with a scheme, as {_example(group)} does")
    if (group, scheme) in _registered:
        return _registered[group, scheme]
    if scheme in _SHIPPED[group]:
        return import_module(_SHIPPED[group][scheme]).open_url
    for found in _installed(group):
        if found.name == scheme:
            return _load(found.load, url)
    raise UnknownScheme(f"{brief_url(url)}: no installed plug-in handles {scheme}: URLs. Known are {_known(group)}")


def _installed(group: str) -> Iterable[EntryPoint]:
    # Imported here: it takes longer to import than all of partwise.
    from importlib.metadata import entry_points

    return entry_points(group=group)


def _load(load: Callable[[], Any], url: str) -> Any:
    try:
        return load()
    except (ImportError, AttributeError) as error:
        raise UnknownScheme(f"{brief_url(url)}: its plug-in can't be loaded: {error}") from error


def _plug_in(url: str) -> str:
    return f"the plug-in of {url.partition(':')[0].lower()}: URLs"


def _example(group: str) -> str:
    return "oss://bucket/key or file:///dir/key" if group == BACKENDS else "sqlite:///uploads.db"


def _known(group: str) -> str:
    installed = {found.name for found in _installed(group)}
    registered = {scheme for known, scheme in _registered if known == group}
    return ", ".join(f"{scheme}:" for scheme in sorted({*_SHIPPED[group], *installed, *registered}))
