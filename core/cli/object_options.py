"""
The flags for the properties of an object, and the options made of them.

The flags for options that several storages have are declared here; those for options of one storage by its package (see
`partwise.cli.vendors`). Any option that has no flag is set by its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from attrs import define, field

from partwise.cli.common_options import request_options
from partwise.cli.completion import Suggestions
from partwise.cli.help_pages import OptionGroup
from partwise.cli.param_types import Value
from partwise.cli.vendors import PAIRS, option_values, present, secret_options, suggestions

if TYPE_CHECKING:
    from partwise.model import ObjectOptions
    from partwise.protocols import MultipartBackend

_WORDS = {
    "acl": ("private", "public-read", "public-read-write"),
    "storage_class": ("standard", "infrequent-access", "archive", "deep-archive"),
    "encryption": ("AES256", "KMS"),
}


def _suggestions(name: str) -> Suggestions:
    return suggestions(name, _WORDS[name])


shared_options = (
    OptionGroup("Object properties")
    .option("--content-type TYPE", str, "Default: guessed from the name's extension.")
    .option("--meta NAME=VALUE", Value("pair"), "User metadata; can be repeated.", "metadata", **PAIRS)
    .option("--acl ACL", _suggestions("acl"), "private, public-read, public-read-write, or a word of the storage.")
    .option(
        "--storage-class CLASS",
        _suggestions("storage_class"),
        "standard, infrequent-access, archive, deep-archive, or a word of the storage, such as ColdArchive.",
    )
    .option("--tag NAME=VALUE", Value("pair"), "Object tag; can be repeated.", "tags", **PAIRS)
    .option("--cache-control VALUE", str, "Cache-Control header of the object.")
    .option("--content-disposition VALUE", str, "Content-Disposition header of the object.")
    .option("--content-encoding VALUE", str, "Content-Encoding header of the object.")
    .flag("--forbid-overwrite", "Fail if the object exists.")
    .option("--if-match ETAG", str, "Fail unless the object exists and has this ETag.")
    .option(
        "--encryption METHOD",
        _suggestions("encryption"),
        "Server-side encryption: AES256, KMS, or a word of the storage, such as SM4.",
    )
    .option("--kms-key-id ID", str, "Key for --encryption KMS.")
)

_further_options = OptionGroup("Object properties").option(
    "--set NAME=VALUE",
    Value("pair"),
    "Any option of the storage by its name, such as content_language=en; can be repeated.",
    "assignments",
    **PAIRS,
)


def object_options(function: Any) -> Any:
    """Declare the flags that several storages have: a decorator."""
    return shared_options(_further_options(function))


# --- from flags to options -------------------------------------------------------------------------------------------


@define(frozen=True)
class RequestedOptions:
    """The options that a command line requests, for a backend that is not open yet."""

    values: Mapping[str, Any] = field(factory=dict, repr=False)  # from flags, by the name of the option
    assignments: Mapping[str, str] = field(factory=dict)  # from --set, by the name of the option

    @classmethod
    def from_flags(cls, given: Mapping[str, Any]) -> RequestedOptions:
        """
        Return what the values of all flags request.

        Raises:
            InvalidInput: flags that belong together are incomplete, a file that a flag names can't be used, or --set
                gives a secret.
        """
        assignments = given["assignments"]
        for name, flag in secret_options().items():
            if name in assignments:
                from partwise.errors import InvalidInput

                raise InvalidInput(
                    f"--set can't give {name}, which is secret: other users can read command lines",
                    hint=f"Write it to a file, and use {flag}",
                )
        return cls({**present(shared_options.values(given)), **cls.of_requests(given).values}, assignments)

    @classmethod
    def of_requests(cls, given: Mapping[str, Any]) -> RequestedOptions:
        """
        Return what flags request that are not for the object alone.

        Raises:
            InvalidInput: flags that belong together are incomplete, or a file that a flag names can't be used.
        """
        return cls(request_options.values(given) | option_values(given))

    def for_backend(self, backend: MultipartBackend) -> ObjectOptions:
        """
        Return the options, of the class that the backend declares.

        Raises:
            UnsupportedOption: the backend does not support one of them.
            InvalidInput: an option is given twice, or its value has another type.
        """
        from attrs import fields

        from partwise.errors import InvalidInput, UnsupportedOption

        capabilities = backend.capabilities
        kind = capabilities.option_type
        if twice := self.values.keys() & self.assignments.keys():
            raise InvalidInput(f"--set gives {', '.join(sorted(twice))} a second time", hint="Give each option once")
        supported = capabilities.options & {a.name for a in fields(kind)}
        if unsupported := {*self.values, *self.assignments} - supported:
            flags = ", ".join(self._flag_of(name) for name in sorted(unsupported))
            raise UnsupportedOption(f"{backend.location} does not support {flags}. Nothing was sent")
        types = _types_of_fields(kind)
        assigned = {name: _parse(name, text, types.get(name, str)) for name, text in self.assignments.items()}
        return kind(**self.values, **assigned)

    def _flag_of(self, name: str) -> str:
        """Return how the command line gives an option."""
        from partwise.cli.reporting import FLAGS

        return f"--set {name}" if name in self.assignments else FLAGS.get(name, name)


def _types_of_fields(kind: type[ObjectOptions]) -> dict[str, Any]:
    from typing import get_type_hints

    try:
        return get_type_hints(kind)
    except NameError:  # a plug-in imports the type for type checkers only
        return {}


def _parse(name: str, text: str, hint: Any) -> Any:
    """Parse the value of an option with this type hint."""
    import re

    from partwise.errors import InvalidInput

    kinds = _kinds_of(hint)
    if kinds == {bool}:
        if text.lower() not in ("true", "false"):
            raise InvalidInput(f"{name} must be true or false, not {text!r:.60}")
        return text.lower() == "true"
    if kinds == {int}:
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", text, re.ASCII):
            raise InvalidInput(f"{name} must be an integer, not {text!r:.60}")
        return int(text)
    if kinds == {str}:
        return text
    raise InvalidInput(f"--set can't give {name}: its value is not a text, an integer, or true or false")


def _kinds_of(hint: Any) -> set[Any]:
    """Return the types in a type hint, without None."""
    from types import UnionType
    from typing import Literal, Union, get_args, get_origin

    if get_origin(hint) in (Union, UnionType):
        return {kind for one in get_args(hint) if one is not type(None) for kind in _kinds_of(one)}
    return set(map(type, get_args(hint))) if get_origin(hint) is Literal else {hint}
