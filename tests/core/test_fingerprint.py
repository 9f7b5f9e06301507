"""Fingerprints: what changes a module's hash, what belongs to a stage's code, and what is refused."""

from __future__ import annotations

import ast
import hashlib
import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from pipeline.core.code_hash import code_hash
from pipeline.core.errors import UserError
from pipeline.core.fingerprint import Code
from pipeline.data.dataset import DATASETS
from pipeline.saliency.method import METHODS
from stages import fingerprint

ROOT = Path(__file__).parents[2]


def hash_of(source: str | bytes) -> str:
    return code_hash(ast.parse(source))


# The hash of a module

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


# What belongs to a stage

MADE_UP = {
    "pipeline/__init__.py": "",
    "pipeline/core/__init__.py": "",
    "pipeline/core/registry.py": """
        import importlib
        from pathlib import Path
        class Registry:
            def __init__(self, package, attribute, kind):
                self.package, self.folder = package, Path(__file__).parent
            def __getitem__(self, name):
                return importlib.import_module(f"{self.package}.{name}")
        """,
    "pipeline/core/files.py": "def package_file(module_file, relative): ...",
    "pipeline/core/errors.py": "class UserError(Exception): ...",
    "pipeline/data/__init__.py": "",
    "pipeline/data/dataset.py": """
        from ..core.registry import Registry
        DATASETS: Registry[Dataset] = Registry("pipeline.data.datasets", "DATASET", "dataset loader")
        """,
    "pipeline/data/datasets/__init__.py": "",
    "pipeline/data/datasets/digits.py": "import sklearn.datasets",
    "pipeline/data/datasets/shapes.py": "from pipeline.data import draw",
    "pipeline/data/draw.py": "x = 1",
    "pipeline/metrics/__init__.py": "",
    "pipeline/metrics/similarity.py": "x = 1",
    "pipeline/results/__init__.py": "",
    "pipeline/results/comparison.py": """
        from pipeline.core.files import package_file
        def published(table):
            return package_file(__file__, "published")
        """,
    "pipeline/results/published/cose.csv": "a,b\n1,2\n",
    "pipeline/results/published/more/accuracy.csv": "a,b\n3,4\n",
    "pipeline/saliency/__init__.py": "",
    "pipeline/saliency/method.py": """
        from typing import TYPE_CHECKING
        from pipeline.core import registry
        if TYPE_CHECKING:
            from pipeline.results.comparison import published
        METHODS = registry.Registry[Method]("pipeline.saliency.methods", "METHOD", "saliency method")
        """,
    "pipeline/saliency/methods/__init__.py": "",
    "pipeline/saliency/methods/grad_cam.py": "from pipeline.saliency import method",
    "pipeline/saliency/methods/lime.py": "from ..surrogate import fit\nx = 1",
    "pipeline/saliency/surrogate.py": "def fit(): ...",
    "stages/__init__.py": "",
    "stages/aggregate.py": "from pipeline.results.comparison import published",
    "stages/check_params.py": "from pipeline.data import dataset\nfrom pipeline.saliency import method",
    "stages/explain.py": "from pipeline.saliency.method import METHODS",
    "stages/prepare.py": "import pipeline.data.dataset as known",
    "stages/score.py": "def main():\n    from pipeline.metrics.similarity import x",
}
LIME = {"pipeline.saliency.methods": ["lime"]}


@pytest.fixture
def made_up(tmp_path: Path) -> Callable[[Mapping[str, str]], Path]:
    def write(files: Mapping[str, str]) -> Path:
        for name, source in files.items():
            file = tmp_path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            lines = source.strip("\n").splitlines()
            indent = len(lines[0]) - len(lines[0].lstrip()) if lines else 0
            file.write_text("".join(f"{line[indent:]}\n" for line in lines))
        return tmp_path

    write(MADE_UP)
    return write


Write = Callable[[Mapping[str, str]], Path]


