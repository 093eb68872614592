"""Find retired words inside names and file names, and retired phrases; `make lint` calls it beside codespell.

python -m tests.words [PATH ...]

codespell compares whole words and does not split `snake_case` or `CamelCase`; it has no phrases either. Both read the same list,
`.codespell/retired.txt`. Prints FILE:LINE: WORD ==> REPLACEMENT for each hit, as codespell does, and exits with 1
after a hit.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RETIRED = ROOT / ".codespell/retired.txt"
CONTRACTS: Mapping[str, str] = {
    "unproxy_endpoint_heard_total": "a metric that was released; dashboards and alert rules read it",
}
"""Public names that contain a retired word and stay, with the reason."""

_TEXTS = {".py", ".md", ".toml", ".yaml", ".yml", ".sql", ".sh", ".service", ""}
_LEFT_OUT = ("tests/data/", "schemas/migrations/", ".codespell/", "docs/samples/", "LICENSE")
"""Lines of sensors, the list itself and a licence: not our words. Migrations that were applied do not change."""

_NAME = re.compile(r"\w+")
_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


def retired(file: Path = RETIRED) -> dict[str, str]:
    """Return the replacement of each retired word or phrase, from a file in codespell's format."""
    entries = (line.partition("->") for line in file.read_text(encoding="utf-8").splitlines())
    return {word: replacement for word, _, replacement in entries}


def parts(name: str) -> list[str]:
    """Split a name at underscores, digits and changes of case; in lower case."""
    return [part.lower() for part in _PART.findall(name)]


def in_name(name: str, words: Mapping[str, str]) -> Iterator[str]:
    """Yield the retired words of a compound name; codespell finds a name that is one word."""
    split = parts(name)
    if len(split) > 1 and name not in CONTRACTS:
        yield from (word for word in split if word in words)
        yield from (pair for pair in map(" ".join, pairwise(split)) if pair in words)


def in_text(text: str, words: Mapping[str, str], *, names: bool) -> Iterator[tuple[int, str]]:
    """Yield the line number and the word of each retired phrase and, with `names`, of each retired word in a name."""
    phrases = re.compile(rf"\b(?:{'|'.join(word for word in words if ' ' in word)})\b", re.IGNORECASE)
    for number, line in enumerate(text.splitlines(), 1):
        yield from ((number, hit.group().lower()) for hit in phrases.finditer(line))
        if names:
            yield from ((number, word) for name in _NAME.findall(line) for word in in_name(name, words))


def tracked(paths: Sequence[str]) -> Iterator[Path]:
    """Yield the text files under version control in these paths, relative to the root; without a path in all."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", *paths], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    for name in filter(None, listed.split("\0")):
        path = Path(name)
        if path.suffix in _TEXTS and not name.startswith(_LEFT_OUT) and (ROOT / path).is_file():
            yield path


def main(paths: Sequence[str]) -> int:
    """Print each hit in these paths; return 1 if there is one."""
    words = retired()
    hits = 0
    for path in tracked(paths):
        found = [(1, word) for part in path.with_suffix("").parts for word in {*parts(part)} & words.keys()]
        found += in_text((ROOT / path).read_text(encoding="utf-8"), words, names=path.suffix == ".py")
        hits += len(found)
        for number, word in found:
            print(f"{path}:{number}: {word} ==> {words[word].rstrip(',')}")
    return int(hits > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
