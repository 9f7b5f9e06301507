"""params.yaml as checked, frozen values; nothing else reads that file.

Every value has a type and a range here, or beside the method or dataset that it belongs to, and none has a default:
what is not written in params.yaml does not exist. A stage reads just the sections that it declares to DVC.
"""

from __future__ import annotations

import re
import sys
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StrictBool,
    Tag,
    TypeAdapter,
    ValidationError,
)

from pipeline import storage
from pipeline.errors import UserError, nearest, unknown_name


class Settings(BaseModel):
    """A section of params.yaml: frozen, no unknown keys, no silent conversions (a quoted number is an error)."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


Fraction = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**63, strict=True)]
ImageSize = Annotated[int, Field(ge=16, le=1024, strict=True)]
Channels = Annotated[tuple[float, float, float], BeforeValidator(_as_tuple)]
Percents = Annotated[tuple[Annotated[int, Field(ge=1, le=99)], ...], BeforeValidator(_as_tuple)]
Epochs = Annotated[int, Field(ge=10)]
Widths = Annotated[tuple[Count, ...], BeforeValidator(_as_tuple)]
"""Of a head's hidden layers; empty where the features go to the classes at once."""
Strings = Annotated[tuple[str, ...], BeforeValidator(_as_tuple)]
Names = Annotated[tuple[str, ...], BeforeValidator(_as_tuple), Field(min_length=1)]


class SplitSettings(Settings):
    """Fractions of the images that are held out, class by class; or the publisher's own test split."""

    validation: Fraction
    test: Fraction | Literal["official"]


class DatasetSettings(Settings):
    """What every dataset has; a loader adds its own keys.

    ``source`` is where the pictures come from, a path that DVC watches: the user's folder, or the lock file that pins
    the packages which carry or draw them.
    """

    loader: str
    source: str
    image_size: ImageSize


class ArchivedSettings(DatasetSettings):
    """What the datasets have that are published as archives.

    Attributes:
        folder: where the archives lie, or are downloaded to, or where they have been unpacked.
        images: how many images the dataset has, so that an incomplete copy is found out.
        split: fractions, or the publisher's own test split.
    """

    folder: str
    images: Count
    split: SplitSettings


class PlanSettings(Settings):
    """Which perturbations the test images get."""

    images: Count
    magnitudes: Annotated[int, Field(ge=1, le=62)]
    transforms: Names
    checkpoints: Percents


class FileWeights(Settings):
    """Weights in a file, whoever wrote it, and how its names become timm's.

    Attributes:
        file: where it lies, or is downloaded to: safetensors, or anything that ``torch.load`` reads as tensors alone.
        url: where it is downloaded from when it is missing; None where the user has to place it.
        sha256: its checksum or the first eight digits or more of it; None where the publisher gives none.
        inside: keys to go down before the weights are reached, such as ``[state_dict]``.
        drop: patterns (``*`` matches anything) of names that are left out.
        prefixes: what names may begin with, taken off one after the other.
        fresh: patterns of the model's own names that the file need not have; they keep their fresh weights.
        names: whose names they then are.
    """

    file: str
    url: str | None
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{8,64}$")] | None
    inside: Strings
    drop: Strings
    prefixes: Strings
    fresh: Strings
    names: Literal["timm", "convnext", "swin", "torchvision_swin", "torchvision_vit"]


TAGGED: dict[str, type[Settings] | None] = {"<timm>": None, "<file>": FileWeights}
"""What pydantic puts into the place of an error where one of several types was chosen; no part of a key."""


def _which_weights(value: Any) -> str:
    return "<timm>" if isinstance(value, str) else "<file>"


Weights = Annotated[
    Annotated[Literal["timm"], Tag("<timm>")] | Annotated[FileWeights, Tag("<file>")], Discriminator(_which_weights)
]
AUTO = "auto"
"""Stands for what timm says of an architecture."""
State = Annotated[str, Field(pattern=r"^(trained|epoch_\d{3,})$")]
"""A state of a user's model: `trained`, or a checkpoint by the epoch that it was taken after, such as `epoch_005`."""


