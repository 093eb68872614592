"""How indicators are written in a file."""

from __future__ import annotations

from enum import StrEnum


class Format(StrEnum):
    """The formats there are; auto looks what is in the file."""

    AUTO = "auto"
    DEFENDER = "defender"
    STIX = "stix"
    MISP = "misp"
    MISP_CSV = "misp-csv"
    JSONL = "jsonl"
    LIST = "list"
