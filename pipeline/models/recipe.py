"""How a model comes to its weights, as params.yaml says it.

An entry of ``models`` needs only its ``architecture``. What it leaves out has the default written here, which is what
timm says about the architecture wherever timm says something.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, StrictBool, Tag, model_validator

from pipeline.core import params
from pipeline.core.documents import read_document
from pipeline.core.errors import UserError
from pipeline.core.files import GRID
from pipeline.core.names import checked_cell
from pipeline.core.params import Count, Fraction, ImageSize, PathText, Percents, Positive, Seed, Settings, Strings
from pipeline.models.network import NetworkSettings, Widths

Epochs = Annotated[int, Field(ge=1, le=100_000)]
State = Annotated[str, Field(pattern=r"^(trained|epoch_\d{3,})$")]
"""A state of a user's model: `trained`, or a checkpoint by the epoch that it was taken after, such as `epoch_005`."""

SAFE = ("https://", "file://")
"""Addresses whose answer nobody on the way can replace."""


class FileWeights(Settings):
    """Weights in a file, whoever wrote it, and how its names become timm's.

    Attributes:
        file: where it lies, or is downloaded to: safetensors, or anything that ``torch.load`` reads as tensors alone.
        package: the installed package that carries the file, which is then a path in it, where ``*`` matches anything;
            None for a file of its own.
        url: where it is downloaded from when it is missing; None if the user must place it. An address that is
            not https needs the whole checksum.
        sha256: its checksum, or at least the first eight digits; None if the publisher gives none. Without all of them,
            the file that was used first is pinned (`pipeline.models.pins`). A package's file needs all: DVC does not
            watch packages, so the checksum is what tells that the weights are the same.
        inside: keys to go down before the weights are reached, such as ``[state_dict]``.
        drop: patterns (``*`` matches anything) of names that are left out.
        prefixes: what names may begin with, taken off one after the other.
        fresh: patterns of the model's own names that the file need not have; they keep their fresh weights.
        names: whose names they then are.
    """

    file: PathText
    package: PathText | None = None
    url: PathText | None = None
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{8,64}$")] | None = None
    inside: Strings = ()
    drop: Strings = ()
    prefixes: Strings = ()
    fresh: Strings = ()
    names: Literal["timm", "convnext", "efficientnet_pytorch", "swin", "torchvision_swin", "torchvision_vit"] = "timm"

    @model_validator(mode="after")
    def _from_one_place(self) -> FileWeights:
        if self.package is not None and (self.url is not None or not self.is_certain):
            raise ValueError("a file of a package has the whole sha256 (64 digits) and no url")
        if self.url is not None and not self.url.startswith(SAFE) and not self.is_certain:
            raise ValueError("an address with https://, or the whole sha256 (64 digits)")
        return self

    @property
    def is_certain(self) -> bool:
        """Whether the whole checksum is given."""
        return self.sha256 is not None and len(self.sha256) == 64

    @property
    def shown(self) -> str:
        """What the file is called in messages."""
        return self.file if self.package is None else f"{self.package}: {self.file}"


def _which_weights(value: Any) -> str:
    return "<timm>" if isinstance(value, str) else "<file>"


Weights = Annotated[
    Annotated[Literal["timm"], Tag("<timm>")] | Annotated[FileWeights, Tag("<file>")], Discriminator(_which_weights)
]


class ModelSettings(NetworkSettings):
    """A network, and how it comes to its weights.

    Attributes:
        weights: what training starts from: None for fresh weights, ``timm`` for those that timm has for the
            architecture, or a file.
        recipes: by dataset, what is trained otherwise than ``training`` says.
        checkpoints: by dataset, the user's own weights by state; they stand in for training.
    """

    weights: Weights | None = None
    recipes: dict[str, dict[str, Any]] = Field(default_factory=dict)
    checkpoints: dict[str, dict[State, FileWeights]] = Field(default_factory=dict)

    def network(self) -> NetworkSettings:
        """Return what is said about the network alone."""
        return NetworkSettings.model_validate({key: getattr(self, key) for key in NetworkSettings.model_fields})


