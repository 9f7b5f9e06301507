"""Where everything lies on disk, and how it gets there whole or not at all.

This is the only file that knows paths. All of them are relative to the root of the repository, which is the working
directory of every stage.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

PARAMS = Path("params.yaml")
PROFILES = Path("profiles")
PUBLISHED = Path(__file__).parent / "published"
METRICS = Path("metrics")
DATA_DOCS = Path("docs/data-docs")
PARAMS_GATE = Path("data/gates/params.json")


def profile_file(name: str) -> Path:
    """Return the file of a profile: values for all of params.yaml under one name."""
    return PROFILES / f"{name}.yaml"


def published_file(table: str) -> Path:
    """Return a table of the paper's: ``accuracy`` or ``cose``, in percent, with our names of datasets and models."""
    return PUBLISHED / f"{table}.csv"


def raw_folder(dataset: str) -> Path:
    """Return the folder of a dataset's images and splits."""
    return Path("data/raw") / dataset


def images_file(dataset: str) -> Path:
    """Return the table of a dataset's encoded images and masks."""
    return raw_folder(dataset) / "images.parquet"


def boxes_file(dataset: str) -> Path:
    """Return the table of the boxes round the objects of a dataset's images."""
    return raw_folder(dataset) / "boxes.parquet"


def splits_file(dataset: str) -> Path:
    """Return the table that says each image's label and split."""
    return raw_folder(dataset) / "splits.parquet"


def plan_file(dataset: str) -> Path:
    """Return the plan: the rows that every model and method of a dataset shares."""
    return Path("data/plan") / f"{dataset}.parquet"


def models_folder(dataset: str, model: str) -> Path:
    """Return the folder with the weights of every state of one model."""
    return Path("data/models") / dataset / model


STATES = "states.json"
"""File in the folder of a model's weights that says which checkpoints there are, and where the weights are from."""


def predictions_file(dataset: str, model: str) -> Path:
    """Return the table of the predicted class of every row."""
    return Path("data/predictions") / dataset / f"{model}.parquet"


MAPS, INDEX = "maps.npy", "index.parquet"


def explanations_folder(dataset: str, model: str, method: str) -> Path:
    """Return the folder of one cell: its maps (`MAPS`) and their index (`INDEX`)."""
    return Path("data/explanations") / dataset / model / method


def scores_file(dataset: str, model: str, method: str) -> Path:
    """Return the table of one cell's similarities."""
    return Path("data/scores") / dataset / model / f"{method}.parquet"


AGGREGATES = ("cose", "transforms")


def aggregate_file(table: str) -> Path:
    """Return one of the tables (`AGGREGATES`) over the whole grid."""
    return Path("data/aggregates") / f"{table}.parquet"


def training_metrics_file(dataset: str, model: str) -> Path:
    """Return the file of a model's accuracies."""
    return METRICS / "training" / f"{dataset}-{model}.json"


def training_curve_file(dataset: str, model: str) -> Path:
    """Return the table of a model's losses, an epoch a line."""
    return METRICS / "training" / f"{dataset}-{model}.csv"


GATES = {"predictions": ("models",), "explanations": ("models", "saliency")}
"""The gates, and the sections of params.yaml whose keys name the tables of a dataset that each lets pass."""


def gate_folder(gate: str, dataset: str) -> Path:
    """Return where a gate says what passed: one file a name, so that a cell depends on its own tables alone."""
    return Path("data/gates") / gate / dataset


def gated_table(gate: str, dataset: str, *names: str) -> tuple[str, Path]:
    """Return the table, and its file, of one name from each of the sections of a gate."""
    if gate == "predictions":
        return "predictions", predictions_file(dataset, *names)
    return "index", explanations_folder(dataset, *names) / INDEX


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Write a file or a folder so that ``path`` holds the old content or all of the new one, never a part.

    Args:
        path: what is to be written; its parent folder is made when missing.

    Yields:
        A path beside it to write to. When the block ends well it takes the place of ``path``; when it raises,
        nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}-", suffix=".tmp", dir=path.parent))
    try:
        draft = scratch / path.name
        yield draft
        if path.is_dir():
            path.replace(scratch / "old")
        draft.replace(path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` as JSON, whole or not at all; NaN and infinity are refused (`ValueError`)."""
    with whole(path) as draft:
        draft.write_text(json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def write_csv(path: Path, frame: pd.DataFrame) -> None:
    """Write a table as CSV for people to read and diff: six significant digits, empty where undefined."""
    with whole(path) as draft:
        frame.to_csv(draft, index=False, lineterminator="\n", float_format="%.6g")


def read_json(path: Path) -> Any:
    """Return the content of a JSON file; a missing or unreadable one is a `UserError`."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file; `dvc repro` makes it") from None
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON ({error})") from None
