"""Explain every row of a cell with one method."""

from pipeline.core import tables
from pipeline.core.batches import batch_size
from pipeline.core.computed_by import ComputedBy
from pipeline.core.documents import as_document
from pipeline.core.files import atomic_write, write_json
from pipeline.models.cell import cell_folder, first_images, read_cell
from pipeline.models.load import load_states
from pipeline.models.trained import model_folder
from pipeline.saliency.explain import explain_rows
from pipeline.saliency.explanations import (
    ABOUT,
    INDEX,
    MAPS,
    About,
    explain_entry_file,
    explanations_folder,
    index_file,
    read_explain_entry,
)
from pipeline.saliency.method import METHODS
from stages.command import run


def main(cell: str, method: str) -> None:
    """Write a map for every row of the images that the method explains, of the class predicted there, and an index."""
    chosen = METHODS.find(method, "saliency")
    entry = read_explain_entry(cell, method)
    about = About(left_out=entry.left_out, values=chosen.values, computed_by={})
    with atomic_write(explanations_folder(cell, method)) as draft:
        draft.mkdir()
        if entry.left_out is None:
            settings = as_document(entry.settings, chosen.settings, explain_entry_file(cell, method))
            known = read_cell(cell_folder(cell))
            states = load_states(known.network, model_folder(cell))
            index = explain_rows(
                states,
                first_images(known.rows, settings.images),
                known.pictures,
                lambda model, images, targets, seeds: chosen.explain(model, images, targets, settings, seeds),
                values=chosen.values,
                storage=chosen.stored_as,
                at_once=chosen.cost(settings).at_once,
                seed=entry.seed or 0,
                maps_path=draft / MAPS,
                name=f"method {method} on {cell}",
            )
            tables.write(INDEX, index_file(draft), index)
            batch = batch_size(known.network.image_size, states.device)
            about = About(
                left_out=None,
                values=chosen.values,
                computed_by={
                    "train": known.computed_by.train,
                    "predict": known.computed_by.predict,
                    "explain": ComputedBy.here(states.device, batch),
                },
            )
        write_json(draft / ABOUT, about.model_dump())


if __name__ == "__main__":
    run(main, "cell", "method")