class NetworkSettings(Settings):
    """A timm architecture, how pictures are brought to it, and where its class activation maps are read.

    Attributes:
        architecture: a name of ``timm.list_models()``, or of ``timm.list_pretrained()``, such as ``resnet50.tv_in1k``.
        arguments: for timm's constructor.
        crop_fraction: part of the resized picture that is kept.
        mean: of the pictures' channels, or ``auto``.
        std: deviation likewise.
        cam_layer: path of the layer whose output makes class activation maps, or ``auto``.
        cam_layout: how that output is laid out, or ``auto``.
    """

    architecture: str
    arguments: dict[str, Any]
    crop_fraction: Annotated[float, Field(gt=0, le=1)]
    mean: Channels | Literal["auto"]
    std: Annotated[tuple[Positive, Positive, Positive], BeforeValidator(_as_tuple)] | Literal["auto"]
    cam_layer: str
    cam_layout: Literal["auto", "channels_first", "channels_last", "tokens"]


class ModelSettings(NetworkSettings):
    """A network, and how it comes to its weights.

    Attributes:
        weights: what training starts from: None for fresh weights, ``timm`` for those that timm has for the
            architecture, or a file.
        recipes: by dataset, what is trained otherwise than ``training`` says.
        checkpoints: by dataset, the user's own weights by state; they stand in for training.
    """

    weights: Weights | None
    recipes: dict[str, dict[str, Any]]
    checkpoints: dict[str, dict[State, FileWeights]]


class TrainingSettings(Settings):
    """How the models of one dataset are trained."""

    epochs: Epochs
    batch_size: Count
    head: Widths
    backbone: Literal["frozen", "trained"]
    precision: Literal["float32", "bfloat16", "float16"]
    optimizer: Literal["adam", "adamw", "sgd"]
    learning_rate: Positive
    momentum: Annotated[float, Field(ge=0, lt=1)]
    weight_decay: Annotated[float, Field(ge=0)]
    warmup_steps: Annotated[int, Field(ge=0)]
    clip_value: Annotated[float, Field(gt=0)] | None
    plateau_patience: Annotated[int, Field(ge=0)]
    plateau_factor: Fraction
    augment: StrictBool


class MethodSettings(Settings):
    """What every saliency method has; a method adds its own keys.

    Attributes:
        images: how many of the plan's images it explains, the first ones drawn; ``all`` for all of them.
    """

    images: Count | Literal["all"]


class SimilaritySettings(Settings):
    """How two maps are compared."""

    window: Literal[3, 5, 7, 9, 11]


class StatisticsSettings(Settings):
    """How intervals are drawn."""

    resamples: Annotated[int, Field(ge=100)]
    confidence: Fraction


SECTIONS: dict[str, Any] = {
    "seed": Seed,
    "datasets": dict[str, Any],
    "plan": PlanSettings,
    "models": dict[str, Any],
    "training": dict[str, Any],
    "saliency": dict[str, Any],
    "similarity": SimilaritySettings,
    "statistics": StatisticsSettings,
}
"""The top level of params.yaml. The entries of the four that are mappings are checked one by one."""


class _Yaml12(yaml.SafeLoader):
    """Reads numbers and truth values as YAML 1.2 and DVC do: 1e-4 is a number, and `no` is a word."""


_Yaml12.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":float", ":bool"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Yaml12.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]+)?|\.[0-9]+[eE][-+]?[0-9]+|\.inf|\.nan)$"),
    list("-+.0123456789"),
)
_Yaml12.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile("^(true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)


def profiles() -> list[str]:
    """Return the names of the profiles."""
    return sorted(file.stem for file in storage.PROFILES.glob("*.yaml"))


def profile_file(name: str) -> Path:
    """Return the file of a profile; an unknown name is a `UserError`."""
    if name not in profiles():
        raise unknown_name(str(storage.PROFILES), "profile", name, ["default", *profiles()])
    return storage.profile_file(name)


def use(profile: str) -> None:
    """Read a profile in the place of params.yaml from now on; nothing is written."""
    if profile != "default":
        storage.PARAMS = profile_file(profile)


@cache
def _document(path: Path) -> dict[str, Any]:
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), _Yaml12)
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file; run from the root of the repository") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from None
    if not isinstance(document, dict):
        raise UserError(f"{path}: found {type(document).__name__}; a mapping of sections is allowed")
    return document


