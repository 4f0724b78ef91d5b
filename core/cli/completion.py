"""Shell completion: the words that options suggest, and the script of each shell."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

if TYPE_CHECKING:
    from partwise.cli.output import Output

#: The environment variable by which the scripts of the shells ask for completions.
VARIABLE = "_PARTWISE_COMPLETE"
SHELLS = ("bash", "zsh", "fish")

#: More checkpoints are not read for a completion.
_CHECKPOINTS_MAX = 500


class Suggestions(click.ParamType):  # type: ignore[type-arg]  # older versions of click have none
    """
    Text, for which a shell suggests some words.

    They are not enforced: another backend may accept others.

    Args:
        words: those for every URL.
        by_scheme: further ones for the URLs of a scheme. All of them are suggested before a URL was typed.
    """

    name = "text"

    def __init__(self, words: tuple[str, ...], by_scheme: Mapping[str, tuple[str, ...]] | None = None) -> None:
        self._words = words
        self._by_scheme = by_scheme or {}

    def shell_complete(self, ctx: Any, param: Any, incomplete: str) -> list[Any]:  # noqa: ARG002  # click's signature
        """Return the words that begin as the text does."""
        from click.shell_completion import CompletionItem

        # The option that lacks its value yet stops click from reading arguments: they are words that are left then.
        urls = (word for word in (ctx.params.get("url"), *ctx.args) if isinstance(word, str) and "://" in word)
        scheme = next(urls, "").partition(":")[0].lower()
        further = (words for name, words in self._by_scheme.items() if scheme in ("", name))
        found = dict.fromkeys((*self._words, *chain.from_iterable(further)))
        return [CompletionItem(word) for word in found if word.startswith(incomplete)]


class Paths(click.ParamType):  # type: ignore[type-arg]  # older versions of click have none
    """
    The path of a file or directory, which a shell suggests.

    Args:
        kind: "file" for files and directories, "dir" for directories only.
    """

    name = "text"

    def __init__(self, kind: Literal["file", "dir"]) -> None:
        self._kind = kind

    def shell_complete(self, ctx: Any, param: Any, incomplete: str) -> list[Any]:  # noqa: ARG002  # click's signature
        """Return the request to the shell to suggest paths; none for a URL."""
        from click.shell_completion import CompletionItem

        return [] if "://" in incomplete else [CompletionItem(incomplete, type=self._kind)]


class FilesOrNames(Paths):
    """A file, or the name of a checkpoint in the store that the command line names."""

    def __init__(self) -> None:
        super().__init__("file")

    def shell_complete(self, ctx: Any, param: Any, incomplete: str) -> list[Any]:
        """Return names, with source and target; or the request to suggest paths."""
        from click.shell_completion import CompletionItem

        names: list[Any] = []
        with suppress(Exception):  # a shell that completes a word has no place for an error
            names = [CompletionItem(name, help=text) for name, text in _checkpoints(ctx.params, incomplete)]
        return names or super().shell_complete(ctx, param, incomplete)


def _checkpoints(given: Mapping[str, Any], incomplete: str) -> Iterator[tuple[str, str]]:
    """Yield the names that begin as the text does, with source and target."""
    from partwise.cli.formatting import escape_control
    from partwise.cli.status import names_of
    from partwise.cli.targets import StoreSpec, url_of

    url = given.get("store")
    if url and url.partition(":")[0].lower() not in ("file", "sqlite"):
        return  # it may be far away
    with StoreSpec(given.get("checkpoint"), given.get("checkpoint_dir"), url).open() as store:
        found = list(islice(store.scan(), _CHECKPOINTS_MAX))
    names = names_of(found)
    for one in found:
        if one.name.startswith(incomplete):
            name = names[one.name] if names[one.name].startswith(incomplete) else one.name
            yield name, escape_control(f"{one.source} -> {url_of(one)}")


def complete(command: click.Command, output: Output) -> bool:
    """Respond to a shell that asks for completions or the script; False if none does."""
    shell, _, request = os.environ.get(VARIABLE, "").partition("_")
    if shell not in SHELLS or request not in ("source", "complete"):
        return False
    completer = _completer(shell, command)
    if request == "source":
        output.verbatim(completer.source())
    elif "COMP_WORDS" in os.environ and "COMP_CWORD" in os.environ:
        with suppress(Exception):  # a shell that completes a word has no place for an error
            output.verbatim(completer.complete())
    else:
        return False  # the variable was exported by mistake
    return True


def _completer(shell: str, command: click.Command) -> Any:
    from click.shell_completion import BashComplete, get_completion_class

    class Bash(BashComplete):
        """Bash splits ``--acl=private`` at the ``=`` and URLs at the ``:``."""

        def get_completion_args(self) -> tuple[list[str], str]:
            words, incomplete = super().get_completion_args()
            return list(_without_equals(_with_whole_urls(words))), incomplete

    kind = Bash if shell == "bash" else get_completion_class(shell)
    assert kind is not None
    template = _TEMPLATES.get(shell, kind.source_template)
    return type(kind.__name__, (kind,), {"source_template": template})(command, {}, "partwise", VARIABLE)


# A shell gets a kind, a value and perhaps a text, as by click's own scripts. These do more with them: they complete the
# value of --option=value, and values with a comma; and in fish a path that begins with a tilde.

_ZSH = r"""#compdef %(prog_name)s

