"""The code that belongs to a stage: all that it can load, and what is refused since it cannot be followed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import pytest

from pipeline.core.errors import UserError
from pipeline.core.fingerprint import Code
from tests.core.conftest import Write

LIME = {"pipeline.saliency.methods": ["lime"]}


def test_all_that_a_module_can_load_belongs_to_it(made_up: Write) -> None:
    root = made_up({})
    assert list(Code(root).closure("stages.explain", LIME)) == [
        "pipeline",
        "pipeline.core",
        "pipeline.core.registry",
        "pipeline.saliency",
        "pipeline.saliency.method",
        "pipeline.saliency.methods",
        "pipeline.saliency.methods.lime",
        "pipeline.saliency.surrogate",
        "stages",
        "stages.explain",
    ]
    assert list(Code(root).closure("stages.score", {})) == [
        "pipeline",
        "pipeline.metrics",
        "pipeline.metrics.similarity",
        "stages",
        "stages.score",
    ]


def test_a_registry_of_which_nothing_is_opened_is_no_more_than_its_module(made_up: Write) -> None:
    found = Code(made_up({})).closure("stages.explain", {"pipeline.saliency.methods": [], "pipeline.data.datasets": []})
    assert not [name for name in found if name.startswith("pipeline.saliency.methods")]


def test_what_only_starts_a_stage_does_not_belong_to_it(made_up: Write) -> None:
    before = Code(made_up({})).closure("stages.score", {})
    made_up({"warm/__init__.py": "x = 1", "warm/client.py": "import runpy"})  # which would be refused elsewhere
    score = "def main():\n    from pipeline.metrics.similarity import x"
    found = Code(made_up({"stages/score.py": f"import warm\nfrom warm.client import y\n{score}"}))
    assert found.closure("stages.score", {}).keys() == before.keys()


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


@pytest.mark.parametrize(
    "source",
    [
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pipeline.data.draw",
        "from typing import TYPE_CHECKING as T\nif T:\n    import pipeline.data.draw",
        "import typing\nif typing.TYPE_CHECKING:\n    import pipeline.data.draw",
        "import drawing.pipeline.data.draw",
    ],
)
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
        "pipeline/results/published/cose.csv",
        "pipeline/results/published/more/accuracy.csv",
    ]
    assert found["pipeline/results/published/cose.csv"] == hashlib.sha256(b"a,b\n1,2\n").hexdigest()
    made_up(
        {
            "pipeline/results/comparison.py": """
        from pipeline.core import files
        TABLE = files.package_file(__file__, "published/cose.csv")
        """
        }
    )
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
    "R = Registry": 'found Registry neither called nor in an annotation; allowed: Registry("package", ...)',
    "class R(registry.Registry): ...": "found Registry neither called nor in an annotation; allowed: "
    'Registry("package", ...)',
    "Registry(name, 'A', 'a')": f"found Registry(name, 'A', 'a'); {REGISTRY}",
    "Registry(package='a')": f"found Registry(package='a'); {REGISTRY}",
    "Registry('pipeline.nothing', 'A', 'a')": "found a registry of 'pipeline.nothing'; allowed: a package of ours that "
    "exists",
    "x = (": "found a syntax error ('(' was never closed); allowed: code that this version of Python can read",
}


@pytest.mark.parametrize("source", REFUSED)
def test_what_cannot_be_followed_is_refused(made_up: Write, source: str) -> None:
    root = made_up({"pipeline/data/some.py": f"x = 1\n{source}", "stages/score.py": "import pipeline.data.some"})
    line = 2 + source.count("\n")
    with pytest.raises(UserError) as raised:
        Code(root).closure("stages.score", {})
    assert str(raised.value) == f"pipeline/data/some.py:{line}: {REFUSED[source]}"


@pytest.mark.parametrize(
    ("module", "opened", "message"),
    [
        (
            "stages.explain",
            {},
            "pipeline/saliency/method.py:5: found the registry pipeline.saliency.methods, which stages.explain can "
            "load, but "
            "not what it opens there; allowed: a list of members, which may be empty",
        ),
        (
            "stages.explain",
            {"pipeline.saliency.methods": ["limes"]},
            "pipeline/saliency/method.py:5: found no member 'limes' of the registry pipeline.saliency.methods; "
            "allowed: "
            "grad_cam, lime",
        ),
        (
            "stages.score",
            LIME,
            "stages.score: found members opened of pipeline.saliency.methods; allowed: of the registries that it can "
            "load "
            "(none)",
        ),
        ("stages.nothing", {}, "stages.nothing: found no module stages.nothing; allowed: a module of ours"),
        ("stage.score", {}, "stage.score: found no module stage; allowed: a module of ours"),
    ],
)
def test_what_is_asked_has_to_fit(
    made_up: Write, module: str, opened: Mapping[str, Sequence[str]], message: str
) -> None:
    with pytest.raises(UserError) as raised:
        Code(made_up({})).closure(module, opened)
    assert str(raised.value) == message


def test_a_null_byte_is_an_error_of_the_file(made_up: Write) -> None:
    with pytest.raises(UserError, match=r"^stages/score\.py:1: found a syntax error \(.*null bytes\); allowed"):
        Code(made_up({"stages/score.py": "x = '\0'"})).closure("stages.score", {})
