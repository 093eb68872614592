"""The library of hunts: files of `hunting/queries`, each a query in KQL with a comment that explains it.

The first comment line is the title. The comment ends at the first line that is none. Parameters are `let` statements with a
default, so that a caller can replace them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files

SUFFIX = ".kql"


@dataclass(frozen=True, slots=True)
class LibraryHunt:
    """A hunt of the library: its name, which is the file's without suffix, and its text."""

    name: str
    text: str

    @property
    def title(self) -> str:
        """Return the first line of its comment."""
        return next(self._comment(), "")

    @property
    def description(self) -> str:
        """Return the lines of its comment below the title."""
        return "\n".join([*self._comment()][1:]).strip("\n")

    def _comment(self) -> Iterator[str]:
        for line in self.text.splitlines():
            if not line.startswith("//"):
                return
            yield line.removeprefix("//").removeprefix(" ").rstrip()


def hunts() -> list[LibraryHunt]:
    """Return all hunts of the library, sorted by name."""
    folder = files("hunting") / "queries"
    found = [item for item in folder.iterdir() if item.name.endswith(SUFFIX)]
    return [LibraryHunt(item.name.removesuffix(SUFFIX), item.read_text("utf-8")) for item in sorted(found, key=_name)]


def _name(item: object) -> str:
    return str(getattr(item, "name", ""))