def test_all_that_a_module_can_load_belongs_to_it(made_up: Write) -> None:
    root = made_up({})
    assert list(Code(root).closure("stages.explain", LIME)) == [
        "pipeline", "pipeline.core", "pipeline.core.registry", "pipeline.saliency", "pipeline.saliency.method",
        "pipeline.saliency.methods", "pipeline.saliency.methods.lime", "pipeline.saliency.surrogate", "stages",
        "stages.explain",
    ]  # fmt: skip
    assert list(Code(root).closure("stages.score", {})) == [
        "pipeline", "pipeline.metrics", "pipeline.metrics.similarity", "stages", "stages.score",
    ]  # fmt: skip


def test_a_registry_of_which_nothing_is_opened_is_no_more_than_its_module(made_up: Write) -> None:
    found = Code(made_up({})).closure("stages.explain", {"pipeline.saliency.methods": [], "pipeline.data.datasets": []})
    assert not [name for name in found if name.startswith("pipeline.saliency.methods")]


IMPORTS = {
    "import a.b": ("import pipeline.data.draw", "pipeline.data.draw"),
    "import a.b as c": ("import numpy, pipeline.data.draw as d", "pipeline.data.draw"),
    "from a import a module": ("from pipeline.data import draw", "pipeline.data.draw"),
    "from a import a name": ("from pipeline.data.draw import x", "pipeline.data.draw"),
    "from a import *": ("from pipeline.data.draw import *", "pipeline.data.draw"),
    "relative": ("from . import draw", "pipeline.data.draw"),
    "relative, of a name": ("from .draw import x", "pipeline.data.draw"),
    "relative, from above": ("from ..metrics import similarity", "pipeline.metrics.similarity"),
    "relative, of a package": ("from .. import metrics", "pipeline.metrics"),
    "in a function": ("def f():\n    import pipeline.data.draw", "pipeline.data.draw"),
    "in a try": ("try:\n    import pipeline.data.draw\nexcept ImportError:\n    pass", "pipeline.data.draw"),
    "in a condition": ("if x:\n    pass\nelif y:\n    import pipeline.data.draw", "pipeline.data.draw"),
    "where no type checker reads": (
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import a\nelse:\n    import pipeline.data.draw",
        "pipeline.data.draw",
    ),
    "below a constant of the same name": (
        "TYPE_CHECKING = True\nif TYPE_CHECKING:\n    import pipeline.data.draw",
        "pipeline.data.draw",
    ),
    "not for type checkers": (
        "import typing\nif not typing.TYPE_CHECKING:\n    import pipeline.data.draw",
        "pipeline.data.draw",
    ),
}


@pytest.mark.parametrize("kind", IMPORTS)
def test_every_import_is_followed(made_up: Write, kind: str) -> None:
    source, loaded = IMPORTS[kind]
    assert loaded in Code(made_up({"pipeline/data/some.py": source})).closure("pipeline.data.some", {})


@pytest.mark.parametrize("source", [
    "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pipeline.data.draw",
    "from typing import TYPE_CHECKING as T\nif T:\n    import pipeline.data.draw",
    "import typing\nif typing.TYPE_CHECKING:\n    import pipeline.data.draw",
    "import drawing.pipeline.data.draw",
])  # fmt: skip
def test_what_is_never_imported_is_not_followed(made_up: Write, source: str) -> None:
    found = Code(made_up({"pipeline/data/some.py": source})).closure("pipeline.data.some", {})
    assert list(found) == ["pipeline", "pipeline.data", "pipeline.data.some"]


def test_a_package_may_have_names_of_its_own(made_up: Write) -> None:
    files = {
        "pipeline/data/__init__.py": "from pipeline.data.draw import x\nfrom pipeline.core import files as f\nY = 1",
        "pipeline/data/some.py": "from pipeline.data import Y, f, x",
    }
    found = Code(made_up(files)).closure("pipeline.data.some", {})
    assert {"pipeline.data.draw", "pipeline.core.files"} <= found.keys()


def test_modules_import_each_other(made_up: Write) -> None:
    files = {"pipeline/data/one.py": "import pipeline.data.two", "pipeline/data/two.py": "import pipeline.data.one"}
    code = Code(made_up(files))
    assert code.closure("pipeline.data.one", {}) == code.closure("pipeline.data.two", {})


