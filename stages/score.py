"""Compare every map of a cell with its reference's."""

from pipeline.core import tables
from pipeline.core.documents import read_document
from pipeline.core.files import atomic_write, write_json
from pipeline.metrics.map_pairs import read_maps, score_rows
from pipeline.metrics.scores import SCORES, SIMILARITY, scores_file, scores_folder
from pipeline.metrics.similarity import SimilaritySettings
from pipeline.models.cell import cell_folder, read_rows
from pipeline.saliency.explanations import ABOUT, explanations_folder, read_about
from stages.command import run


def main(cell: str, method: str) -> None:
    """Write the similarities of a method's maps of a cell."""
    folder = explanations_folder(cell, method)
    settings = read_document(SIMILARITY, SimilaritySettings)
    about = read_about(folder)
    with atomic_write(scores_folder(cell, method)) as draft:
        draft.mkdir()
        if about.left_out is None:
            rows, network = read_rows(cell_folder(cell))
            rows, maps = read_maps(folder, rows, about.values, network.image_size)
            scores = score_rows(rows, maps, about.values, network.image_size, settings=settings)
            tables.write(SCORES, scores_file(draft), scores)
        write_json(draft / ABOUT, about.model_dump())


if __name__ == "__main__":
    run(main, "cell", "method")
