"""One small wrong change at a time: which changes a source file offers, as text against its bytes."""

from __future__ import annotations

import ast
from copy import deepcopy
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SWAPPED: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.And: ast.Or,
    ast.Or: ast.And,
}
PLAIN = (ast.Name, ast.Attribute, ast.Call, ast.NamedExpr)
"""Tests that are turned round; those with an operator get another operator."""
COMPOUND = (
    ast.If,
    ast.While,
    ast.For,
    ast.With,
    ast.Try,
    ast.FunctionDef,
    ast.AsyncFunctionDef,
    ast.ClassDef,
)


class Mutant(NamedTuple):
    """One change of one file."""

    name: str
    """Where, and the line before and after: the same for as long as nobody edits the line."""
    line: int
    lines: range
    """Those of the statement: a test that runs none of them cannot notice."""
    before: str
    after: str
    source: bytes
    """The whole file with the change in it."""


class Change(NamedTuple):
    """A node, and the text that takes its place."""

    node: ast.expr | ast.stmt
    text: str


def mutants(module: str, source: bytes) -> list[Mutant]:
    """Every change the file offers, in its order. Annotations, decorators, docstrings and prose stay as they are."""
    lines = source.splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    found: list[Mutant] = []
    seen: dict[str, int] = {}
    for where, statement, change in _changes(ast.parse(source), (), None):
        node = change.node
        begin = starts[node.lineno - 1] + node.col_offset
        end = starts[(node.end_lineno or node.lineno) - 1] + (node.end_col_offset or 0)
        mutated = source[:begin] + change.text.encode() + source[end:]
        before = lines[node.lineno - 1].decode().strip()
        after = mutated.splitlines()[node.lineno - 1].decode().strip()
        name = f"{'.'.join((module, *where))}: {before} -> {after}"
        seen[name] = seen.get(name, 0) + 1
        if seen[name] > 1:
            name += f" ({seen[name]})"
        last = statement.end_lineno or statement.lineno
        if isinstance(statement, COMPOUND):
            last = node.end_lineno or node.lineno  # the body runs only if the test of it did
        found.append(Mutant(name, node.lineno, range(statement.lineno, last + 1), before, after, mutated))
    return found


def _changes(
    node: ast.AST, where: tuple[str, ...], statement: ast.stmt | None
) -> Iterator[tuple[tuple[str, ...], ast.stmt, Change]]:
    if isinstance(node, ast.stmt):
        statement = node
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return
    if statement is not None and isinstance(node, ast.expr | ast.stmt):
        for change in (*_of_statement(node), *_of_expression(node)):
            yield where, statement, change
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        where = (*where, node.name)
    for child in _children(node):
        yield from _changes(child, where, statement)


def _children(node: ast.AST) -> Iterator[ast.AST]:
    """What lies below a node and does something when the program runs."""
    for name, value in ast.iter_fields(node):
        if name in {"annotation", "returns", "decorator_list", "keywords"} and not isinstance(node, ast.Call):
            continue
        for child in value if isinstance(value, list) else [value]:
            prose = isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)
            if isinstance(child, ast.AST) and not prose and not isinstance(child, ast.JoinedStr):
                yield child


def _of_statement(node: ast.expr | ast.stmt) -> Iterator[Change]:
    match node:
        case ast.If(test=test) | ast.While(test=test) if isinstance(test, PLAIN):
            yield Change(test, f"(not {ast.unparse(test)})")
        case ast.Return(value=ast.expr() as value) if ast.unparse(value) != "None":
            yield Change(node, "return None")
        case ast.Break():
            yield Change(node, "continue")
        case ast.Continue():
            yield Change(node, "break")
        case (
            ast.Expr(value=ast.Call() | ast.Await())
            | ast.Assign(targets=[ast.Attribute() | ast.Subscript()])
            | ast.AugAssign()
            | ast.Raise()
        ):
            yield Change(node, "pass")


def _of_expression(node: ast.expr | ast.stmt) -> Iterator[Change]:
    match node:
        case ast.IfExp(test=test) if isinstance(test, PLAIN):
            yield Change(test, f"(not {ast.unparse(test)})")
        case ast.Compare(ops=ops):
            for place in range(len(ops)):
                yield Change(node, _edited(node, lambda copy, place=place: _swap(copy.ops, place)))
        case ast.BinOp() | ast.BoolOp() if type(node.op) in SWAPPED:
            yield Change(node, _edited(node, lambda copy: setattr(copy, "op", SWAPPED[type(copy.op)]())))
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            yield Change(node, f"({ast.unparse(node.operand)})")
        case ast.Constant():
            yield from (Change(node, text) for text in _constants(node.value))


def _constants(value: object) -> Iterator[str]:
    match value:
        case bool():
            yield repr(not value)
        case int() | float():
            yield repr(value + 1)
        case str() | bytes() if value and " " not in str(value):
            yield repr(value * 2)


def _edited(node: ast.expr, edit: Callable[..., None]) -> str:
    copy = deepcopy(node)
    edit(copy)
    return f"({ast.unparse(copy)})"


def _swap(operators: list[ast.AST], place: int) -> None:
    operators[place] = SWAPPED[type(operators[place])]()
