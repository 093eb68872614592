"""Makes the source of the generated pydantic models: a class for each contract. `tools.reference` writes the files."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import Any

import msgspec

from schemas.columns import Field, columns

_INDICATORS = "schemas.models.indicator_base"
_ROWS = "schemas.models.base"
_MODULES = {
    **dict.fromkeys(("IndicatorBase", "SuppressionBase", "Micros", "OptionalMicros"), _INDICATORS),
    **dict.fromkeys(("Contract", "Time"), _ROWS),
}
"""The module in which each base and type of the models is defined."""
_BASES = {"Indicator": "IndicatorBase", "Suppression": "SuppressionBase"}
_WIDTH = 120
_TYPES: Mapping[type, str] = {
    msgspec.inspect.StrType: "str",
    msgspec.inspect.IntType: "int",
    msgspec.inspect.BoolType: "bool",
    msgspec.inspect.NoneType: "None",
    msgspec.inspect.ListType: "tuple[str, ...]",
    msgspec.inspect.VarTupleType: "tuple[str, ...]",
}


def models_source(about: str, structs: Sequence[type[msgspec.Struct]]) -> str:
    """Return a module's text: `about` as its docstring, imports, and a class for each struct."""
    head = f'"""{about}"""\n\nfrom __future__ import annotations\n\n' + "\n".join(_imports(structs))
    return "\n\n\n".join([head, *("\n".join(_class(struct)) for struct in structs)]) + "\n"


def _imports(structs: Sequence[type[msgspec.Struct]]) -> Iterator[str]:
    modules: dict[str, set[str]] = {}
    for struct in structs:
        found = {_base(struct): _MODULES[_base(struct)]}
        for field in columns(struct):
            found |= {name: module for name, module in _MODULES.items() if name in _annotation(field).split()}
            if enum := _enum(field.kind):
                found[enum.__name__] = enum.__module__
        for name, module in found.items():
            modules.setdefault(module, set()).add(name)
    for module, names in sorted(modules.items()):
        line = f"from {module} import {', '.join(sorted(names))}"
        if len(line) > _WIDTH:
            line = f"from {module} import (\n" + "".join(f"    {name},\n" for name in sorted(names)) + ")"
        yield line


def _class(struct: type[msgspec.Struct]) -> Iterator[str]:
    about = inspect.getdoc(struct) or ""
    end = "\n" if "\n" in about else ""
    yield f"class {struct.__name__}({_base(struct)}):"
    yield textwrap.indent(f'"""{about}{end}"""', "    ")
    yield ""
    for field in columns(struct):
        yield f"    {field.name}: {_annotation(field)}{_default(field)}"
        yield f'    """{field.about}"""'


def _base(struct: type[msgspec.Struct]) -> str:
    return _BASES.get(struct.__name__, "Contract")


def _enum(kind: Any) -> type[Enum] | None:
    return kind.cls if isinstance(kind, msgspec.inspect.EnumType) else None


def _annotation(field: Field) -> str:
    if "micros" in field.extra:
        return "Micros" if field.required else "OptionalMicros"
    if field.is_time:
        return "Time | None" if field.nullable else "Time"
    kinds = field.kind.types if field.nullable else (field.kind,)
    return " | ".join(enum.__name__ if (enum := _enum(kind)) else _TYPES[type(kind)] for kind in kinds)


def _default(field: Field) -> str:
    default = field.default
    if field.required:
        return ""
    if isinstance(default, Enum):
        return f" = {type(default).__name__}.{default.name}"
    if "micros" in field.extra:
        return " = None"
    if isinstance(default, list):
        return f" = {tuple(default)}"
    return ' = ""' if default == "" else f" = {default}"
