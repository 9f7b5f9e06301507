"""Put all that explaining a cell needs into its folder: rows with predictions, pictures, the network."""

from pipeline.core import tables
from pipeline.core.batches import batch_size
from pipeline.core.computed_by import ComputedBy
from pipeline.core.files import atomic_write, sha256, write_json
from pipeline.data import pictures
from pipeline.data.prepared import IMAGES, PLAN, SPLITS, prepared_file
from pipeline.models.cell import COMPUTED_BY, PICTURES, ROWS, CellComputedBy, cell_folder, rows_file
from pipeline.models.load import load_states
from pipeline.models.network import Network
from pipeline.models.prediction import predict, rows_of
from pipeline.models.trained import model_folder, read_further_states, read_states_file
from stages.command import run


def main(cell: str, dataset: str) -> None:
    """Predict the class of every row of a plan with one model in all its states."""
    weights = model_folder(cell)
    network = Network.read(weights)
    splits = tables.read(SPLITS, prepared_file(dataset, SPLITS))
    plan = tables.read(PLAN, prepared_file(dataset, PLAN))
    rows = rows_of(plan, splits.set_index("image")["label"], read_further_states(weights))
    with atomic_write(cell_folder(cell)) as draft:
        draft.mkdir()
        with (draft / PICTURES).open("w+b") as file:
            table = prepared_file(dataset, IMAGES)
            decoded = pictures.decode(table, rows["image"], network.image_size, network.fitting, file=file)
            states = load_states(network, weights)
            tables.write(ROWS, rows_file(draft), predict(states, rows, decoded))
        network.write(draft)
        computer = ComputedBy.here(states.device, batch_size(network.image_size, states.device))
        said = CellComputedBy(
            train=read_states_file(weights).computed_by, predict=computer, pictures=sha256(draft / PICTURES)
        )
        write_json(draft / COMPUTED_BY, said.model_dump())


if __name__ == "__main__":
    run(main, "cell", "dataset")
