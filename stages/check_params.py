"""Check the whole of params.yaml before anything runs; what only a built model can know is checked then."""

import re
from pathlib import Path

from pipeline import params, storage
from pipeline.errors import UserError, unknown_name
from pipeline.models import TRAINED, check_architecture, checkpoint_epochs, state_name
from pipeline.plan import check_transforms
from pipeline.registry import DATASETS, METHODS
from pipeline.weights import check_sum
from stages.command import run


def main() -> None:
    """Check every section against its type and every name against what exists."""
    for section in params.sections():
        if section not in params.SECTIONS:
            raise unknown_name(str(storage.PARAMS), "section", section, params.SECTIONS)
    for section, kind in params.SECTIONS.items():
        params.read(section, kind)
    for section in ("datasets", "models", "saliency"):
        if not params.names(section):
            raise UserError(f"{storage.PARAMS}: {section}: found nothing; allowed: at least one entry")
        for name in params.names(section):
            # Names become parts of paths and of DVC's stage names.
            if not re.fullmatch(r"\w+", str(name), re.ASCII):
                raise UserError(f"{storage.PARAMS}: {section}: found the name {name!r}; allowed: letters, digits and _")
    for dataset in params.names("training"):
        if dataset not in params.names("datasets"):
            raise unknown_name(f"{storage.PARAMS}: training", "dataset", dataset, params.names("datasets"))
    for dataset in params.names("datasets"):
        loader = params.read(f"datasets.{dataset}", dict).get("loader")
        entry = DATASETS.find(loader, f"datasets.{dataset}.loader")
        params.read(f"datasets.{dataset}", entry.settings)
        params.read(f"training.{dataset}", params.TrainingSettings)
    plan = params.read("plan", params.PlanSettings)
    check_transforms(plan)
    for model in params.names("models"):
        _check_model(model, params.read(f"models.{model}", params.ModelSettings), plan)
    for method in params.names("saliency"):
        settings = params.read(f"saliency.{method}", METHODS.find(method, "saliency").settings)
        if settings.images != "all" and settings.images > plan.images:
            raise UserError(f"{storage.PARAMS}: saliency.{method}.images: found {settings.images}; allowed: at most "
                            f"{plan.images} (plan.images), or all")  # fmt: skip
    storage.write_json(storage.PARAMS_GATE, {"checked": sorted(params.SECTIONS)})


def _check_model(name: str, settings: params.ModelSettings, plan: params.PlanSettings) -> None:
    """Check what a model says against timm's names, the datasets and the plan."""
    where = f"models.{name}"
    check_architecture(settings.architecture, f"{storage.PARAMS}: {where}.architecture")
    for key in ("recipes", "checkpoints"):
        for dataset in getattr(settings, key):
            if dataset not in params.names("datasets"):
                raise unknown_name(f"{storage.PARAMS}: {where}.{key}", "dataset", dataset, params.names("datasets"))
    for dataset, states in settings.checkpoints.items():
        if TRAINED not in states:
            raise UserError(f"{storage.PARAMS}: {where}.checkpoints.{dataset}: found no {TRAINED!r}; it is needed, "
                            "others need not be there")  # fmt: skip
        epochs = params.recipe(dataset, settings, name).epochs
        known = [state_name(epoch) for epoch in checkpoint_epochs(plan.checkpoints, epochs).values()]
        for state in sorted(states.keys() - {TRAINED, *known}):
            raise unknown_name(f"{storage.PARAMS}: {where}.checkpoints.{dataset}", "state of this training", state,
                               [TRAINED, *known])  # fmt: skip
        for state, weights in states.items():
            if weights.sha256 is None:
                raise UserError(f"{storage.PARAMS}: {where}.checkpoints.{dataset}.{state}.sha256: found null; allowed: "
                                "the checksum, by which a change of the file is noticed"
                                + _checksum(weights.file))  # fmt: skip
    for dataset in params.names("datasets"):
        own = "epochs" in settings.recipes.get(dataset, {})
        key = f"{where}.recipes.{dataset}.epochs" if own else f"training.{dataset}.epochs"
        _check_checkpoints(plan.checkpoints, params.recipe(dataset, settings, name).epochs, key)


def _checksum(file: str) -> str:
    """Say the checksum of a file that is there, to be copied."""
    return f" (now {check_sum(Path(file), None, '')})" if Path(file).is_file() else ""


def _check_checkpoints(percents: tuple[int, ...], epochs: int, key: str) -> None:
    """Raise a `UserError` where two checkpoints, or one and the trained model, would be the same."""
    taken = checkpoint_epochs(percents, epochs)
    if len(set(taken.values())) < len(taken) or epochs in taken.values():
        raise UserError(
            f"{storage.PARAMS}: plan.checkpoints: found {list(percents)}, which are epochs {sorted(taken.values())} of "
            f"{epochs} ({key}); allowed: different epochs before the last"
        )


if __name__ == "__main__":
    run(main)