def test_data_files_count_by_their_bytes(made_up: Write) -> None:
    root = made_up({"pipeline/results/published/__pycache__/x.pyc": "left behind"})
    found = Code(root).closure("stages.aggregate", {})
    assert [name for name in found if "/" in name] == [
        "pipeline/results/published/cose.csv", "pipeline/results/published/more/accuracy.csv",
    ]  # fmt: skip
    assert found["pipeline/results/published/cose.csv"] == hashlib.sha256(b"a,b\n1,2\n").hexdigest()
    made_up({"pipeline/results/comparison.py": """
        from pipeline.core import files
        TABLE = files.package_file(__file__, "published/cose.csv")
        """})  # fmt: skip
    found = Code(root).closure("stages.aggregate", {})
    assert [name for name in found if "/" in name] == ["pipeline/results/published/cose.csv"]


def test_names_that_only_look_like_loading_are_good(made_up: Write) -> None:
    source = 'import re\nX = re.compile("a")\nmodel.eval()\nf(compile=True)\ndef exec_all(registry: "Registry"): ...'
    Code(made_up({"pipeline/data/some.py": source})).closure("pipeline.data.some", {})


# What is refused

ONLY = "allowed: import statements; only pipeline/core/registry.py may load code by a computed name"
FILES = 'allowed: package_file(__file__, "path"), for files that come with the code'
WRITTEN = 'allowed: package_file(__file__, "path") with the path written out'
REGISTRY = 'allowed: Registry("package", ...) with the package written out'
REFUSED = {
    "import importlib": f"found an import of importlib; {ONLY}",
    "from importlib import resources": f"found an import of importlib; {ONLY}",
    "import importlib.resources as r": f"found an import of importlib.resources; {ONLY}",
    "import runpy": f"found an import of runpy; {ONLY}",
    "import os, pkgutil": f"found an import of pkgutil; {ONLY}",
    "from builtins import exec as e": f"found an import of builtins; {ONLY}",
    "__import__('pipeline.core')": f"found __import__; {ONLY}",
    "__builtins__.exec('a')": f"found __builtins__; {ONLY}",
    "exec('import a')": f"found exec; {ONLY}",
    "run = eval": f"found eval; {ONLY}",
    "compile('a', 'b', 'exec')": f"found compile; {ONLY}",
    "a.__loader__": f"found a.__loader__; {ONLY}",
    "Path(__file__).parent": f"found __file__; {FILES}",
    "import numpy\nnumpy.__file__": f"found numpy.__file__; {FILES}",
    "__path__": f"found __path__; {FILES}",
    "f(__file__, 'a')": f"found __file__; {FILES}",
    "package_file(__file__, name)": f"found package_file(__file__, name); {WRITTEN}",
    "package_file(__file__, f'{name}.csv')": f"found package_file(__file__, f'{{name}}.csv'); {WRITTEN}",
    "package_file(place, 'a')": f"found package_file(place, 'a'); {WRITTEN}",
    "package_file(__file__, relative='a')": f"found package_file(__file__, relative='a'); {WRITTEN}",
    "package_file(__file__, 'none.csv')": "found package_file of 'none.csv'; allowed: a file that exists, or a folder "
                                          "with files",
    "package_file(__file__, '../a')": "found package_file of '../a'; allowed: a path below the module's folder",
    "package_file(__file__, '/a')": "found package_file of '/a'; allowed: a path below the module's folder",
    "import pipeline.nothing.more": "found an import of pipeline.nothing; allowed: modules and names that exist",
    "from pipeline import nothing": "found an import of pipeline.nothing; allowed: modules and names that exist",
    "from pipeline.nothing import a": "found an import of pipeline.nothing; allowed: modules and names that exist",
    "from . import nothing": "found an import of pipeline.data.nothing; allowed: modules and names that exist",
    "import pipeline.data.draw.x": "found an import of pipeline.data.draw.x; allowed: modules and names that exist",
    "from ... import a": "found an import from above the top-level package; allowed: one from inside it",
    "from pipeline.data import *": "found import * from the package pipeline.data; allowed: the names that are needed",
    "from pipeline.core.registry import Registry as R": "found Registry imported as R; allowed: Registry, so that its "
                                                        "calls are found",
    "R = Registry": "found Registry neither called nor in an annotation; allowed: Registry(\"package\", ...)",
    "class R(registry.Registry): ...": "found Registry neither called nor in an annotation; allowed: "
                                       "Registry(\"package\", ...)",
    "Registry(name, 'A', 'a')": f"found Registry(name, 'A', 'a'); {REGISTRY}",
    "Registry(package='a')": f"found Registry(package='a'); {REGISTRY}",
    "Registry('pipeline.nothing', 'A', 'a')": "found a registry of 'pipeline.nothing'; allowed: a package of ours that "
                                              "exists",
    "x = (": "found a syntax error ('(' was never closed); allowed: code that this version of Python can read",
}  # fmt: skip


