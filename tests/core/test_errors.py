"""Errors the user can fix: one place formats them, and they keep their parts on every way that they take."""

from __future__ import annotations

import ast
import pickle
from pathlib import Path

import pytest

from pipeline.core import params
from pipeline.core.errors import UserError
from tests.world import ROOT

ROOMS = ("pipeline", "stages", "runner", "warm", "benchmarks")
PARTS = ("where", "found", "expected", "fix")


@pytest.mark.parametrize(
    ("keywords", "text"),
    [
        ({}, "a: found 3"),
        ({"expected": 4}, "a: found 3; allowed: 4"),
        ({"fix": "remove it"}, "a: found 3; remove it"),
        ({"expected": 4, "fix": "remove it"}, "a: found 3; allowed: 4; remove it"),
    ],
)
def test_one_line_of_the_parts_that_are_given(keywords: dict[str, object], text: str) -> None:
    error = UserError(Path("a"), "found 3", **keywords)
    assert str(error) == text
    again = pickle.loads(pickle.dumps(error))
    assert [getattr(again, part) for part in PARTS] == [getattr(error, part) for part in PARTS]
    assert str(again) == text


def test_changes_keep_the_other_parts() -> None:
    error = UserError("/tmp/x/a", "found /tmp/x", expected="no /tmp/x", fix="remove /tmp/x")
    assert str(error.at("b")) == "b: found /tmp/x; allowed: no /tmp/x; remove /tmp/x"
    assert str(error.rewritten(lambda text: text.replace("/tmp/x", "data"))) == (
        "data/a: found data; allowed: no data; remove data"
    )


def test_keys_name_the_profile_that_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    assert params.at("seed") == "params.yaml: seed"
    monkeypatch.setattr(params, "PARAMS", Path("profiles/paper.yaml"))
    assert params.at("seed") == "profiles/paper.yaml: seed"
    message = r"^profiles/paper\.yaml: models\.mine\.cam_layer: found 1$"
    with pytest.raises(UserError, match=message), params.entry("models", "mine"):
        raise UserError(params.at("models.*.cam_layer"), "found 1")


def test_an_entry_names_its_own_errors_alone() -> None:
    error = UserError(params.at("training"), "found 1")
    with pytest.raises(UserError) as caught, params.entry("models", "mine"):
        raise error
    assert caught.value is error


def python_files() -> list[Path]:
    return sorted(file for room in ROOMS for file in (ROOT / room).rglob("*.py"))


def test_messages_are_put_together_in_one_place() -> None:
    """``allowed:`` and the rest belong into the parts, not into the text of one."""
    for file in python_files():
        for call in ast.walk(ast.parse(file.read_text())):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "UserError":
                assert len(call.args) == 2, f"{file}:{call.lineno}: where and found are positional, the rest are not"
                texts = [node.value for node in ast.walk(call) if isinstance(node, ast.Constant)]
                assert not [text for text in texts if "; allowed: " in str(text)], f"{file}:{call.lineno}"


CONTRACTS = {"explain", "_cam", "_grey"}
"""The signature that all methods share, and what stands in for it in the benchmarks."""


def test_at_most_four_parameters_are_positional() -> None:
    found = [
        f"{file.relative_to(ROOT)}:{node.lineno}: {node.name}"
        for file in python_files()
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name not in CONTRACTS
        if len([one for one in node.args.posonlyargs + node.args.args if one.arg not in ("self", "cls")]) > 4
    ]
    assert found == []
