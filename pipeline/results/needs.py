"""What datasets and models need that is not here yet: archives, pictures, weights."""

from __future__ import annotations

from pathlib import Path

from pipeline.core import params
from pipeline.core.errors import UserError
from pipeline.core.packages import installed_files
from pipeline.data.dataset import DATASETS
from pipeline.models.recipe import FileWeights, ModelSettings


def of_dataset(dataset: str) -> list[str]:
    """Return a line for each file or folder that a dataset's loader needs and that is not here."""
    loader = DATASETS.find(params.read(f"datasets.{dataset}.loader", str), f"datasets.{dataset}.loader")
    return loader.missing(params.read(f"datasets.{dataset}", loader.settings))


def of_model(model: str) -> list[str]:
    """Return a line for each file of weights that a model starts from and that is not here.

    Whether timm's hub can be reached, or has been, is not asked.
    """
    settings: ModelSettings = params.read(f"models.{model}", ModelSettings)
    own = [weights for states in settings.checkpoints.values() for weights in states.values()]
    files = [weights for weights in (settings.weights, *own) if isinstance(weights, FileWeights)]
    return [line for weights in files for line in _missing(weights)]


def _missing(weights: FileWeights) -> list[str]:
    if weights.package is not None:
        try:
            installed_files(weights.package, weights.file)
        except UserError as error:
            return [str(error)]
        return []
    if Path(weights.file).exists():
        return []
    return [f"{weights.file}, {f'downloaded from {weights.url}' if weights.url else 'to be placed by hand'}"]
