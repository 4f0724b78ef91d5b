"""
From a URL to a backend or a store.

The scheme decides who serves it. They are asked in this order:

1. what the program has registered, by `register_backend` or `register_checkpoint_store`;
2. what ships with partwise, which works without the metadata of installed packages, as where those were stripped to
   save room, or where partwise is imported from a zip file;
3. what other distributions offer, by an entry point in the group `partwise.backends` or `partwise.checkpoint_stores`,
   named like the scheme. So an installed package can't take over a scheme that ships with partwise.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, cast

from partwise._validation import brief, check_callable, check_type, has_methods
from partwise.errors import InvalidInput, UnknownScheme
from partwise.protocols import CheckpointStore, MultipartBackend

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = [
    "BackendFactory",
    "StoreFactory",
    "open_backend",
    "open_checkpoint_store",
    "register_backend",
    "register_checkpoint_store",
]

BACKENDS = "partwise.backends"
CHECKPOINT_STORES = "partwise.checkpoint_stores"


class BackendFactory(Protocol):
    """Makes a backend of a URL."""

    def __call__(self, url: str, /, **settings: Any) -> tuple[MultipartBackend, str]:
        """
        The backend that the URL names, and the key in it ("" where the URL names no object).

        Args:
            url: as the user gave it.
            settings: what else the user said (an endpoint, a region). One that means nothing here is refused.

        Raises:
            InvalidInput: the URL or a setting makes no sense.
        """


class StoreFactory(Protocol):
    """Makes a checkpoint store of a URL."""

    def __call__(self, url: str, /) -> CheckpointStore:
        """
        The store that the URL names.

        Raises:
            InvalidInput: the URL makes no sense.
        """


#: Returns the store for the source of a given name.
StoreOfSource = Callable[[str], CheckpointStore]

#: What the argument `store` of an uploader takes.
StoreLike = CheckpointStore | str | StoreOfSource

_registered: dict[tuple[str, str], Any] = {}

#: The modules that serve what ships, each by its `open_url`. By name, so that only what is used is imported.
_SHIPPED = {
    BACKENDS: {
        "file": "partwise.backends.local",
        "memory": "partwise.backends.memory",
        "oss": "partwise.backends.oss",
    },
    CHECKPOINT_STORES: {
        "file": "partwise.stores.file",
        "memory": "partwise.stores.memory",
        "sqlite": "partwise.stores.sqlite",
    },
}


def register_backend(scheme: str, factory: BackendFactory) -> None:
    """
    Serve URLs of this scheme by `factory` in this process, before any other.

        register_backend("database", lambda url: (DatabaseBackend("objects.db"), url.removeprefix("database:")))

    Args:
        scheme: what stands before the colon, such as ``"database"``; capitals make no difference. What was registered
            for it before is replaced.
        factory: called with each URL as the user gave it.

    Raises:
        InvalidInput: no URL can begin with such a scheme, or `factory` can't be called.
    """
    check_callable("factory", factory)
    _registered[BACKENDS, _checked(scheme)] = factory


def register_checkpoint_store(scheme: str, factory: StoreFactory) -> None:
    """
    Serve store URLs of this scheme by `factory` in this process, before any other.

    Args:
        scheme: as for `register_backend`. A scheme may serve both.
        factory: called with each URL as the user gave it.

    Raises:
        InvalidInput: no URL can begin with such a scheme, or `factory` can't be called.
    """
    check_callable("factory", factory)
    _registered[CHECKPOINT_STORES, _checked(scheme)] = factory


def _checked(scheme: object) -> str:
    # RFC 3986, 3.1. "things://" would be registered, and never found.
    if not isinstance(scheme, str) or not re.fullmatch(r"[a-z][a-z0-9+.-]*", scheme, re.ASCII | re.IGNORECASE):
        raise InvalidInput(
            f"{brief(scheme)} can't be the scheme of a URL: a letter, then letters, digits, '+', '.' and '-'"
        )
    return scheme.lower()


def open_backend(url: str, **settings: Any) -> tuple[MultipartBackend, str]:
    """
    The backend that a URL such as ``oss://bucket/key`` names, and the key.

    Args:
        url: the URL.
        settings: handed to the plug-in. Those that are None count as not given.

    Raises:
        UnknownScheme: no plug-in serves this scheme.
        InvalidInput: the plug-in can't make sense of the URL or of a setting.
    """
    factory: BackendFactory = _find(BACKENDS, url)
    return factory(url, **{name: value for name, value in settings.items() if value is not None})


def open_checkpoint_store(url: str) -> CheckpointStore:
    """
    The store that a URL such as ``sqlite:///uploads.db`` names.

    Args:
        url: the URL. ``file:`` alone is the store in the user's state directory.

    Raises:
        UnknownScheme: no plug-in serves this scheme.
        InvalidInput: the plug-in can't make sense of the URL.
    """
    factory: StoreFactory = _find(CHECKPOINT_STORES, url)
    return factory(url)


def default_checkpoint_store() -> CheckpointStore:
    """The store that is used when none is given: files in the user's state directory."""
    return open_checkpoint_store("file:")


def check_store(store: StoreLike) -> CheckpointStore | StoreOfSource:
    """
    Return the store that was given, or the one at its URL, or the function that was given.

    Raises:
        InvalidInput: it is none of these, or not the URL of a store.
    """
    if isinstance(store, str):
        return open_checkpoint_store(store)
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
        raise InvalidInput(f"{url!r} is not a URL: it does not begin with a scheme, as {_example(group)} does")
    if (group, scheme) in _registered:
        return _registered[group, scheme]
    if scheme in _SHIPPED[group]:
        return import_module(_SHIPPED[group][scheme]).open_url
    for found in _installed(group):
        if found.name == scheme:
            return _load(found.load, url)
    raise UnknownScheme(f"{url!r}: nothing installed serves {scheme}: URLs; there is {_known(group)}")


def _installed(group: str) -> Iterable[EntryPoint]:
    # Here and not above: it takes longer to import than all of this package, and a program may bring its own backend.
    from importlib.metadata import entry_points

    return entry_points(group=group)


def _load(load: Callable[[], Any], url: str) -> Any:
    try:
        return load()
    except (ImportError, AttributeError) as error:
        raise UnknownScheme(f"{url!r}: the plug-in for it can't be loaded: {error}") from error


def _example(group: str) -> str:
    return "oss://bucket/key or file:///dir/key" if group == BACKENDS else "sqlite:///uploads.db"


def _known(group: str) -> str:
    installed = {found.name for found in _installed(group)}
    registered = {scheme for known, scheme in _registered if known == group}
    return ", ".join(f"{scheme}:" for scheme in sorted({*_SHIPPED[group], *installed, *registered}))
