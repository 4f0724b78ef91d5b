"""One way to break the code."""

from __future__ import annotations

from pathlib import Path

from attrs import define

#: What tests the engine's promises.
PROOF = (
    "tests/proof/test_counterexamples.py",
    "tests/proof/test_defects.py",
    "tests/proof/test_every_instant.py",
    "tests/proof/test_machine.py",
)


@define(frozen=True)
class Mutation:
    """
    One way to break the engine.

    Args:
        name: what is wrong then.
        file: where, from the root.
        before: the code that is replaced.
        after: what it is replaced by.
        tests: what has to notice, in the order in which to run it.
    """

    name: str
    file: str
    before: str
    after: str
    tests: tuple[str, ...] = PROOF

    def apply(self, tree: Path) -> None:
        """Make it in a copy of the tree."""
        path = tree / self.file
        code = path.read_text()
        if code.count(self.before) != 1:
            raise LookupError(f"{self.name}: {self.file} has its code {code.count(self.before)} times, not once")
        path.write_text(code.replace(self.before, self.after))
