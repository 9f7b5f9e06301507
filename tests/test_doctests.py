"""The examples in docstrings."""

from __future__ import annotations

import doctest
import importlib

import pytest

from tests.world import ROOT

MODULES = [
    ".".join(file.relative_to(ROOT).with_suffix("").parts)
    for room in ("pipeline", "stages", "runner", "warm")
    for file in sorted((ROOT / room).rglob("*.py"))
    if ">>> " in file.read_text()
]


def test_there_are_some() -> None:
    assert len(MODULES) >= 10


@pytest.mark.parametrize("module", MODULES)
def test_examples(module: str) -> None:
    result = doctest.testmod(importlib.import_module(module))
    assert result.attempted
    assert not result.failed
