"""A run of the whole chain that is killed is mended by the same command; `python -m tests.killed` kills twenty."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.killed import Chain, check


@pytest.mark.full
def test_runs_that_are_killed_go_on_with_the_same_command(tmp_path: Path) -> None:
    check(Chain(tmp_path), kills=1, seed=1)
