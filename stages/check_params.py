"""Check the whole of params.yaml before anything runs, and lay out the grid.

The networks are built without weights and run once on one picture, so that one that cannot be run is found here. What
the data or the weights decide is checked when they are read.
"""

from functools import cache
from itertools import product
from typing import Any

from pipeline.core import grid, params
from pipeline.core.errors import UserError, unknown_name
from pipeline.core.files import DATA, GRID, atomic_write, write_json
from pipeline.core.grid import CellSettings
from pipeline.core.names import checked, checked_cell
from pipeline.core.params import PARAMS
from pipeline.data.dataset import DATASETS
from pipeline.data.plan_settings import PlanSettings, check_images_of, check_transforms
from pipeline.metrics.cose import StatisticsSettings
from pipeline.metrics.faithfulness.masking import MaskSettings
from pipeline.metrics.faithfulness.metric import METRICS
from pipeline.metrics.faithfulness.tables import ENTRY as FAITHFULNESS
from pipeline.metrics.faithfulness.tables import FaithfulnessEntry
from pipeline.metrics.localisation import tables as localisation
from pipeline.metrics.localisation.metric import METRICS as LOCALISATION_METRICS
from pipeline.metrics.localisation.tables import LocalisationEntry, LocalisationParams
from pipeline.metrics.scores import SIMILARITY
from pipeline.metrics.similarity import SimilaritySettings
from pipeline.models.build import check_architecture, own_classes, try_out
from pipeline.models.network import Network
from pipeline.models.recipe import ModelSettings, TrainEntry, Training, TrainingSettings, read_recipe, train_entry_file
from pipeline.models.recipe_checks import check_checkpoints, check_own
from pipeline.saliency.explanations import ExplainEntry, explain_entry_file
from pipeline.saliency.method import METHODS
from stages.command import run

SECTIONS: dict[str, Any] = {
    "seed": params.Seed,
    "datasets": dict[str, Any],
    "plan": PlanSettings,
    "models": dict[str, Any],
    "training": dict[str, Training],
    "cells": dict[str, CellSettings],
    "saliency": dict[str, Any],
    "similarity": SimilaritySettings,
    "faithfulness": dict[str, Any],
    "localisation": LocalisationParams,
    "statistics": StatisticsSettings,
}
"""The top level of params.yaml."""
GUESSED = 10
"""Classes of a network that is tried out: how many a dataset has, prepare finds out."""
KINDS = {"datasets": "dataset", "models": "model", "training": "dataset", "saliency": "method"}
"""What the keys of a section are names of."""
GATE = DATA / "gates" / "params.json"
"""What prepare depends on; it says the same whatever params.yaml holds, so that it reruns nothing."""


def main() -> None:
    """Check every section against its type and every name against what exists, and write the grid."""
    for section in params.sections():
        if section not in SECTIONS:
            raise unknown_name(str(PARAMS), "section", section, SECTIONS)
    for section, kind in SECTIONS.items():
        params.read(section, kind)
    for section in ("datasets", "models", "saliency", "cells", "training"):
        if section != "training" and not params.names(section):
            raise UserError(params.at(section), "found nothing", expected="at least one entry")
        for name in params.names(section):
            checked_cell(name) if section == "cells" else checked(name, KINDS[section])
    plan = params.read("plan", PlanSettings)
    check_transforms(plan)
    check_images_of(plan, params.names("datasets"))
    _check_datasets()
    _check_models()
    _check_methods(plan)
    _localisation(_faithfulness())
    cells = grid.cells()
    pairs: dict[tuple[str, str], str] = {}
    for name, cell in cells.items():
        _check_cell(name, cell, plan)
        first = pairs.setdefault((cell.dataset, cell.model), name)
        if first != name:
            raise UserError(
                params.at(f"cells.{name}"),
                f"found {cell.dataset} and {cell.model}, as in cells.{first}",
                expected="each pair once",
            )
    _write_grid(cells)
    write_json(GATE, {"params.yaml": "checked"})


def _write_grid(cells: dict[str, CellSettings]) -> None:
    """Write what each stage of the grid depends on into a file of its own.

    DVC would read the whole of params.yaml for each of these stages, even where nothing is out of date.
    """
    seed = params.read("seed", params.Seed)
    settings = {name: params.read(f"saliency.{name}", METHODS[name].settings) for name in grid.methods()}
    with atomic_write(GRID) as draft:
        write_json(draft / SIMILARITY.relative_to(GRID), params.read("similarity", SimilaritySettings).model_dump())
        faithfulness = _faithfulness()
        entry = FaithfulnessEntry(seed=seed, metrics=faithfulness)
        write_json(draft / FAITHFULNESS.relative_to(GRID), entry.model_dump(mode="json"))
        chosen = _localisation(faithfulness)
        masking = {name: faithfulness[name] for name in chosen.box_study}
        placed = LocalisationEntry(seed=seed, chosen=chosen, masking=masking)
        write_json(draft / localisation.ENTRY.relative_to(GRID), placed.model_dump(mode="json"))
        for cell, names in cells.items():
            train = _train_entry(seed, names.dataset, names.model)
            write_json(draft / train_entry_file(cell).relative_to(GRID), train.model_dump(mode="json"))
        for cell, method in product(cells, settings):
            reason = cells[cell].without.get(method)
            explain = ExplainEntry(left_out=reason, seed=seed, settings=settings[method].model_dump(mode="json"))
            if reason is not None:
                explain = ExplainEntry(left_out=reason, seed=None, settings={})
            write_json(draft / explain_entry_file(cell, method).relative_to(GRID), explain.model_dump())