%(complete_func)s() {
    (( $+commands[%(prog_name)s] )) || return 1
    local -a answer plain described
    local kind value text
    answer=("${(@f)$(env COMP_WORDS="${words[*]}" COMP_CWORD=$((CURRENT-1)) %(complete_var)s=zsh_complete \
        %(prog_name)s 2>/dev/null)}")
    [[ "${words[CURRENT]}" == --*=* ]] && compset -P 1 '*='
    for kind value text in "${(@)answer}"; do
        case "$kind" in
            (plain) [[ "$text" == _ ]] && plain+=("$value") || described+=("$value:$text") ;;
            (dir) _path_files -/ ;;
            (file) _path_files -f ;;
        esac
    done
    (( $#described )) && _describe -V unsorted described
    (( $#plain )) && compadd -V unsorted -a plain
}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    %(complete_func)s "$@"
else
    compdef %(complete_func)s %(prog_name)s
fi
"""

_FISH = r"""function %(complete_func)s
    set -l token (commandline -ct)
    set -l option (string match -r '^--[^=]+=' -- $token)
    set -l answer (env %(complete_var)s=fish_complete COMP_WORDS=(commandline -cp) COMP_CWORD=$token \
        %(prog_name)s 2>/dev/null)
    for line in $answer
        set -l found (string split -m 1 , -- $line)
        switch $found[1]
            case plain
                echo "$option$found[2]"
            case dir
                complete -C"'' $token" | string match -r '.*/$'
            case file
                complete -C"'' $token"
        end
    end
end

complete --no-files --command %(prog_name)s --arguments "(%(complete_func)s)"
"""

_TEMPLATES = {"zsh": _ZSH, "fish": _FISH}


def _with_whole_urls(words: list[str]) -> list[str]:
    joined: list[str] = []
    for word in words:
        if joined and (word == ":" or (joined[-1].endswith(":") and word.startswith("/"))):
            joined[-1] += word
        else:
            joined.append(word)
    return joined


def _without_equals(words: list[str]) -> Iterator[str]:
    previous = ""
    for word in words:
        if word != "=" or not previous.startswith("--"):
            yield word
        previous = word


# --- installation ----------------------------------------------------------------------------------------------------


def script(shell: str, command: click.Command) -> str:
    """Return the completion script of a shell; raise InvalidInput if there is none."""
    return str(_completer(_known(shell), command).source())


def install(shell: str, command: click.Command) -> list[str]:
    """
    Write the completion script of a shell, and have its start-up file read it.

    Return what was done, in lines.

    Raises:
        InvalidInput: there is no script for this shell.
        PartwiseError: a file can't be written.
    """
    from partwise.errors import PartwiseError

    shell = _known(shell)
    try:
        return _install(shell, script(shell, command))
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no home directory
        raise PartwiseError(f"completion could not be installed: {error}") from error


def _install(shell: str, text: str) -> list[str]:
    if shell == "fish":
        file = _directory("XDG_CONFIG_HOME", ".config") / "fish" / "completions" / "partwise.fish"
        _write(file, text)
        return [f"wrote {file}"]
    import shlex

    file = _directory("XDG_DATA_HOME", ".local/share") / "partwise" / f"completion.{shell}"
    line = f". {shlex.quote(str(file))}"
    if shell == "zsh":
        line = f"(( $+functions[compdef] )) || {{ autoload -Uz compinit && compinit; }}; {line}"
    startup = Path.home() / f".{shell}rc"
    _write(file, text)
    present = startup.read_text(encoding="utf-8", errors="replace") if startup.exists() else ""
    if line in present.splitlines():
        return [f"wrote {file}, which {startup} reads"]
    with startup.open("a", encoding="utf-8") as stream:
        stream.write(f"{'' if present.endswith(chr(10)) or not present else chr(10)}{line}\n")
    return [f"wrote {file}, and added a line to {startup} that reads it", "open a new shell to use it"]


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


def _directory(variable: str, default: str) -> Path:
    given = os.environ.get(variable)
    return Path(given) if given else Path.home() / default


def _known(shell: str) -> str:
    from partwise.errors import InvalidInput

    name = shell or Path(os.environ.get("SHELL", "")).name
    if name not in SHELLS:
        raise InvalidInput(f"there is no completion for the shell {name!r}", hint=f"Name one of {', '.join(SHELLS)}")
    return name