def explain_error(where: str, error: ValidationError, known: dict[str, Any] | None = None) -> UserError:
    """Turn pydantic's report into one line with the key, what was found and what is allowed."""
    first = _worst(error)
    inner = ("constrained", "function", "literal[", "tuple[", "[key]", *TAGGED)
    key = ".".join([where, *(str(part) for part in first["loc"] if not str(part).startswith(inner))])
    if first["type"] == "extra_forbidden":
        hint = nearest(first["loc"][-1], known or ())
        allowed = ", ".join(sorted(known)) if known else "no further keys"
        return UserError(f"{storage.PARAMS}: {key}: unknown key{hint} (allowed: {allowed})")
    if first["type"] == "missing":
        return UserError(f"{storage.PARAMS}: {key}: missing; every key has to be written out")
    found = first["input"]
    message = first["msg"].removeprefix("Value error, ").replace("tuple", "list")
    message = re.sub(r"dictionary( or instance of \w+)?", "mapping", message)
    if first["type"] == "string_type" and isinstance(found, int | float):
        message += ", in quotes"
    return UserError(f"{storage.PARAMS}: {key}: found {found!r}; allowed: {message[:1].lower()}{message[1:]}")


def _worst(error: ValidationError) -> Any:
    """Return an unknown key before anything else: where a key is misspelt, the right one is missing too."""
    errors = error.errors(include_url=False)
    return next((one for one in errors if one["type"] == "extra_forbidden"), errors[0])


def check(where: str, kind: Any, value: Any) -> Any:
    """Check one value.

    Args:
        where: its key, for the message.
        kind: the type it must have: a `Settings` class or any annotation pydantic understands.
        value: what was found.

    Returns:
        The value as an instance of ``kind``.

    Raises:
        UserError: it does not fit; the message names the key, the value and what is allowed.
    """
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        raise explain_error(where, error, _fields_at(kind, error)) from None


def _fields_at(kind: Any, error: ValidationError) -> dict[str, Any] | None:
    """Return the fields of the (possibly nested) settings in which the error lies."""
    for part in _worst(error)["loc"][:-1]:
        fields = getattr(kind, "model_fields", {})
        if part in fields:
            kind = fields[part].annotation
        kind = TAGGED.get(str(part)) or kind
    return getattr(kind, "model_fields", None)


def sections() -> list[str]:
    """Return the keys of the top level."""
    return list(_document(storage.PARAMS))


def names(section: str) -> list[str]:
    """Return the keys of a section, in the order they are written: the axes of the grid."""
    return list(_lookup(section))


def read(key: str, kind: Any) -> Any:
    """Return the value at a dotted key, checked.

    Args:
        key: for example ``saliency.lime``; the stage must have declared it (or a parent) to DVC.
        kind: the type to check against.

    Returns:
        An instance of ``kind``.

    Raises:
        UserError: the key is missing or its value does not fit.
    """
    return check(key, kind, _lookup(key))


def network(model: str) -> NetworkSettings:
    """Return what the stages behind training need of a model, key by key: how it was trained is not their business."""
    values = {key: read(f"models.{model}.{key}", Any) for key in NetworkSettings.model_fields}
    settings: NetworkSettings = check(f"models.{model}", NetworkSettings, values)
    return settings


def recipe(dataset: str, model: ModelSettings, name: str) -> TrainingSettings:
    """Return how a model is trained on a dataset: the dataset's recipe, changed where the model has its own values.

    Args:
        dataset: its name.
        model: the model's entry.
        name: the model's name, for messages.

    Returns:
        The recipe, checked.

    Raises:
        UserError: a value does not fit, or the model has a head of its own, which belongs to the dataset.
    """
    own = model.recipes.get(dataset, {})
    where = f"models.{name}.recipes.{dataset}"
    if "head" in own:
        raise UserError(f"{storage.PARAMS}: {where}.head: found {own['head']!r}; allowed: in training.{dataset} alone, "
                        "for all models")  # fmt: skip
    settings: TrainingSettings = check(f"training.{dataset}", TrainingSettings, read(f"training.{dataset}", dict))
    return check(where, TrainingSettings, settings.model_dump() | own) if own else settings


def _lookup(key: str) -> Any:
    # Tests listen for this event and compare the keys with what dvc.yaml declares.
    sys.audit("cose.params", key)
    value: Any = _document(storage.PARAMS)
    for part in key.split("."):
        if not isinstance(value, dict) or part not in value:
            near = nearest(part, value) if isinstance(value, dict) else ""
            raise UserError(f"{storage.PARAMS}: {key}: there is no such key{near}")
        value = value[part]
    return value
