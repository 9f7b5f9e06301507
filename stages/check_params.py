"""Check the whole of params.yaml before anything runs; what only timm can know is checked when a model is built."""

import re

from pipeline import params, storage
from pipeline.errors import UserError, unknown_name
from pipeline.models import checkpoint_epochs
from pipeline.plan import check_transforms
from pipeline.registry import DATASETS, METHODS
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
    for model in params.names("models"):
        params.read(f"models.{model}", params.ModelSettings)
    for method in params.names("saliency"):
        params.read(f"saliency.{method}", METHODS.find(method, "saliency").settings)
    plan = params.read("plan", params.PlanSettings)
    check_transforms(plan)
    for dataset in params.names("datasets"):
        _check_checkpoints(plan.checkpoints, params.read(f"training.{dataset}.epochs", int), dataset)
    storage.write_json(storage.PARAMS_GATE, {"checked": sorted(params.SECTIONS)})


def _check_checkpoints(percents: tuple[int, ...], epochs: int, dataset: str) -> None:
    """Raise a `UserError` where two checkpoints, or one and the trained model, would be the same."""
    taken = checkpoint_epochs(percents, epochs)
    if len(set(taken.values())) < len(taken) or epochs in taken.values():
        raise UserError(
            f"{storage.PARAMS}: plan.checkpoints: found {list(percents)}, which are epochs {sorted(taken.values())} of "
            f"{epochs} (training.{dataset}.epochs); allowed: different epochs before the last"
        )


if __name__ == "__main__":
    run(main)