@pytest.mark.parametrize("source", REFUSED)
def test_what_cannot_be_followed_is_refused(made_up: Write, source: str) -> None:
    root = made_up({"pipeline/data/some.py": f"x = 1\n{source}", "stages/score.py": "import pipeline.data.some"})
    line = 2 + source.count("\n")
    with pytest.raises(UserError) as raised:
        Code(root).closure("stages.score", {})
    assert str(raised.value) == f"pipeline/data/some.py:{line}: {REFUSED[source]}"


@pytest.mark.parametrize(("module", "opened", "message"), [
    ("stages.explain", {},
     "pipeline/saliency/method.py:5: found the registry pipeline.saliency.methods, which stages.explain can load, but "
     "not what it opens there; allowed: a list of members, which may be empty"),
    ("stages.explain", {"pipeline.saliency.methods": ["limes"]},
     "pipeline/saliency/method.py:5: found no member 'limes' of the registry pipeline.saliency.methods; allowed: "
     "grad_cam, lime"),
    ("stages.score", LIME,
     "stages.score: found members opened of pipeline.saliency.methods; allowed: of the registries that it can load "
     "(none)"),
    ("stages.nothing", {}, "stages.nothing: found no module stages.nothing; allowed: a module of ours"),
    ("stage.score", {}, "stage.score: found no module stage; allowed: a module of ours"),
])  # fmt: skip
def test_what_is_asked_has_to_fit(
    made_up: Write, module: str, opened: Mapping[str, Sequence[str]], message: str
) -> None:
    with pytest.raises(UserError) as raised:
        Code(made_up({})).closure(module, opened)
    assert str(raised.value) == message


def test_a_null_byte_is_an_error_of_the_file(made_up: Write) -> None:
    with pytest.raises(UserError, match=r"^stages/score\.py:1: found a syntax error \(.*null bytes\); allowed"):
        Code(made_up({"stages/score.py": "x = '\0'"})).closure("stages.score", {})


# The stage

TABLE = {
    "check_params": {"pipeline.data.datasets": "all", "pipeline.saliency.methods": "all"},
    "prepare": {"pipeline.data.datasets": "one"},
    "explain": {"pipeline.saliency.methods": "one"},
    "score": {},
    "aggregate": {},
}


@pytest.fixture
def changed(made_up: Write, monkeypatch: pytest.MonkeyPatch) -> Callable[[Mapping[str, str]], set[str]]:
    """Write files, run the stage, and return what changed below data/code: what is new, gone or says something else."""
    monkeypatch.setattr(fingerprint, "STAGES", TABLE)
    monkeypatch.chdir(made_up({}))
    folder = Path("data/code")

    def written() -> dict[str, str]:
        fingerprint.main()
        return {file.relative_to(folder).as_posix(): file.read_text() for file in folder.rglob("*.json")}

    last = written()

    def run(files: Mapping[str, str]) -> set[str]:
        nonlocal last
        made_up(files)
        before, last = last, written()
        return {name for name in before.keys() | last.keys() if before.get(name) != last.get(name)}

    return run


Changed = Callable[[Mapping[str, str]], set[str]]


