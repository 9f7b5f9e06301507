"""Draw what the methods mark on some images of a cell, and what becomes of it under perturbation."""

from pipeline.core import grid
from pipeline.core.documents import read_document
from pipeline.core.files import atomic_write
from pipeline.metrics.scores import SIMILARITY
from pipeline.metrics.similarity import SimilaritySettings
from pipeline.results.cell_maps import read_cell_maps, read_method_maps
from pipeline.results.gallery import IMAGES_SHOWN, files, gallery_folder
from stages.command import run


def main(cell: str, dataset: str) -> None:
    """Write PNG files: sheets of all methods side by side, and one for each."""
    validity = read_document(SIMILARITY, SimilaritySettings).validity
    shown = read_cell_maps(cell, dataset, IMAGES_SHOWN)
    methods = [read_method_maps(method, shown) for method in grid.methods()]
    with atomic_write(gallery_folder(cell)) as draft:
        for path, png in files(shown, methods, validity):
            (draft / path).parent.mkdir(parents=True, exist_ok=True)
            (draft / path).write_bytes(png)


if __name__ == "__main__":
    run(main, "cell", "dataset")
