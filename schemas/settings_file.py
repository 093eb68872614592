"""Reading of settings from a TOML file and the environment, with errors for the operator, and writing of settings as TOML."""

from __future__ import annotations

import difflib
import json
import os
import stat
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_settings import SettingsError as NotDecodable

from schemas.sections.base import Section
from schemas.settings import CONFIG_VARIABLE, DEFAULT_FILE, PREFIX, Settings, SettingsError

FILE_CHARS_MAX = 1_000_000
"""Characters of a settings file. A path such as `/dev/zero` has no end."""
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
REMOVED = {
    "inputs.http_token": 'write a grant for the sender instead: [inputs.grants.NAME] with token = "…", and with devices = ["*"] '
    "if it reports on others",
}
"""Hints for settings of earlier versions: what replaces each of them."""
_GRANTS = "INPUTS__GRANTS"
_NO_PREFIX = "\0"
"""Prefix of environment variables where none are to be read: no variable's name has this character (POSIX)."""


def load(path: Path | None = None, *, with_environment: bool = True) -> Settings:
    """Read the settings from the file and the environment, which takes precedence. Raises SettingsError.

    If the user is root, a file that another user can write is refused, because settings name files to read and servers that
    receive login data.
    """
    environment: Mapping[str, str] = os.environ if with_environment else {}
    named = path or (Path(environment[CONFIG_VARIABLE]) if environment.get(CONFIG_VARIABLE) else None)
    content: dict[str, Any] = {}
    file = named or DEFAULT_FILE
    if named or file.exists():
        try:
            content = tomllib.loads(_text_of(file))
        except OSError as error:
            raise SettingsError(f"{file}: cannot be read: {error.strerror}; name another with --config") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SettingsError(f"{file}: is not TOML: {error}") from None
    complaints = [*_unknown_in_file(str(file), content), *_unknown_in_environment(environment)]
    if complaints:
        raise SettingsError("\n".join(complaints))

    try:
        return Settings(_env_prefix=PREFIX if with_environment else _NO_PREFIX, **content)
    except ValidationError as error:
        raise SettingsError("\n".join(_in_words(str(file), error, environment))) from None
    except NotDecodable as error:
        raise SettingsError(f"environment: a table is written as JSON there, and one is not: {error}") from None


def _text_of(file: Path) -> str:
    """Return the file's text. Raises OSError, or SettingsError if it is too long, or the user is root and others can write it."""
    with file.open(encoding="utf-8") as opened:
        if os.geteuid() == 0:
            # The status of the open file: the path could lead to another file a moment later.
            found = os.fstat(opened.fileno())
            folder = file.resolve().parent.stat()
            if found.st_uid != 0:
                _distrust(f"{file}: belongs to another user (uid {found.st_uid})", f"chown root {file}")
            if found.st_mode & _OTHERS_WRITE:
                _distrust(f"{file}: can be written by others", f"chmod go-w {file}")
            if folder.st_mode & _OTHERS_WRITE and not folder.st_mode & stat.S_ISVTX:
                _distrust(
                    f"{file}: others can write in its folder and replace it", f"chmod go-w {file.resolve().parent}"
                )
        text = opened.read(FILE_CHARS_MAX + 1)
    if len(text) > FILE_CHARS_MAX:
        raise SettingsError(f"{file}: longer than {FILE_CHARS_MAX:,} characters; name a settings file with --config")
    return text


def _distrust(why: str, remedy: str) -> NoReturn:
    raise SettingsError(
        f"{why}; root takes settings only from files that it alone can write: `{remedy}`, name another with --config, "
        "or run as that user"
    )


def dump(settings: Settings, *, secrets: bool = False) -> str:
    """Return the settings as TOML; secrets are masked unless `secrets` is set (for a file that only its owner can read)."""
    lines = []
    for section in Settings.model_fields:
        lines.append(f"[{section}]")
        part: BaseModel = getattr(settings, section)
        lines.extend(f"{name} = {as_toml(getattr(part, name), secrets=secrets)}" for name in type(part).model_fields)
        lines.append("")
    return "\n".join(lines)


