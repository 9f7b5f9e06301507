"""What the transforms are: their names, kinds and magnitudes."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from pipeline.data.transforms import IDENTITY, TRANSFORMS

GEOMETRIC = {"translate_x", "translate_y", "rotate", "flip_lr", "flip_ud"}
WITHOUT_MAGNITUDE = {"flip_lr", "flip_ud", "autocontrast", "equalize", "blur", "smooth"}


def test_the_papers_thirteen() -> None:
    assert len(TRANSFORMS) == 13
    assert {name for name, transform in TRANSFORMS.items() if transform.kind == "geometric"} == GEOMETRIC
    assert {name for name, transform in TRANSFORMS.items() if not transform.ladder(224)} == WITHOUT_MAGNITUDE
    assert IDENTITY not in TRANSFORMS


@pytest.mark.parametrize("name", sorted(set(TRANSFORMS) - WITHOUT_MAGNITUDE))
def test_ladders_are_even_and_leave_out_zero(name: str) -> None:
    ladder = TRANSFORMS[name].ladder(224)
    assert len(ladder) == 62
    assert 0 not in ladder
    assert ladder == sorted(set(ladder))
    np.testing.assert_allclose(ladder, -np.array(ladder)[::-1])
    steps = np.diff(np.concatenate([ladder[:31], [0], ladder[31:]]))
    assert np.ptp(steps) <= (1 if TRANSFORMS[name].whole_pixels else 1e-9)


@pytest.mark.parametrize(
    ("name", "size", "least", "greatest"),
    [
        ("translate_x", 224, -32, 32),
        ("translate_y", 112, -16, 16),
        ("rotate", 56, -135, 135),
        ("color", 224, -0.99, 0.99),
        ("sharpness", 32, -0.99, 0.99),
    ],
)
def test_ladders_reach_the_papers_limits(name: str, size: int, least: float, greatest: float) -> None:
    ladder = TRANSFORMS[name].ladder(size)
    assert (ladder[0], ladder[-1]) == pytest.approx((least, greatest))


def test_translations_are_distinct_whole_pixels() -> None:
    assert TRANSFORMS["translate_x"].ladder(56) == [*range(-8, 0), *range(1, 9)]
    assert TRANSFORMS["translate_y"].ladder(16) == [-2, -1, 1, 2]
    assert all(step == int(step) for step in TRANSFORMS["translate_x"].ladder(193))


def test_the_declarations_load_no_library_for_images() -> None:
    script = (
        "import sys; import pipeline.data.transforms, pipeline.data.geometry, pipeline.metrics.similarity;"
        "print(*sorted({name.split('.')[0] for name in sys.modules}))"
    )
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert "numpy" in loaded
    assert not {"PIL", "scipy", "skimage", "torch", "torchvision"} & set(loaded)


def test_perturbing_does_not_load_torchvision() -> None:
    script = "import sys, pipeline.data.perturb; print('PIL' in sys.modules, 'torchvision' in sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert loaded == ["True", "False"]
