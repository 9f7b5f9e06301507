"""Explaining and scoring take no more memory when there are ten times as many rows."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import resource, sys, tempfile
from pathlib import Path
import numpy as np, pandas as pd, torch
from pipeline.core.tables import write
from pipeline.data.decode import encode_png
from pipeline.data.pictures import decode
from pipeline.data.plan import draw_plan
from pipeline.data.plan_settings import PlanSettings
from pipeline.data.prepared import IMAGES
from pipeline.data.transforms import TRANSFORMS
from pipeline.metrics.map_pairs import explained, score_rows
from pipeline.metrics.similarity import SimilaritySettings
from pipeline.models.prediction import predict, rows_of
from pipeline.models.states import States
from pipeline.models.trained import save_state
from pipeline.saliency.explain import explain_rows
from pipeline.saliency.map_file import Maps
from tests.conftest import wrapped

SIDE, count = 112, int(sys.argv[1])
torch.manual_seed(0)
network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, stride=4), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
model = wrapped(network, "0")
with tempfile.TemporaryDirectory() as folder:
    folder = Path(folder)
    for state in ("trained", "random"):
        save_state(model, folder / f"{state}.safetensors")
    rng = np.random.default_rng(0)
    small = rng.integers(0, 255, (count, 7, 7, 3), dtype=np.uint8)
    pixels = [encode_png(np.kron(one, np.ones((16, 16, 1), np.uint8))) for one in small]
    write(IMAGES, folder / "images.parquet",
          pd.DataFrame({"image": range(count), "encoded": pixels, "mask": [None] * count}))
    splits = pd.DataFrame({"image": range(count), "name": [f"picture {i}" for i in range(count)], "label": 0,
                           "split": "test"})
    plan = draw_plan(splits, PlanSettings(images=count, magnitudes=2, transforms=tuple(TRANSFORMS), checkpoints=()),
                     SIDE, 0, dataset="memory")
    rows = rows_of(plan, splits.set_index("image")["label"], {})
    states = States(model, folder, SIDE)
    with (folder / "pictures.npy").open("w+b") as file:
        pictures = decode(folder / "images.parquet", rows["image"], SIDE, (1.0, "bilinear"), file=file)
        rows = predict(states, rows, pictures)
        explain = lambda model, images, targets, seeds: images.mean(dim=1).sigmoid()
        index = explain_rows(states, rows, pictures, explain, values="unit", storage="float16", at_once=1, seed=0,
                             maps_path=folder / "maps.npy")
        assert (folder / "maps.npy").stat().st_size > count * 22 * SIDE * SIDE * 2
        rows = explained(rows, index, folder)
        score_rows(rows, Maps(folder / "maps.npy", index, "unit", SIDE), "unit", SIDE,
                   settings=SimilaritySettings(window=5, validity="whole"))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak(images: int) -> int:
    done = subprocess.run([sys.executable, "-c", CODE, str(images)], check=True, capture_output=True, text=True)
    return int(done.stdout.split()[-1])


@pytest.mark.slow
def test_memory_is_flat_in_the_number_of_rows() -> None:
    few, many = peak(15), peak(150)  # 330 and 3,300 rows; the maps of the latter take 83 MB
    assert many < 1.1 * few, f"{few} kB became {many} kB"
