"""A mutation of the code."""

from __future__ import annotations

from pathlib import Path

from attrs import define

#: The tests of the promises of the engine.
PROOF = (
    "tests/proof/test_counterexamples.py",
    "tests/proof/test_defects.py",
    "tests/proof/test_every_instant.py",
    "tests/proof/test_machine.py",
)


@define(frozen=True)
class Mutation:
    """
    One place in which the code is broken.

    Args:
        name: the resulting defect.
        file: the path of the file, from the root.
        before: the code to replace.
        after: the replacement.
        tests: the tests that have to detect it, in this order.
    """

    name: str
    file: str
    before: str
    after: str
    tests: tuple[str, ...] = PROOF

    def apply(self, tree: Path) -> None:
        """Apply it to a copy of the tree."""
        path = tree / self.file
        code = path.read_text()
        if code.count(self.before) != 1:
            raise LookupError(f"{self.name}: {self.file} contains its code {code.count(self.before)} times, not once")
        path.write_text(code.replace(self.before, self.after))
