"""Mutants of a module: small changes of its functions, each of which a test should notice."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from types import CodeType

_Function = ast.FunctionDef | ast.AsyncFunctionDef
_Path = tuple[tuple[str, int | None], ...]
"""Way from a function to a node below it: field names, with the position where the field is a list."""

_OPPOSITE: dict[type[ast.AST], type[ast.AST]] = {
    one: other
    for a, b in (
        (ast.Lt, ast.LtE),
        (ast.Gt, ast.GtE),
        (ast.Eq, ast.NotEq),
        (ast.Is, ast.IsNot),
        (ast.In, ast.NotIn),
        (ast.And, ast.Or),
        (ast.Add, ast.Sub),
        (ast.Mult, ast.FloorDiv),
        (ast.BitOr, ast.BitAnd),
        (ast.LShift, ast.RShift),
    )
    for one, other in ((a, b), (b, a))
}
_OPPOSITE_CALL = {"min": "max", "max": "min", "any": "all", "all": "any"}
_NOT_RUN = ("annotation", "returns", "decorator_list", "type_params", "args")
"""Fields of a function that are not part of what it does when it is called."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change of one function."""

    file: str
    function: str
    """Qualified name in the module."""
    line: int
    change: str
    """`BEFORE -> AFTER`, the source of the changed expression or statement."""
    key: tuple[int, _Path, int]
    """Position of the function, way to the node in it, number of the change."""


def mutants(source: str, file: str) -> Iterator[Mutant]:
    """Yield the mutants of a module's functions and methods."""
    for number, (name, function) in enumerate(_functions(ast.parse(source).body)):
        for path, node in _nodes(function):
            for choice, changed in enumerate(_changes(node)):
                change = f"{_text(node)} -> {_text(changed)}"
                yield Mutant(file, name, _line(node), change, (number, path, choice))


def compiled(source: str, mutant: Mutant) -> CodeType:
    """Return the code of the mutant's function."""
    tree = ast.parse(source)
    number, path, choice = mutant.key
    node: ast.AST = list(_functions(tree.body))[number][1]
    for name, index in path:
        parent, node = node, _child(node, name, index)
    changed = list(_changes(node))[choice]
    name, index = path[-1]
    if index is None:
        setattr(parent, name, changed)
    else:
        getattr(parent, name)[index] = changed
    code = compile(ast.fix_missing_locations(tree), mutant.file, "exec")
    for part in mutant.function.split("."):
        code = next(c for c in code.co_consts if isinstance(c, CodeType) and c.co_name == part)
    return code


def _functions(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, _Function]]:
    for statement in body:
        if isinstance(statement, _Function):
            yield prefix + statement.name, statement
        elif isinstance(statement, ast.ClassDef):
            yield from _functions(statement.body, f"{prefix}{statement.name}.")


def _nodes(node: ast.AST, path: _Path = ()) -> Iterator[tuple[_Path, ast.AST]]:
    """Yield the nodes below a function, without docstrings, annotations and assertions."""
    for name, value in ast.iter_fields(node):
        if name in _NOT_RUN and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.AnnAssign):
            continue
        for index, child in enumerate(value) if isinstance(value, list) else ((None, value),):
            if isinstance(child, ast.AST) and not isinstance(child, ast.Assert) and not _is_docstring(child):
                way = (*path, (name, index))
                yield way, child
                yield from _nodes(child, way)


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _child(node: ast.AST, name: str, index: int | None) -> ast.AST:
    value = getattr(node, name)
    child: ast.AST = value if index is None else value[index]
    return child


def _changes(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what may stand in a node's place."""
    if isinstance(node, ast.Constant):
        yield from _other_constant(node.value)
    elif isinstance(node, ast.expr):
        yield from _other_expression(node)
    elif isinstance(node, ast.comprehension):
        for index in range(len(node.ifs)):
            yield _with(node, ifs=node.ifs[:index] + node.ifs[index + 1 :])
    else:
        yield from _other_statement(node)


def _other_constant(value: object) -> Iterator[ast.AST]:
    if isinstance(value, bool):
        yield ast.Constant(not value)
    elif isinstance(value, int):
        yield ast.Constant(value + 1)
    elif isinstance(value, str):
        yield ast.Constant(f"XX{value}")


def _other_expression(node: ast.expr) -> Iterator[ast.AST]:
    match node:
        case ast.Compare(ops=operators):
            for index, operator in enumerate(operators):
                if type(operator) in _OPPOSITE:
                    yield _with(node, ops=[*operators[:index], _OPPOSITE[type(operator)](), *operators[index + 1 :]])
        case ast.BoolOp(op=operator, values=values):
            yield _with(node, op=_OPPOSITE[type(operator)]())
            for index in range(len(values)):
                left = values[:index] + values[index + 1 :]
                yield left[0] if len(left) == 1 else _with(node, values=left)
        case ast.BinOp(op=operator) if type(operator) in _OPPOSITE:
            yield _with(node, op=_OPPOSITE[type(operator)]())
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield operand
        case ast.IfExp(body=body, orelse=orelse):
            yield from (body, orelse)
        case ast.Call(func=ast.Name(id=called)) if called in _OPPOSITE_CALL:
            yield _with(node, func=ast.Name(_OPPOSITE_CALL[called], ast.Load()))


def _other_statement(node: ast.AST) -> Iterator[ast.AST]:
    match node:
        case ast.If():
            yield from (_with(node, test=ast.Constant(value=True)), _with(node, test=ast.Constant(value=False)))
        case ast.While():
            yield _with(node, test=ast.Constant(value=False))
        case ast.Return(value=ast.expr() as value) if not isinstance(value, ast.Constant):
            yield ast.Return(ast.Constant(None))
        case ast.Continue():
            yield ast.Break()
        case ast.Break():
            yield ast.Continue()
        case ast.AugAssign(op=operator):
            if type(operator) in _OPPOSITE:
                yield _with(node, op=_OPPOSITE[type(operator)]())
            yield ast.Pass()
        case ast.Delete() | ast.Expr(value=ast.Call()):
            yield ast.Pass()
        case ast.Assign(targets=targets) if any(
            isinstance(target, ast.Attribute | ast.Subscript) for target in targets
        ):
            yield ast.Pass()


def _with(node: ast.AST, **fields: object) -> ast.AST:
    """Return a copy of a node with other values of some fields."""
    changed = copy.copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed


def _line(node: ast.AST) -> int:
    return node.target.lineno if isinstance(node, ast.comprehension) else getattr(node, "lineno", 0)


def _text(node: ast.AST) -> str:
    if isinstance(node, ast.comprehension):
        return "".join(f" if {ast.unparse(condition)}" for condition in node.ifs).strip() or "(no if)"
    if isinstance(node, ast.If | ast.While):
        return f"if {ast.unparse(node.test)}"
    return ast.unparse(node)
