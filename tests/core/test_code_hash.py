"""The hash of a module: what changes it, and what does not."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.core.code_hash import code_hash

ROOT = Path(__file__).parents[2]


def hash_of(source: str | bytes) -> str:
    return code_hash(ast.parse(source))


SAME: dict[str, tuple[str | bytes, str | bytes]] = {
    "a comment": ("x = 1\n", "# why\nx = 1  # one\n"),
    "a docstring of a module": ('"""Old."""\nx = 1', '"""New."""\nx = 1'),
    "no docstring of a module": ('"""Old."""\nx = 1', "x = 1"),
    "a docstring of a function": ('def f():\n    """Old."""\n    return 1', "def f():\n    return 1"),
    "a docstring of a coroutine": ('async def f():\n    """Old."""\n    return 1', "async def f():\n    return 1"),
    "a docstring of a class": ('class C:\n    """Old."""\n    x = 1', "class C:\n    x = 1"),
    "the docstring of an empty function": ('def f():\n    """Old."""', 'def f():\n    """New."""'),
    "the docstring of an empty class": ('class C(E):\n    """Old."""', 'class C(E):\n    "New."'),
    "a note below an assignment": ('x = 1\n"""Old."""', "x = 1"),
    "blank lines and spaces": ("x=1\n\n\ny = [1,2]", "x = 1\ny = [1, 2]"),
    "line breaks": ("f(a, b)", "f(\n    a,\n    b,\n)"),
    "parentheses": ("x = a + b", "x = (a + b)"),
    "two statements on a line": ("x = 1; y = 2", "x = 1\ny = 2"),
    "quotes": ("x = 'a'", 'x = """a"""'),
    "a prefix that says nothing": ("x = 'a'", "x = u'a'"),
    "escapes": ("x = 'é'", "x = '\\u00e9'"),
    "strings side by side": ("x = 'a' 'b'", "x = 'ab'"),
    "f-strings side by side": ("x = f'a{y}b' 'c' f'd{z}'", "x = f'a{y}bcd{z}'"),
    "an empty format": ("x = f'{y:}'", "x = f'{y}'"),
    "how a number is written": ("x = 1_000", "x = 1000"),
    "a type comment": ("x = []  # type: list[int]", "x = []"),
    "line ends": (b"x = '''a\nb'''\ny = 1\n", b"x = '''a\r\nb'''\r\ny = 1\r\n"),
    "the encoding": ("x = 'é'".encode(), "# coding: latin-1\nx = 'é'".encode("latin-1")),
}

DIFFERENT = {
    "a number": ("x = 1", "x = 2"),
    "the type of a number": ("x = 1", "x = 1.0"),
    "a number to a truth": ("x = 1", "x = True"),
    "a number to a string": ("x = 1", "x = '1'"),
    "a string to bytes": ("x = '1'", "x = b'1'"),
    "a string to the bytes' digits": ("x = '31'", "x = b'1'"),
    "a real number to a complex one": ("x = 1.0", "x = 1j"),
    "zero to nothing": ("x = 0", "x = None"),
    "nothing to an ellipsis": ("x = None", "x = ..."),
    "a sign": ("x = 1", "x = -1"),
    "the last digit": ("x = 0.1", "x = 0.10000000000000002"),
    "no value to none": ("def f():\n    return", "def f():\n    return None"),
    "a name": ("x = a", "x = b"),
    "a name to a string": ("x = a", "x = 'a'"),
    "an operator": ("x = a + b", "x = a - b"),
    "an order": ("x = a - b", "x = b - a"),
    "a grouping": ("x = a - b - c", "x = a - (b - c)"),
    "a nesting": ("x = [[a], b]", "x = [[a, b]]"),
    "a list to a tuple": ("x = [a]", "x = (a,)"),
    "a keyword": ("f(a=b)", "f(b)"),
    "a keyword's name": ("f(a=b)", "f(c=b)"),
    "a star": ("f(*a)", "f(a)"),
    "a default": ("def f(a=1): ...", "def f(a=2): ..."),
    "whose default": ("def f(*, a=1, b): ...", "def f(*, a, b=1): ..."),
    "a key or an unpacked mapping": ("x = {None: a}", "x = {**a}"),
    "a hint": ("def f(a: int): ...", "def f(a: str): ..."),
    "a decorator": ("@d\ndef f(): ...", "def f(): ..."),
    "an async": ("async def f(): ...", "def f(): ..."),
    "an attribute": ("x = a.b", "x = a.c"),
    "a global": ("def f():\n    global a\n    a = 1", "def f():\n    global b\n    a = 1"),
    "an import": ("import a", "import a as b"),
    "a relative import": ("from . import a", "from .. import a"),
    "a conversion": ("x = f'{y}'", "x = f'{y!r}'"),
    "a format": ("x = f'{y:>3}'", "x = f'{y:>4}'"),
    "the text of an f-string": ("x = f'a{y}'", "x = f'b{y}'"),
    "where the text of an f-string is": ("x = f'a{y}'", "x = f'{y}a'"),
    "an f-string that shows its code": ("x = f'{y=}'", "x = f'{y!r}'"),
    "text that looks like a field": ("x = f'{{y}}'", "x = f'{y}'"),
    "a string that is computed": ("f'{y}'", "'y'"),
    "a docstring that is not alone": ('def f():\n    """A."""', 'def f():\n    return """A."""'),
    "a space in a string": ("x = '''a\n'''", "x = '''a \n'''"),
    "a pattern": ("match x:\n    case None: ...", "match x:\n    case True: ..."),
    "a branch": ("if a:\n    b\nelse:\n    c", "if a:\n    b\nc"),
    "an exception group": ("try: a\nexcept B: c", "try: a\nexcept* B: c"),
    "strings with the tree's own marks": ("x = ['a', 'b']", "x = ['a str:1:b']"),
}


@pytest.mark.parametrize("edit", SAME)
def test_the_hash_stays_with_an_edit_for_people(edit: str) -> None:
    before, after = SAME[edit]
    assert hash_of(before) == hash_of(after)


@pytest.mark.parametrize("edit", DIFFERENT)
def test_the_hash_changes_with_the_code(edit: str) -> None:
    before, after = DIFFERENT[edit]
    assert hash_of(before) != hash_of(after)


EVERYTHING = r'''
"""Docs."""
from __future__ import annotations
import a.b as c, os.path
from . import *
x = 1; y = 2.5e300; z = 1e999; w = 3j; big = 0x_ffff_ffff_ffff_ffff_ffff; neg = -1; e = ...; b = b"\x00\xff"
t, f, n, u, odd = True, False, None, u"uni", "\ud800"
s = "a" 'b' f"c{x}d" "e{" f"{{lit}}" rf"\d{x}" f"" "" f"{0}"
g = f"{x=}" f"{x = }" f"{x=!s}" f"{x=:>10}" f"{x=!r:^{y}}" f"{x!a}" f"{x:}" f"{x=:}" f"{x!=y}" f"{x<=y}"
h = f"{x:{y}.{z}}" f"{x:a{y}b{z}c}" f"{x:{0}{10}}" f"{x:%Y-%m-%d}" f"{{}}" f"{{{x}}}" f"{x!r:{y!s}}" f"{x:=^10}"
k = f'a{f"b{x}" f"{y:{z}}c"}d' f"""{
    x
} line \
 more {y!r:
}"""
m = f"{(v:=5)}" f"{(lambda q: q * 2)(3)}" f"{ {1: 2}[1] }" f"{[*x, *y]}" f"{x,}" f"\N{BULLET}{x:\N{BULLET}>9}\x41{x:\n}"
d = f"{d['a']!r:>{w['b']}}" f"\\{x}\\" rf"\{x}\\"
i: dict[str, list[int]] = {}; (par): int; x.attr: int = 4
@dec
@dec.two(x, *y, **z)
async def fun(a, /, b: int = 1, *c: "str", d, e: list[int] = [], **f) -> dict[str, int]:
    """Docs."""
    global G
    async with a as b, c: pass
    async for i in x: await y
    else: return [i async for i in x if i if j]
    def inner():
        nonlocal a
        yield from (yield a)
def empty():
    """Docs."""
class K(Base, metaclass=M, **kw):
    """Docs."""
    attr: int = 3
    """Note."""
match x:
    case 1 | -2 | 3+4j | "s" "t" | None | True: pass
    case [a, *rest, _] if a > 0: pass
    case {"k": v, **kw}: pass
    case Point(x=0, y=yy) as pt: pass
    case a.b.c | (1, *_): pass
    case _: ...
try: pass
except* (A, B) as err: raise err from None
try: pass
except A: pass
except: pass
else: pass
finally: pass
first, *rest = x[1:2, ..., ::3]; x[*idx]; del x[0], y
if (n := len(x)) > 3 and not y or z is not None: pass
elif x: pass
while True: break
with (open(a) as q, open(b)): pass
lam = lambda *a, k=1, **kw: {**kw, "a": a} | {*a}
comp = {k: v for k, v in x for q in k}; gen = (i for i in x); st = {i for i in x}
assert x, "msg"; x @= y; x //= 2; x = y = z; a < b < c in d; x if y else z
ünïcode = f"日{ünïcode}本"; ﬁ = 1
'''
DIGEST = "a17902e3f7a687fa04c285b389d02f3ab08f2ebb1e051f0727a3a645e8039924"


def test_the_hash_is_the_same_on_every_python() -> None:
    # Run on another Python, this is where a tree that looks different there shows.
    assert hash_of(EVERYTHING) == DIGEST


def other_pythons() -> dict[str, str]:
    """Return an interpreter for each version of Python that is here, newer than 3.10 and not this one."""
    candidates = [shutil.which(f"python3.{minor}") for minor in range(11, 20)]
    candidates += map(str, sorted((Path.home() / ".pyenv" / "versions").glob("3.*/bin/python3.1[1-9]")))
    found: dict[str, str] = {}
    for candidate in filter(None, candidates):
        asked = [candidate, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
        version = subprocess.run(asked, capture_output=True, text=True).stdout.strip()
        if version and version != f"{sys.version_info[0]}.{sys.version_info[1]}":
            found.setdefault(version, candidate)
    return found


@pytest.mark.slow
def test_other_pythons_find_the_same_hashes(tmp_path: Path) -> None:
    others = other_pythons()
    if not others:
        pytest.skip("no other Python from 3.11 on is here")
    for package in ("pipeline", "stages"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "everything.py").write_text(EVERYTHING, encoding="utf-8")
    script = """
import ast, json, pathlib
from pipeline.core.code_hash import code_hash
print(json.dumps({str(file): code_hash(ast.parse(file.read_bytes())) for file in pathlib.Path().rglob("*.py")}))
"""
    hashes = {
        version: json.loads(subprocess.check_output([python, "-B", "-W", "ignore", "-c", script], cwd=tmp_path))
        for version, python in {"this one": sys.executable, **others}.items()
    }
    assert len(hashes["this one"]) > 50
    for version in others:
        assert hashes[version] == hashes["this one"], version
