"""Measure how well a method's maps of a cell lie on the objects: those of the unperturbed images, which are there."""

from pipeline.core import tables
from pipeline.core.batches import batch_size
from pipeline.core.computed_by import ComputedBy
from pipeline.core.files import atomic_write, write_json
from pipeline.metrics.localisation.measure import measure_localisation, study_boxes
from pipeline.metrics.localisation.metric import METRICS
from pipeline.metrics.localisation.objects import FrameObjects
from pipeline.metrics.localisation.tables import (
    BOX_STUDY,
    LOCALISATION,
    localisation_folder,
    objects_folder,
    read_entry,
    table_file,
)
from pipeline.metrics.map_pairs import read_maps
from pipeline.models.cell import cell_folder, read_cell
from pipeline.models.load import load_states
from pipeline.models.trained import model_folder
from pipeline.saliency.explanations import ABOUT, explanations_folder, read_about
from stages.command import run


def main(cell: str, method: str) -> None:
    """Write what every metric of params.yaml says of the maps, or why nothing is measured."""
    folder, entry = explanations_folder(cell, method), read_entry()
    about = read_about(folder)
    if not entry.chosen.metrics and not entry.masking:
        about = about.model_copy(update={"left_out": about.left_out or "params.yaml: localisation names no metric"})
    with atomic_write(localisation_folder(cell, method)) as draft:
        draft.mkdir()
        if about.left_out is None:
            known = read_cell(cell_folder(cell))
            network = known.network
            rows, maps = read_maps(folder, known.rows, about.values, network.image_size)
            objects = FrameObjects.read(objects_folder(cell), network.image_size)
            study = entry.masking if objects.has_boxes else {}
            states = None
            if study or any(METRICS[name].forward for name in entry.chosen.metrics):
                states = load_states(network, model_folder(cell))
                here = ComputedBy.here(states.device, batch_size(network.image_size, states.device))
                about = about.model_copy(update={"computed_by": about.computed_by | {"measure": here}})
            found = measure_localisation(
                entry.chosen,
                states,
                rows,
                known.pictures,
                maps=maps,
                objects=objects,
                values=about.values,
                interpolation=network.fitting[1],
            )
            parts = BOX_STUDY.from_lines([])
            if study and states is not None:
                parts = study_boxes(
                    study,
                    states,
                    rows,
                    known.pictures,
                    objects=objects,
                    chosen=entry.chosen,
                    seed=entry.seed,
                    maps=maps,
                    values=about.values,
                )
            made = ((LOCALISATION, found), (BOX_STUDY, parts))
            tables.write_all([(table, table_file(draft, table), lines) for table, lines in made])
        write_json(draft / ABOUT, about.model_dump())


if __name__ == "__main__":
    run(main, "cell", "method")
