"""Measure how faithful a method's maps of a cell are: those of the unperturbed images, which are there already."""

from collections.abc import Sequence

import torch

from pipeline.core import tables
from pipeline.core.batches import batch_size
from pipeline.core.computed_by import ComputedBy
from pipeline.core.documents import as_document
from pipeline.core.files import atomic_write, write_json
from pipeline.metrics.faithfulness import batch
from pipeline.metrics.faithfulness.measure import measure_rows
from pipeline.metrics.faithfulness.metric import METRICS
from pipeline.metrics.faithfulness.tables import (
    FAITHFULNESS,
    LIMITS,
    faithfulness_file,
    faithfulness_folder,
    limits_file,
    limits_folder,
    read_entry,
)
from pipeline.metrics.map_pairs import read_maps
from pipeline.models.cell import cell_folder, read_cell
from pipeline.models.classifier import Classifier
from pipeline.models.load import load_states
from pipeline.models.trained import model_folder
from pipeline.saliency.explanations import (
    ABOUT,
    explain_entry_file,
    explanations_folder,
    read_about,
    read_explain_entry,
)
from pipeline.saliency.method import METHODS
from stages.command import run


def main(cell: str, method: str) -> None:
    """Write what every metric of params.yaml says of the maps, or why nothing is measured."""
    folder, entry = explanations_folder(cell, method), read_entry()
    about = read_about(folder)
    if not entry.metrics:
        about = about.model_copy(update={"left_out": about.left_out or "params.yaml: faithfulness names no metric"})
    with atomic_write(faithfulness_folder(cell, method)) as draft:
        draft.mkdir()
        if about.left_out is None:
            known = read_cell(cell_folder(cell))
            rows, maps = read_maps(folder, known.rows, about.values, known.network.image_size)
            states = load_states(known.network, model_folder(cell))
            again = any("method" in METRICS[name].needs for name in entry.metrics)
            found = measure_rows(
                entry.metrics,
                states,
                rows,
                known.pictures,
                maps=maps,
                values=about.values,
                seed=entry.seed,
                method=_method(cell, method) if again else None,
                limits=tables.read(LIMITS, limits_file(limits_folder(cell))),
            )
            tables.write(FAITHFULNESS, faithfulness_file(draft), found)
            here = ComputedBy.here(states.device, batch_size(known.network.image_size, states.device))
            about = about.model_copy(update={"computed_by": about.computed_by | {"measure": here}})
        write_json(draft / ABOUT, about.model_dump())


def _method(cell: str, method: str) -> batch.Method:
    """Return a method with its settings, to explain again."""
    chosen, entry = METHODS.find(method, "saliency"), read_explain_entry(cell, method)
    settings = as_document(entry.settings, chosen.settings, explain_entry_file(cell, method))

    def explain(model: Classifier, images: torch.Tensor, targets: torch.Tensor, seeds: Sequence[int]) -> torch.Tensor:
        return chosen.explain(model, images, targets, settings, seeds)

    return batch.Method(explain, chosen.values, chosen.cost(settings).at_once)


if __name__ == "__main__":
    run(main, "cell", "method")