def described() -> Iterator[tuple[str, str, Any, str]]:
    """Yield section, key, default and description of every setting, for the reference page."""
    for section, field in Settings.model_fields.items():
        kind = field.annotation
        assert isinstance(kind, type)
        assert issubclass(kind, BaseModel)
        for name, key in kind.model_fields.items():
            yield section, name, key.default, key.description or ""


def as_toml(value: object, *, secrets: bool = False) -> str:
    """Return a setting's value as TOML; a secret is masked unless `secrets` is set."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, SecretStr):
        kept = value.get_secret_value()
        return as_toml(kept) if secrets or not kept else '"***"'
    if isinstance(value, tuple):
        return "[" + ", ".join(as_toml(item, secrets=secrets) for item in value) + "]"
    if isinstance(value, Section):
        value = {name: getattr(value, name) for name in type(value).model_fields}
    if isinstance(value, dict):
        return (
            "{" + ", ".join(f"{as_toml(key)} = {as_toml(item, secrets=secrets)}" for key, item in value.items()) + "}"
        )
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else str(value)


def _sections() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for section, name, _, _ in described():
        found.setdefault(section, []).append(name)
    return found


def _suggest(word: str, known: list[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else f"; known are {', '.join(known)}"


def _unknown_in_file(file: str, content: Mapping[str, Any]) -> Iterator[str]:
    sections = _sections()
    for section, keys in content.items():
        if section not in sections:
            yield f"{file}: {section} is not a section{_suggest(section, list(sections))}"
            continue
        if not isinstance(keys, dict):
            yield f"{file}: {section} must be a section, written as [{section}]"
            continue
        for key in keys:
            if key not in sections[section]:
                gone = REMOVED.get(f"{section}.{key}")
                hint = f" any more; {gone}" if gone else _suggest(key, sections[section])
                yield f"{file}: {section}.{key} is not a setting{hint}"


def _unknown_in_environment(environment: Mapping[str, str]) -> Iterator[str]:
    known = [f"{s.upper()}__{k.upper()}" for s, keys in _sections().items() for k in keys]
    gone = {name.upper().replace(".", "__"): hint for name, hint in REMOVED.items()}
    whole = {name.upper() for name in environment} & {f"{PREFIX}{_GRANTS}"}
    for name in environment:
        given = name.upper().removeprefix(PREFIX)
        if not name.upper().startswith(PREFIX) or name == CONFIG_VARIABLE or given in known:
            continue
        if given.startswith(f"{_GRANTS}__") and given.count("__") == _GRANTS.count("__") + 2:
            # UNPROXY_INPUTS__GRANTS__NAME__KEY; an unknown key is reported when the grant is read.
            if whole:
                # Two variables for one key are refused: one would replace the other, and a grant could lose a condition.
                yield f"environment: {name} and {PREFIX}{_GRANTS} are both set; write all of it into one of them"
            continue
        near = difflib.get_close_matches(given, known, n=1, cutoff=0.5)
        if given in gone:
            hint = f" any more; {gone[given]}"
        else:
            hint = f"; did you mean {PREFIX}{near[0]}?" if near else "; `unproxy check --dump` lists all settings"
        yield f"environment: {name} is not a setting{hint}"


def _default(place: tuple[int | str, ...]) -> object:
    """Return the default of a setting, by its path of keys."""
    return next((default for section, name, default, _ in described() if (section, name) == place[:2]), None)


def _in_words(file: str, error: ValidationError, environment: Mapping[str, str]) -> Iterator[str]:
    for one in error.errors():
        parts = [str(part) for part in one["loc"]]
        variables = [PREFIX + "__".join(parts[:depth]).upper() for depth in range(len(parts), 1, -1)]
        variable = next((name for name in variables if name in environment), "")
        place = f"environment: {variable}" if variable else f"{file}: {'.'.join(parts)}"
        # Of an error in a whole section or grant the input is the whole section.
        secret = len(parts) < 2 or parts[:2] == ["inputs", "grants"] or isinstance(_default(one["loc"]), SecretStr)
        # The URL contains login data.
        secret = secret or (isinstance(one["input"], str) and "@" in one["input"])
        got = "" if secret else f" (got {one['input']!r})"
        yield f"{place}: {one['msg'].removeprefix('Value error, ')}{got}"