def _train_entry(seed: int, dataset: str, model: str) -> TrainEntry:
    settings = params.read(f"models.{model}", ModelSettings)
    own = {name: files for name, files in settings.checkpoints.items() if name == dataset}
    recipe = read_recipe(dataset, settings, model)
    plan = params.read("plan", PlanSettings)
    return TrainEntry(
        seed=seed,
        dataset=dataset,
        model=model,
        recipe=recipe,
        image_size=params.read(f"datasets.{dataset}.image_size", params.ImageSize),
        settings=settings.model_copy(update={"recipes": {}, "checkpoints": own}),
        checkpoints=plan.checkpoints if recipe else (),
        layers=0 if recipe else plan.layers,
    )


def _check_datasets() -> None:
    for dataset in params.names("training"):
        if dataset not in params.names("datasets"):
            raise unknown_name(params.at("training"), "dataset", dataset, params.names("datasets"))
    for dataset in params.names("datasets"):
        loader = params.read(f"datasets.{dataset}.loader", str)
        params.read(f"datasets.{dataset}", DATASETS.find(loader, f"datasets.{dataset}.loader").settings)


def _check_models() -> None:
    for model in params.names("models"):
        settings = params.read(f"models.{model}", ModelSettings)
        check_architecture(settings.architecture, params.at(f"models.{model}.architecture"))
        for key in ("recipes", "checkpoints"):
            for dataset in getattr(settings, key):
                if dataset not in params.names("datasets"):
                    where = params.at(f"models.{model}.{key}")
                    raise unknown_name(where, "dataset", dataset, params.names("datasets"))


def _check_methods(plan: PlanSettings) -> None:
    for method in params.names("saliency"):
        settings = params.read(f"saliency.{method}", METHODS.find(method, "saliency").settings)
        largest = max((cell.dataset for cell in grid.cells().values()), key=plan.explained)
        most = plan.explained(largest)
        if settings.images != "all" and settings.images > most:
            raise UserError(
                params.at(f"saliency.{method}.images"),
                f"found {settings.images}",
                expected=f"at most {most} ({plan.key(largest)}), or all",
            )


def _faithfulness() -> dict[str, dict[str, Any]]:
    """Return the settings of every faithfulness metric that is measured, checked."""
    return {
        name: params.read(f"faithfulness.{name}", METRICS.find(name, "faithfulness").settings).model_dump(mode="json")
        for name in params.names("faithfulness")
    }


def _localisation(faithfulness: dict[str, dict[str, Any]]) -> LocalisationParams:
    """Return what is measured of where maps lie, checked; ``faithfulness`` has the settings of the box study."""
    chosen: LocalisationParams = params.read("localisation", LocalisationParams)
    for name in chosen.metrics:
        LOCALISATION_METRICS.find(name, "localisation.metrics")
    masks = [name for name in faithfulness if issubclass(METRICS[name].settings, MaskSettings)]
    for name in chosen.box_study:
        if name not in masks:
            raise unknown_name(params.at("localisation.box_study"), "masking metric of faithfulness", name, masks)
    for key in ("metrics", "box_study"):
        names = getattr(chosen, key)
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice:
            raise UserError(params.at(f"localisation.{key}"), f"found {twice} twice", expected="once")
    return chosen


def _check_cell(name: str, cell: CellSettings, plan: PlanSettings) -> None:
    for key, value, section in (("dataset", cell.dataset, "datasets"), ("model", cell.model, "models")):
        if value not in params.names(section):
            raise unknown_name(params.at(f"cells.{name}.{key}"), KINDS[section], value, params.names(section))
    for method in cell.without:
        if method not in params.names("saliency"):
            raise unknown_name(params.at(f"cells.{name}.without"), "method", method, params.names("saliency"))
    settings = params.read(f"models.{cell.model}", ModelSettings)
    recipe = read_recipe(cell.dataset, settings, cell.model)
    _check_recipe(cell, settings, recipe, plan)
    network = Network(
        settings=settings.network(),
        head=recipe.head if recipe else (),
        classes=GUESSED if recipe else own_classes(settings.network(), params.at(f"training.{cell.dataset}")),
        image_size=params.read(f"datasets.{cell.dataset}.image_size", params.ImageSize),
    )
    frozen = recipe is not None and recipe.backbone == "frozen"
    _tried(network.model_dump_json(), cell.model, frozen, 0 if recipe else plan.layers)


@cache
def _tried(network: str, model: str, frozen: bool, layers: int) -> None:
    try_out(Network.model_validate_json(network), model, frozen=frozen, layers=layers)


def _check_recipe(
    cell: CellSettings, settings: ModelSettings, recipe: TrainingSettings | None, plan: PlanSettings
) -> None:
    if recipe is None:
        if settings.weights is None:
            raise UserError(
                params.at(f"models.{cell.model}.weights"),
                "found null",
                expected=f"timm or a file, because training.{cell.dataset} is none",
            )
        own_classes(settings.network(), params.at(f"training.{cell.dataset}"))
        return
    own = "epochs" in settings.recipes.get(cell.dataset, {})
    key = f"models.{cell.model}.recipes.{cell.dataset}.epochs" if own else f"training.{cell.dataset}.epochs"
    check_checkpoints(plan.checkpoints, recipe.epochs, key)
    if cell.dataset in settings.checkpoints:
        where = params.at(f"models.{cell.model}.checkpoints.{cell.dataset}")
        check_own(settings.checkpoints[cell.dataset], plan.checkpoints, recipe.epochs, where)


if __name__ == "__main__":
    run(main)
