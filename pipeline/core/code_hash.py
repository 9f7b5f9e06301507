"""A hash of what a module does: of its syntax tree, without what only people read.

The tree is written out here rather than with `ast.dump`, whose text differs between versions of Python; the same source
has the same hash on all of them.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator

SILENT = {"ctx", "kind", "type_comment", "type_ignores"}
"""Fields that say nothing that the rest of the tree does not: load or store, the u of u"text", comments."""


def code_hash(tree: ast.Module) -> str:
    """Return a hash of a module's code.

    Left out are positions and layout, comments, docstrings and other strings that are a statement of their own, and
    empty fields (so one that a newer Python adds changes nothing until it is used). Everything else counts.

    Args:
        tree: the module, as `ast.parse` returns it.

    Returns:
        64 hexadecimal digits.
    """
    out: list[str] = []
    _write(tree, out)
    return hashlib.sha256("".join(out).encode("utf-8", "surrogatepass")).hexdigest()


def _write(value: object, out: list[str]) -> None:
    """Write out a node, a list of them or a plain value; no two different ones have the same text."""
    if isinstance(value, ast.AST):
        out.append(f"({type(value).__name__}")
        for name, field in sorted(_fields(value).items()):
            out.append(f" {name}=")
            _write(field, out)
        out.append(")")
    elif isinstance(value, list):
        out.append("[")
        for item in value:
            _write(item, out)
        out.append("]")
    else:
        text = _text(value)
        out.append(f"{type(value).__name__}:{len(text)}:{text}")  # with its length, as text may hold any character


def _fields(node: ast.AST) -> dict[str, object]:
    fields = {name: getattr(node, name, None) for name in node._fields if name not in SILENT}
    for name, field in fields.items():
        if isinstance(field, list):
            fields[name] = [item for item in field if not _is_bare_string(item)]
    if isinstance(node, ast.JoinedStr):
        fields["values"] = list(_merged(node.values))
    if isinstance(node, ast.FormattedValue) and node.format_spec is not None:
        spec = node.format_spec  # a plain constant at times, on Python 3.13
        fields["format_spec"] = list(_merged(spec.values if isinstance(spec, ast.JoinedStr) else [spec]))
    # A constant None loses its value here too, and no other constant does.
    return {name: field for name, field in fields.items() if field is not None and field != []}


def _is_bare_string(item: object) -> bool:
    """Say whether this is a statement that is only a string: a docstring, or a note below an assignment."""
    return isinstance(item, ast.Expr) and isinstance(item.value, ast.Constant) and isinstance(item.value.value, str)


def _merged(parts: Iterable[ast.expr]) -> Iterator[ast.expr]:
    """Yield the parts of an f-string with its text in one piece; where Python splits it differs between versions."""
    text = ""
    for part in parts:
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            text += part.value
            continue
        if text:
            yield ast.Constant(value=text)
        text = ""
        yield part
    if text:
        yield ast.Constant(value=text)


def _text(value: object) -> str:
    match value:
        case str():
            return value
        case bytes():
            return value.hex()
        case bool() | float() | None:
            return repr(value)
        case int():
            return f"{value:x}"  # Python refuses to write very long numbers in decimal
        case complex():
            return f"{value.real!r} {value.imag!r}"
        case _ if value is ...:
            return ""
    raise TypeError(f"no text for a constant of type {type(value).__name__}")
