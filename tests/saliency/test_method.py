"""What a method declares: values, and a type on disk that can hold them."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any, get_args

import numpy as np
import pytest

from pipeline.saliency.map_file import STORED_AS, StorageType, Values, decode, encode
from pipeline.saliency.method import METHODS, Cost, Method, MethodSettings

EXAMPLES = {"unit": np.linspace(0, 1, 101), "signed": np.linspace(-1, 1, 201), "ternary": np.array([-1.0, 0.0, 1.0])}


def method(values: Values, storage: StorageType | None) -> Method:
    return Method(
        MethodSettings, lambda *_: pytest.fail("nothing is explained here"), values, lambda _: Cost(), storage
    )


@pytest.mark.parametrize(("values", "storage"), product(get_args(Values), get_args(StorageType)))
def test_storage_that_would_cut_off_values_is_refused(values: Values, storage: StorageType) -> None:
    example: Any = EXAMPLES[values].astype(np.float32)[None]
    keeps = bool(np.abs(decode(encode(example, storage)).astype(float) - example).max() < 0.01)
    if keeps:
        # All types that are allowed keep the values; halves and floats would keep ternary ones too.
        assert storage in STORED_AS[values] or values == "ternary"
    else:
        assert storage not in STORED_AS[values]
    if storage in STORED_AS[values]:
        assert method(values, storage).stored_as == storage
    else:
        message = f"found maps of {values} values stored as {storage}; allowed: {', '.join(STORED_AS[values])}"
        with pytest.raises(ValueError, match=f"^{message}$"):
            method(values, storage)


def test_the_usual_type_is_taken_where_none_is_named() -> None:
    usual = {values: method(values, None).stored_as for values in get_args(Values)}
    assert usual == {"unit": "uint8", "signed": "float16", "ternary": "int8"}


@pytest.mark.parametrize("name", METHODS)
def test_a_change_of_values_needs_another_type(name: str) -> None:
    other = "ternary" if METHODS[name].values == "unit" else "unit"
    with pytest.raises(ValueError, match="allowed: "):
        replace(METHODS[name], values=other, storage=METHODS[name].stored_as)


PAPER = {"blur_ig", "grad_cam", "grad_cam_plus_plus", "guided_ig", "integrated_gradients", "lime", "smooth_grad"}
CAMS = {"x_grad_cam", "layer_cam", "eigen_cam", "eigen_grad_cam", "ablation_cam", "score_cam", "opti_cam"}
CONTROLS = {"fake_cam", "random_map", "random_map_14x14", "random_map_7x7", "sobel", "center", "uniform"}


def test_all_methods_are_there() -> None:
    assert set(METHODS) == PAPER | CAMS | {"extremal_perturbation"} | CONTROLS
    assert {name for name in METHODS if METHODS[name].control} == CONTROLS
    assert {name for name in METHODS if METHODS[name].at_layer} == CAMS | {"grad_cam", "grad_cam_plus_plus"}
    assert {name: METHODS[name].values for name in METHODS} == {
        name: "ternary" if name == "lime" else "unit" for name in METHODS
    }
