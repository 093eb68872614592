"""The formats of files of indicators."""

from __future__ import annotations

from enum import StrEnum


class Format(StrEnum):
    """Formats of files of indicators; `auto` detects the format by the file's content."""

    AUTO = "auto"
    DEFENDER = "defender"
    STIX = "stix"
    MISP = "misp"
    MISP_CSV = "misp-csv"
    JSONL = "jsonl"
    LIST = "list"
