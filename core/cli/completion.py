"""What a shell can complete: words for flags that take one of some, and ``--flag=value`` in bash."""

from __future__ import annotations

import os
from collections.abc import Callable, MutableMapping

#: What OSS takes. A backend of your own may take others, so these are offered, and not insisted on.
ACLS = ("default", "private", "public-read", "public-read-write")
STORAGE_CLASSES = ("Standard", "IA", "Archive", "ColdArchive", "DeepColdArchive")
ENCRYPTIONS = ("AES256", "KMS", "SM4")
SIGNATURES = ("v4", "v1")
ADDRESSING_STYLES = ("virtual", "path", "cname")
CALLBACK_TYPES = ("application/x-www-form-urlencoded", "application/json")
VERIFY_SOURCE = ("metadata", "content")
ON_SOURCE_CHANGE = ("restart", "keep-matching")
METERS = ("auto", "lines", "json", "none")


def words(choices: tuple[str, ...]) -> Callable[[], list[str]]:
    """Offers these words."""
    return lambda: list(choices)


def rejoin(environment: MutableMapping[str, str] = os.environ) -> None:
    """
    Undo, where bash asks for completions, what it does to ``--acl=private``: it splits at ``=``, and what is to be
    completed would be taken for a second value. As two words, ``--acl private``, it means the same.
    """
    if environment.get("_PARTWISE_COMPLETE") != "complete_bash" or not environment.get("COMP_CWORD", "").isdecimal():
        return
    given = environment.get("COMP_WORDS", "").split("\n")
    current = int(environment["COMP_CWORD"])
    kept: list[str] = []
    for number, word in enumerate(given):
        if word == "=" and kept and kept[-1].startswith("--"):
            if number == current:
                kept.append("")  # the value is still to come
            elif number < current:
                environment["COMP_CWORD"] = str(int(environment["COMP_CWORD"]) - 1)
        else:
            kept.append(word)
    environment["COMP_WORDS"] = "\n".join(kept)
