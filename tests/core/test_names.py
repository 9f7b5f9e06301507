"""Names: what becomes part of a path or a command, and what is refused before it does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.core.errors import UserError, nearest, unknown_name
from pipeline.core.names import checked, checked_cell
from pipeline.data.prepared import PLAN, prepared_file
from pipeline.metrics.scores import scores_folder
from pipeline.models.cell import cell_folder
from pipeline.models.recipe import train_entry_file
from pipeline.models.trained import model_folder
from pipeline.models.training_metrics import training_curve_file, training_metrics_file
from pipeline.saliency.explanations import explain_entry_file, explanations_folder

EVIL = [
    "../x",
    "..",
    ".",
    "",
    "a/b",
    "/etc",
    "a b",
    " a",
    "a\n",
    "\n",
    "a\nb",
    "a'b",
    'a"b',
    "$(a)",
    "a;b",
    "-a",
    "a-",
    ".a",
    "a.",
    "a--b",
    "a..b",
    "a.b",
    "a\\b",
    "a\0",
    "é",
    "٣",
    "x" * 300,
    "a-" * 150 + "a",
    "-".join("abcdefgh"),
]
"""What neither a cell nor anything else may be called."""
PLACES: dict[str, Callable[[str], Path]] = {
    "prepared": lambda name: prepared_file(name, PLAN),
    "model": model_folder,
    "cell": cell_folder,
    "metrics": training_metrics_file,
    "curve": training_curve_file,
    "explanations of a cell": lambda name: explanations_folder(name, "lime"),
    "explanations by a method": lambda name: explanations_folder("digits-mini", name),
    "training of a cell": train_entry_file,
    "grid of a cell": lambda name: explain_entry_file(name, "lime"),
    "grid of a method": lambda name: explain_entry_file("digits-mini", name),
    "scores of a cell": lambda name: scores_folder(name, "lime"),
    "scores of a method": lambda name: scores_folder("digits-mini", name),
}


@pytest.mark.parametrize("name", EVIL)
@pytest.mark.parametrize("place", PLACES)
def test_no_path_leaves_its_folder(place: str, name: str) -> None:
    with pytest.raises(UserError, match=r"^params\.yaml: found the .* name .*; allowed: ") as caught:
        PLACES[place](name)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("place", PLACES)
def test_good_names_lie_in_a_folder_of_their_own(place: str) -> None:
    made = [PLACES[place](name) for name in ("a", "A_1", "x" * 100)]
    assert len(set(made)) == 3
    for path, name in zip(made, ("a", "A_1", "x" * 100), strict=True):
        assert path.parts[0] in ("data", "metrics")
        assert any(name in (part, Path(part).stem) for part in path.parts)


@pytest.mark.parametrize("name", ["a-b", "digits-resnet_mini", "a-b-c-d", "x" * 60 + "-" + "y" * 59])
def test_cells_may_have_words_with_hyphens_between(name: str) -> None:
    assert checked_cell(name) == name
    assert cell_folder(name).name == name
    with pytest.raises(UserError, match=r"found the method name '.*'; allowed: at most 100 letters, digits and _"):
        checked(name, "method")


def test_longest_names() -> None:
    assert checked("x" * 100, "model") == "x" * 100
    for name in ("x" * 101, "x" * 60 + "-" + "y" * 60):
        with pytest.raises(UserError, match=r"found the cell name '"):
            checked_cell(name)


def test_a_number_is_a_name_too() -> None:
    assert checked(3, "model") == "3"  # as YAML reads a name of digits


def test_an_unknown_name_says_the_nearest_and_all() -> None:
    assert nearest("lme", ["lime", "grad_cam"]) == ", did you mean 'lime'?"
    assert nearest("x", ["lime"]) == ""
    assert str(unknown_name("a.yaml: b", "method", "lme", ["lime", "cam"])) == (
        "a.yaml: b: no method is called 'lme', did you mean 'lime'? (known: cam, lime)"
    )
