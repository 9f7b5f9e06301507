"""Every tenth case of the fuzzer; `python -m tests.fuzz` runs all of them, and more with other seeds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz import KINDS, run


def test_there_are_enough_cases() -> None:
    assert sum(count for _, count in KINDS.values()) >= 600


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_damage_becomes_one_line_or_nothing(kind: str, tmp_path: Path) -> None:
    problems = {}
    for seed in range(0, KINDS[kind][1], 10):
        folder = tmp_path / str(seed)
        folder.mkdir()
        problem = run(kind, seed, folder)
        if problem is not None:
            problems[seed] = problem
    assert not problems, f"python -m tests.fuzz --kind {kind!r} --seed N shows where"


@pytest.mark.full
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_all_damage_becomes_one_line_or_nothing(kind: str, tmp_path: Path) -> None:
    for seed in range(KINDS[kind][1]):
        folder = tmp_path / str(seed)
        folder.mkdir()
        assert run(kind, seed, folder) is None, f"python -m tests.fuzz --kind {kind!r} --seed {seed} shows where"
