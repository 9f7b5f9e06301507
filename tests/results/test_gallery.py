"""Pictures for people: what is laid over what, which rows are shown, and the numbers below the panels."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline.core.errors import UserError
from pipeline.data.imagenet_classes import class_names
from pipeline.results.cell_maps import CellMaps, MethodMaps
from pipeline.results.gallery import IMAGES_SHOWN, METHODS_SHOWN, files, method_line, picture_line, sheets_of_all
from pipeline.results.lettering import ELLIPSIS, number, shortened, width_of, wrapped
from pipeline.results.overlay import AROUND_ZERO, OPAQUE, OUTSIDE, UNIT, blend, lay_over, scales
from pipeline.results.palette_png import encoded
from pipeline.results.perturbed import CASES, cases, perturbed_sheet
from pipeline.results.readme import BEGIN, END, free_images, photographs, table, with_table
from pipeline.results.sheet import EMPTY, MARGIN, NAMES, SCALE, Line, Panel, Sheet, drawn, grown, panel_side
from pipeline.saliency.map_file import Maps, MapsWriter

SIDE = 16
SHOWN = 8


def row(
    number: int, image: int, kind: str, transform: str, magnitude: float | None, prediction: int, probability: float
) -> dict[str, Any]:
    return {
        "row": number,
        "turn": image,
        "image": image,
        "kind": kind,
        "transform": transform,
        "magnitude": magnitude,
        "state": "random" if kind == "random" else "trained",
        "label": image % 2,
        "prediction": prediction,
        "probability": probability,
    }


def rows_of(image: int) -> list[dict[str, Any]]:
    """Return eight rows of an image of class 1 or 0, which is predicted rightly until a transform changes that."""
    label, first = image % 2, 8 * image
    return [
        row(first, image, "reference", "identity", None, label, 0.9),
        row(first + 1, image, "transform", "translate_x", 2, label, 0.8),
        row(first + 2, image, "transform", "translate_x", -5, label, 0.7),
        row(first + 3, image, "transform", "flip_lr", None, 1 - label, 0.6),
        row(first + 4, image, "transform", "brightness", 1.4, label, 0.8),
        row(first + 5, image, "transform", "blur", None, 1 - label, 0.7),
        row(first + 6, image, "transform", "rotate", 30, 1 - label, 0.5),
        row(first + 7, image, "random", "identity", None, 1 - label, 0.4),
    ]


@pytest.fixture
def cell() -> CellMaps:
    rng = np.random.default_rng(0)
    rows = pd.DataFrame([line for image in range(SHOWN) for line in rows_of(image)])
    pictures = {image: rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8) for image in range(SHOWN)}
    names = dict(enumerate(["coffee.png", "a.jpg", "chelsea.png", "b.jpg", "c.jpg", "d.jpg", "e.jpg", "f.jpg"]))
    half = np.arange(SIDE) < SIDE // 2
    return CellMaps("photos-a", rows, pictures, SIDE, names, {0: "cat"}, {0: np.tile(half, (SIDE, 1))})


def method(cell: CellMaps, folder: Path, name: str = "grad_cam", images: int = SHOWN) -> MethodMaps:
    """Return a method that explains the first so many images, with scores drawn at random."""
    rng = np.random.default_rng(1)
    explained = cell.rows[cell.rows["turn"] < images]
    path = folder / f"{name}.npy"
    with MapsWriter(path, "float32", len(explained)) as writer:
        writer.write(np.arange(len(explained)), rng.random((len(explained), SIDE, SIDE), np.float32))
    maps = Maps(path, writer.described().assign(row=explained["row"].to_numpy()), "unit", SIDE)
    scores = explained.assign(
        reference_prediction=explained["label"],
        valid_pixels=9,
        ssim=pd.array(rng.random(len(explained)), "Float64"),
        spearman=pd.array(rng.random(len(explained)), "Float64"),
    )
    place = {int(row): position for position, row in enumerate(explained["row"])}
    return MethodMaps(name, "unit", None, place, maps, scores)


def left_out(name: str = "lime") -> MethodMaps:
    return MethodMaps(name, "ternary", "too slow here", {}, None, pd.DataFrame())


def test_a_map_of_one_takes_its_colour_and_one_of_zero_shows_the_picture() -> None:
    grey = np.array([0.2, 0.2])
    low, high = OPAQUE["unit"]
    mixed = blend(grey, np.array([0.0, 1.0]), "unit")
    np.testing.assert_allclose(mixed, [low * UNIT[0] + (1 - low) * 0.2, high * UNIT[255] + (1 - high) * 0.2])
    signed = blend(np.full(3, 0.2), np.array([-1.0, 0.0, 1.0]), "signed")
    assert signed[0, 2] > signed[0, 0]  # blue against
    assert signed[2, 0] > signed[2, 2]  # red for
    np.testing.assert_allclose(signed[1], 0.2)
    assert AROUND_ZERO[255, 0] > AROUND_ZERO[255, 2]


def test_colours_of_maps_grow_lighter_evenly() -> None:
    light = UNIT @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(light) > 0).all()


def test_pixels_that_cannot_be_compared_are_grey() -> None:
    valid = np.ones((SIDE, SIDE), bool)
    valid[:, :4] = False
    picture = np.zeros((SIDE, SIDE, 3), np.uint8)
    over = lay_over(picture, np.ones((SIDE, SIDE)), "unit", 2 * SIDE, valid=valid)
    assert over.shape == (2 * SIDE, 2 * SIDE, 3)
    assert (over[:, :8] == OUTSIDE).all()
    assert (over[:, 8:] != OUTSIDE).any(-1).all()


def test_scales_are_those_of_the_kinds_that_are_shown() -> None:
    assert [bar.low for bar in scales({"unit"})] == ["0"]
    assert [bar.low for bar in scales({"unit", "ternary"})] == ["0", "−1"]


def test_words_fit() -> None:
    assert shortened("short", 200, 11) == "short"
    cut = shortened("a name that is much too long for its place", 80, 11)
    assert cut.endswith(ELLIPSIS)
    assert width_of(cut, 11) <= 80
    lines = wrapped("grad_cam_plus_plus", 80, 11)
    assert "".join(lines) == "grad_cam_plus_plus"
    assert len(lines) > 1
    assert all(width_of(line, 11) <= 80 for line in lines)
    assert len(wrapped("one two three four five six", 40, 11, most=2)) == 2


@pytest.mark.parametrize(("value", "words"), [(0.456, "0.46"), (-0.2, "−0.20"), (-0.001, "0.00"), (pd.NA, "–")])
def test_numbers_have_two_digits(value: Any, words: str) -> None:
    assert number(value) == words


def test_a_file_keeps_white_paper_and_its_limit() -> None:
    rng = np.random.default_rng(0)
    pixels = np.full((200, 200, 3), 255, np.uint8)
    pixels[50:150, 50:150] = rng.integers(0, 256, (100, 100, 3))
    assert (np.asarray(Image.open(io.BytesIO(encoded(pixels)))) == pixels).all()
    png = encoded(pixels, len(encoded(pixels)) - 1)  # too large for all colours
    back = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
    assert back.shape == pixels.shape
    assert (back[:50] == 255).all()
    assert len(png) < len(encoded(pixels))
    assert len(encoded(pixels, len(png) - 1)) < len(png)


def test_panels_stand_where_their_column_is() -> None:
    side = panel_side(2)
    red, blue = (np.full((side, side, 3), colour, np.uint8) for colour in ([255, 0, 0], [0, 0, 255]))
    pixels = drawn(Sheet("title", "text", ["a", "b"], [Line("one", [Panel(red), Panel(blue)])]))
    found = [np.argwhere((pixels == colour).all(-1)) for colour in ([255, 0, 0], [0, 0, 255])]
    assert [len(places) for places in found] == [(side * SCALE) ** 2] * 2
    assert found[0][:, 1].min() == (MARGIN + NAMES) * SCALE
    assert found[0][:, 0].min() == found[1][:, 0].min()
    assert found[1][:, 1].min() > found[0][:, 1].max()


def test_an_object_is_drawn_round_at_its_edge_alone() -> None:
    side, mask = panel_side(1), np.zeros((SIDE, SIDE), bool)
    mask[4:12, 4:12] = True
    grey = np.full((side, side, 3), 128, np.uint8)
    sheets = [Sheet("t", "t", ["a"], [Line("one", [Panel(grey, outline=which)])]) for which in (None, mask)]
    without, with_line = map(drawn, sheets)
    changed = np.argwhere((without != with_line).any(-1)) / SCALE
    inner = changed - changed.min(0)
    assert inner.max() == pytest.approx(side / 2, abs=3)
    centre = changed.mean(0)
    assert np.abs(changed - centre).max(1).min() > side / 4 - 4  # nothing inside


def test_what_has_no_panels_says_why() -> None:
    pixels = drawn(Sheet("t", "t", ["a"], [Line("one", empty="too slow here")]))
    assert (pixels == EMPTY).all(-1).sum() > 1000


def test_a_mask_grows_by_one_step() -> None:
    mask = np.zeros((5, 5), bool)
    mask[2, 2] = True
    assert grown(mask, 1).sum() == 5
    assert grown(mask, 2).sum() == 13


def test_the_rows_shown_of_an_image_follow_the_rule(cell: CellMaps) -> None:
    of_image = cell.rows[cell.rows["image"] == 0]
    assert len(cases(of_image, 0)) == len(CASES)
    # The largest shift that keeps the class, the photometric one that does, the surest of those that do not.
    assert cases(of_image, 0) == [0, 2, 4, 5, 7]
    assert cases(of_image[of_image["kind"] == "reference"], 0) == [0, None, None, None, None]


def test_below_a_map_stand_the_images_own_consistency_and_sensitivity(cell: CellMaps, tmp_path: Path) -> None:
    shown = method(cell, tmp_path)
    references = cell.references.head(2)
    line = method_line(cell, shown, references["row"], panel_side(2))
    for image, panel in zip(references["image"], line.panels, strict=True):
        ssim = shown.scores.loc[shown.scores["image"] == image, "ssim"].to_numpy(float)
        kept, changed = ssim[[1, 2, 4]].mean(), ssim[[3, 5, 6, 7]].mean()
        assert panel.words == (f"C {number(kept)} · S {number(1 - changed)}",)


def test_a_wrong_prediction_is_noticed_and_objects_are_outlined(cell: CellMaps) -> None:
    cell.rows.loc[cell.rows["row"] == 8, "prediction"] = 0
    first, second = picture_line(cell, cell.references.head(2), 32).panels
    assert (first.alarm, second.alarm) == (False, True)
    assert (first.outline is not None, second.outline is not None) == (True, False)
    assert (first.words, second.words) == (("90 % cat",), ("90 % cat",))
    assert cell.class_name(1) == "class 1"


def test_what_an_imagenet_network_predicts_has_a_name() -> None:
    assert class_names({285: "Egyptian cat"}, 1000)[540] == "drilling platform"
    assert class_names({285: "my cat"}, 1000) == {285: "my cat"}
    assert class_names({1: "goldfish"}, 2) == {1: "goldfish"}


def test_all_methods_stand_on_as_few_sheets_as_hold_them(cell: CellMaps, tmp_path: Path) -> None:
    known = method(cell, tmp_path)
    many = [known] * METHODS_SHOWN + [left_out()]
    first, second = sheets_of_all(cell, many)
    assert [len(sheet.lines) for sheet in (first, second)] == [5, 5]
    assert len(first.headings) == IMAGES_SHOWN
    assert second.lines[-1].empty == "left out: too slow here"
    assert len(sheets_of_all(cell, [known])) == 1


def test_an_image_that_a_method_does_not_explain_has_an_empty_place(cell: CellMaps, tmp_path: Path) -> None:
    few = method(cell, tmp_path, images=1)
    panels = method_line(cell, few, cell.references["row"].head(2), 32).panels
    assert [panel.pixels is None for panel in panels] == [False, True]
    sheet = perturbed_sheet(cell, few, "whole")
    assert [line.empty is not None for line in sheet.lines] == [False, False, True]


def test_a_sheet_of_perturbations_carries_maps_back(cell: CellMaps, tmp_path: Path) -> None:
    sheet = perturbed_sheet(cell, method(cell, tmp_path), "whole")
    inputs, maps = sheet.lines[:2]
    assert inputs.panels[1].words[0] == "translate_x −5 px"
    assert [panel.alarm for panel in inputs.panels] == [False, False, False, True, True]
    shifted = maps.panels[1].pixels
    assert shifted is not None
    side = shifted.shape[1]
    grey = (shifted == OUTSIDE).all(-1).all(0)
    assert grey.sum() == pytest.approx(side * 5 / SIDE, abs=1)
    assert grey[0] != grey[-1]


@pytest.mark.slow
def test_files_of_a_cell_are_the_same_twice(cell: CellMaps, tmp_path: Path) -> None:
    methods = [method(cell, tmp_path), left_out()]
    once, again = ([*files(cell, methods, "whole")] for _ in range(2))
    assert once == again
    assert [str(path) for path, _ in once] == ["methods_1.png", "perturbed/grad_cam.png"]
    assert all(Image.open(io.BytesIO(png)).size[0] > 500 for _, png in once)


def test_photographs_that_are_shown_are_free_ones(cell: CellMaps, tmp_path: Path) -> None:
    assert free_images(cell) == [2, 0]
    sheet = photographs(cell, [method(cell, tmp_path), method(cell, tmp_path, "sobel", images=1), left_out()])
    assert [line.name for line in sheet.lines] == ["picture", "grad_cam"]
    assert len(sheet.headings) == 2


def numbers() -> pd.DataFrame:
    line = {
        "cell": "photos-a",
        "protocol": "paper",
        "cose_low": 0.1,
        "cose_high": 0.9,
        "consistency": 0.5,
        "sensitivity": 0.25,
        "consistency_images": 3,
        "sensitivity_images": 2,
        "consistency_rows": 20,
        "sensitivity_rows": 4,
        "missing": None,
    }
    lines = [
        line | {"method": name, "similarity": similarity, "cose": cose}
        for name, cose in (("grad_cam", 0.3), ("sobel", 0.4))
        for similarity in ("ssim", "spearman")
    ]
    undefined = dict.fromkeys(line, None) | {"cell": "photos-a", "protocol": "paper", "missing": "too slow"}
    return pd.DataFrame(
        [*lines, *(undefined | {"method": "lime", "similarity": name} for name in ("ssim", "spearman"))]
    )


def test_the_readmes_table_has_the_best_first_and_marks_controls() -> None:
    lines = table(numbers(), "photos-a", {"sobel"}).splitlines()
    assert lines[2] == "| *`sobel`* | 40.0 [10.0, 90.0] | 40.0 | 50.0 | 25.0 | 3 | 24 |"
    assert lines[3].startswith("| `grad_cam` | 30.0 ")
    assert lines[4] == "| `lime` | left out: too slow | – | – | – | – | – |"
    assert "In italics" in lines[-1]
    assert lines[-1].endswith("The balanced protocol has no numbers.")
    names = ["grad_cam", "lime", "sobel"]
    both = pd.concat([numbers(), numbers().assign(protocol="balanced")])
    both = pd.concat([both, both[both["method"] == "sobel"].assign(method="center", cose=0.35)])
    assert table(both, "photos-a", set(names)).endswith("no method changes its rank by more than one.")
    both.loc[(both["protocol"] == "balanced") & (both["method"] == "grad_cam"), "cose"] = 0.9
    assert table(both, "photos-a", set(names)).endswith("ranks change by more than one: `grad_cam` from 3 to 1.")
    with pytest.raises(UserError, match=r"^metrics/cose\.csv: no cell is called 'digits-b' \(known: photos-a\)"):
        table(numbers(), "digits-b", set())


def test_a_table_stands_between_its_two_lines() -> None:
    text = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    assert with_table(text, "new", "README.md") == f"before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"
    assert with_table(with_table(text, "new", "README.md"), "new", "README.md") == with_table(text, "new", "README.md")
    with pytest.raises(UserError, match=r"^README\.md: found 0 lines"):
        with_table("before", "new", "README.md")