def test_a_stage_has_a_file_or_one_per_member(changed: Changed) -> None:
    files = sorted(file.as_posix() for file in Path("data").rglob("*") if file.is_file())
    assert files == [
        "data/code/aggregate.json", "data/code/check_params.json", "data/code/explain/grad_cam.json",
        "data/code/explain/lime.json", "data/code/prepare/digits.json", "data/code/prepare/shapes.json",
        "data/code/score.json",
    ]  # fmt: skip
    text = Path("data/code/score.json").read_text()
    content = json.loads(text)
    assert text == json.dumps(content, indent=2, sort_keys=True) + "\n"
    assert content["pipeline.metrics.similarity"] == hash_of("x = 1")


def test_an_edit_for_people_changes_no_fingerprint(changed: Changed) -> None:
    lime = '"""LIME."""\n\nfrom ..surrogate import (\n    fit,  # ridge\n)\n\nx = 1\n"""One."""'
    score = 'def main():\n    """Score."""\n    from pipeline.metrics.similarity import x'
    assert changed({"pipeline/saliency/methods/lime.py": lime, "stages/score.py": score}) == set()


@pytest.mark.parametrize(("file", "source", "stages"), [
    ("pipeline/saliency/methods/lime.py", "from ..surrogate import fit\nx = 2", {"explain/lime.json"}),
    ("pipeline/saliency/surrogate.py", "def fit(): return 1", {"explain/lime.json"}),
    ("pipeline/data/draw.py", "x = 2", {"prepare/shapes.json"}),
    ("pipeline/metrics/similarity.py", "x = 2", {"score.json"}),
    ("pipeline/results/published/cose.csv", "a,b\n1,3\n", {"aggregate.json"}),
    ("pipeline/results/published/new.csv", "a\n", {"aggregate.json"}),
    ("pipeline/data/unused.py", "x = 2", set()),
])  # fmt: skip
def test_a_change_reaches_the_stages_that_can_load_it(
    changed: Changed, file: str, source: str, stages: set[str]
) -> None:
    everything = {"check_params.json"} if "saliency" in file or "draw" in file else set()
    assert changed({file: source}) == stages | everything


def test_a_method_comes_and_goes_alone(changed: Changed) -> None:
    own = {"explain/noise.json", "check_params.json"}
    assert changed({"pipeline/saliency/methods/noise.py": "x = 1"}) == own
    Path("pipeline/saliency/methods/noise.py").unlink()
    assert changed({}) == own
    assert not Path("data/code/explain/noise.json").exists()


def test_an_error_leaves_the_old_fingerprints(changed: Changed) -> None:
    before = Path("data/code/score.json").read_text()
    with pytest.raises(UserError, match=r"^stages/aggregate\.py:1: "):
        changed({"stages/aggregate.py": "import runpy", "stages/score.py": "x = 1"})
    assert Path("data/code/score.json").read_text() == before


def test_the_fingerprints_of_this_code(tmp_path: Path) -> None:
    for package in ("pipeline", "stages"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "stages.fingerprint"], cwd=tmp_path, check=True)
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime < 2
    folder = tmp_path / "data/code"
    assert sorted(file.stem for file in (folder / "explain").iterdir()) == sorted(METHODS)
    assert sorted(file.stem for file in (folder / "prepare").iterdir()) == sorted(DATASETS)
    lime = json.loads((folder / "explain/lime.json").read_text())
    methods = [name for name in lime if name.startswith("pipeline.saliency.methods.")]
    assert methods == ["pipeline.saliency.methods.lime"]
    assert not [name for name in lime if name.startswith("pipeline.data.datasets.")]
    everything = json.loads((folder / "check_params.json").read_text())
    assert {f"pipeline.data.datasets.{name}" for name in DATASETS} <= everything.keys()
    assert {f"pipeline.saliency.methods.{name}" for name in METHODS} <= everything.keys()


def test_the_stage_needs_no_library() -> None:
    heavy = "{'numpy', 'pandas', 'torch', 'pydantic'} & set(sys.modules)"
    script = f"import sys, stages.fingerprint; sys.exit(str({heavy}) if {heavy} else 0)"
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)
