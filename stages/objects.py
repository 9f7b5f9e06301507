"""Carry the boxes and masks of a cell's images into the network's frame, and study the boxes as maps."""

from pipeline.core import tables
from pipeline.core.files import atomic_write
from pipeline.metrics.localisation.measure import study_boxes
from pipeline.metrics.localisation.objects import FrameObjects, frame_objects
from pipeline.metrics.localisation.tables import BOX_STUDY, FRAME_BOXES, OBJECTS, objects_folder, read_entry, table_file
from pipeline.models.cell import cell_folder, read_cell
from pipeline.models.load import load_states
from pipeline.models.trained import model_folder
from stages.command import run


def main(cell: str, dataset: str) -> None:
    """Write what is known of the objects; tables without rows where nothing is."""
    entry = read_entry()
    known = read_cell(cell_folder(cell))
    network = known.network
    found, boxes = frame_objects(
        dataset, sorted(known.pictures), network.image_size, network.fitting[0], reading=entry.chosen.reading
    )
    objects = FrameObjects(found, boxes, network.image_size)
    study = BOX_STUDY.from_lines([])
    if entry.masking and objects.has_boxes:
        states = load_states(network, model_folder(cell))
        study = study_boxes(
            entry.masking, states, known.rows, known.pictures, objects=objects, chosen=entry.chosen, seed=entry.seed
        )
    with atomic_write(objects_folder(cell)) as draft:
        draft.mkdir()
        made = ((OBJECTS, found), (FRAME_BOXES, boxes), (BOX_STUDY, study))
        tables.write_all([(table, table_file(draft, table), rows) for table, rows in made])


if __name__ == "__main__":
    run(main, "cell", "dataset")