class TrainingSettings(Settings):
    """How the models of one dataset are trained; only ``epochs`` is required.

    Attributes:
        epochs: passes over the training split.
        batch_size: images per step.
        head: widths of hidden layers between the pooled features and the classes.
        backbone: whether it learns, or only what is behind the features does.
        precision: of the arithmetic; other than float32 is mixed precision.
        optimizer: which one.
        learning_rate: after warming up.
        momentum: of SGD; the first beta of Adam and AdamW.
        weight_decay: of the optimizer.
        warmup_steps: in which the learning rate rises to its value.
        clip_value: greatest absolute value of a gradient; None for no clipping.
        plateau_patience: epochs without a better validation loss before the learning rate falls.
        plateau_factor: what it is multiplied with then.
        augment: whether every image gets one of the transforms, or none, at a random magnitude.
    """

    epochs: Epochs
    batch_size: Count = 32
    head: Widths = ()
    backbone: Literal["frozen", "trained"] = "trained"
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    optimizer: Literal["adam", "adamw", "sgd"] = "adamw"
    learning_rate: Annotated[float, Field(gt=0, le=1000)] = 1e-3
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Field(ge=0, le=1000)] = 0.05
    warmup_steps: Annotated[int, Field(ge=0, le=10**9)] = 0
    clip_value: Positive | None = None
    plateau_patience: Annotated[int, Field(ge=0, le=100_000)] = 2
    plateau_factor: Fraction = 0.3
    augment: StrictBool = True


WITHOUT_RECIPE = 100
"""Epochs that are assumed of weights that the user trained elsewhere without saying how: `epoch_NNN` is then the state
after *NNN* percent of the training."""

AS_IT_IS = "none"
"""Instead of a recipe: the models of a dataset keep the weights and the classes that they come with."""


def _which_recipe(value: Any) -> str:
    return f"<{AS_IT_IS}>" if isinstance(value, str) else "<recipe>"


Training = Annotated[
    Annotated[Literal["none"], Tag(f"<{AS_IT_IS}>")] | Annotated[TrainingSettings, Tag("<recipe>")],
    Discriminator(_which_recipe),
]
"""An entry of ``training``."""


def read_recipe(dataset: str, model: ModelSettings, name: str) -> TrainingSettings | None:
    """Return how a model is trained on a dataset: the dataset's recipe, changed where the model has its own values.

    A dataset needs no recipe for a model that has its own checkpoints there, since nothing is trained; its classifier
    is then timm's own, and its checkpoints are named after percents.

    Args:
        dataset: its name.
        model: the model's entry.
        name: the model's name, for messages.

    Returns:
        The recipe, checked; None if the dataset's models are not trained.

    Raises:
        UserError: a value does not fit, the model has a head of its own, which belongs to the dataset, or it has a
            recipe for a dataset whose models are not trained.
    """
    own = model.recipes.get(dataset, {})
    where = f"models.{name}.recipes.{dataset}"
    written: Any
    if dataset in model.checkpoints and dataset not in params.names("training"):
        written = TrainingSettings(epochs=WITHOUT_RECIPE)
    else:
        written = params.read(f"training.{dataset}", Training)
    if written == AS_IT_IS:
        for key in ("recipes", "checkpoints"):
            if dataset in getattr(model, key):
                raise UserError(
                    params.at(f"models.{name}.{key}.{dataset}"),
                    "found an entry",
                    expected=f"no entry, because training.{dataset} is none",
                )
        return None
    if "head" in own:
        raise UserError(
            params.at(f"{where}.head"),
            f"found {own['head']!r}",
            expected=f"in training.{dataset} alone, for all models",
        )
    return params.check(where, TrainingSettings, written.model_dump() | own) if own else written


class TrainEntry(Settings):
    """What `train_entry_file` holds: all of params.yaml that training a cell's model depends on.

    Attributes:
        seed: the user's.
        dataset: name of the cell's dataset.
        image_size: of that dataset.
        model: name of the cell's model.
        settings: the model's, with what they say of other datasets left out.
        recipe: how the model is trained on that dataset; None if it is taken as it is.
        checkpoints: percents of the training after which checkpoints are taken.
        layers: how many stages are randomised of a model that is taken as it is.
    """

    seed: Seed
    dataset: str
    image_size: ImageSize
    model: str
    settings: ModelSettings
    recipe: TrainingSettings | None
    checkpoints: Percents
    layers: Annotated[int, Field(ge=0)]


def train_entry_file(cell: str) -> Path:
    """Return the file that says how a cell's model comes to its weights."""
    return GRID / "train" / f"{checked_cell(cell)}.json"


def read_train_entry(cell: str) -> TrainEntry:
    """Return how a cell's model comes to its weights; a file that is missing or does not fit is a `UserError`."""
    return read_document(train_entry_file(cell), TrainEntry)
