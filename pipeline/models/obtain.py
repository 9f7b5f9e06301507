"""Obtaining the weights of every state of a cell's model: by training it, or from the user's own files."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from pipeline.core import params
from pipeline.core.computed_by import ComputedBy
from pipeline.core.device import device
from pipeline.core.files import write_json
from pipeline.core.randomness import stream_seed
from pipeline.models.build import build
from pipeline.models.classifier import Classifier
from pipeline.models.learner import Split
from pipeline.models.network import Network
from pipeline.models.randomised import randomised
from pipeline.models.recipe import FileWeights, ModelSettings, TrainingSettings
from pipeline.models.state_names import RANDOM, TRAINED, checkpoint_epochs, state_name, top_state
from pipeline.models.trained import BACKBONE, STATES, StatesFile, save_state, state_checksums, state_file
from pipeline.models.training import CURVE, train
from pipeline.models.weights import load_own, load_pretrained, load_whole


def obtain_states(
    folder: Path,
    network: Network,
    model: str,
    dataset: str,
    *,
    settings: ModelSettings,
    recipe: TrainingSettings,
    percents: tuple[int, ...],
    parts: dict[str, Split],
    seed: int,
) -> tuple[Classifier, pd.DataFrame]:
    """Write the weights of every state, and what is said about them, into a folder.

    Args:
        folder: of the model; made here.
        network: how it is built.
        model: its name in params.yaml, for messages.
        dataset: the name of the dataset there.
        settings: its entry there.
        recipe: how it is trained.
        percents: of the training, after which checkpoints are taken.
        parts: the splits ``train`` and ``validation``; ``train`` may be missing where the weights are the user's own.
        seed: of the model on this dataset.

    Returns:
        The trained model on its device, and the curve of its training; see `pipeline.models.training.train`.

    Raises:
        UserError: the network cannot be built, weights cannot be obtained or do not fit, or training fails.
    """
    folder.mkdir()
    network.write(folder)
    save_state(build(network, stream_seed(seed, RANDOM)), state_file(folder, RANDOM))
    classifier = build(network, stream_seed(seed, TRAINED))
    kept = {percent: state_name(epoch) for percent, epoch in checkpoint_epochs(percents, recipe.epochs).items()}
    own = settings.checkpoints.get(dataset)
    computer = None
    if own is None:
        origin = {TRAINED: load_pretrained(classifier, settings, network.image_size, model)}
        curve = _train(folder, classifier, recipe, parts, kept=set(kept.values()), seed=seed)
        computer = ComputedBy.here(device(), recipe.batch_size, recipe.precision)
    else:
        origin = _take(folder, classifier, own, params.at(f"models.{model}.checkpoints.{dataset}"))
        kept = {percent: state for percent, state in kept.items() if state in own}
        curve = pd.DataFrame(columns=CURVE)
    checkpoints = {str(percent): state for percent, state in kept.items()}
    said = StatesFile(
        checkpoints=checkpoints, weights_from=origin, computed_by=computer, sha256=state_checksums(folder)
    )
    write_json(folder / STATES, said.model_dump())
    return classifier, curve


def take_as_it_is(
    folder: Path, network: Network, model: str, settings: ModelSettings, *, layers: int, seed: int
) -> Classifier:
    """Write the weights of a network that keeps those it comes with, and of its randomised states, into a folder.

    Args:
        folder: of the model; made here.
        network: how it is built, with the classes of its own.
        model: its name in params.yaml, for messages.
        settings: its entry there.
        layers: of how many states the last stages are randomised: the last one, the last two, and so on. What is
            random there is the random model's, so that one draw leads from the one to the other.
        seed: of the model on this dataset.

    Returns:
        The model on its device.

    Raises:
        UserError: the network cannot be built, weights cannot be obtained or do not fit, or it has too few stages.
    """
    folder.mkdir()
    network.write(folder)
    random = build(network, stream_seed(seed, RANDOM))
    save_state(random, state_file(folder, RANDOM))
    classifier = build(network, stream_seed(seed, TRAINED))
    origin = load_whole(classifier, settings, network, model)
    save_state(classifier, state_file(folder, BACKBONE))
    save_state(classifier, state_file(folder, TRAINED), ())  # everything is in the file beside it
    states = {}
    for depth, names in enumerate(randomised(classifier.network, layers, settings.architecture), 1):
        states[str(depth)] = top_state(depth)
        save_state(random, state_file(folder, top_state(depth)), names)
    said = StatesFile(
        checkpoints={}, layers=states, weights_from={TRAINED: origin}, computed_by=None, sha256=state_checksums(folder)
    )
    write_json(folder / STATES, said.model_dump())
    return classifier.to(device())


def _train(
    folder: Path,
    classifier: Classifier,
    recipe: TrainingSettings,
    parts: dict[str, Split],
    *,
    kept: set[str],
    seed: int,
) -> pd.DataFrame:
    classifier.to(device())
    trained_part = classifier.classifier_weights() if recipe.backbone == "frozen" else None
    if trained_part is not None:
        shared = set(classifier.network.state_dict()) - trained_part
        save_state(classifier, state_file(folder, BACKBONE), shared)

    def after_epoch(epoch: int) -> None:
        if state_name(epoch) in kept:
            save_state(classifier, state_file(folder, state_name(epoch)), trained_part)

    curve = train(classifier, parts["train"], parts["validation"], recipe, seed=seed, after_epoch=after_epoch)
    save_state(classifier, state_file(folder, TRAINED), trained_part)
    return curve


def _take(folder: Path, classifier: Classifier, own: dict[str, FileWeights], where: str) -> dict[str, str | None]:
    origin: dict[str, str | None] = {}
    for state, weights in sorted(own.items()):  # `trained` comes last, and stays
        origin[state] = load_own(classifier, weights, f"{where}.{state}")
        save_state(classifier, state_file(folder, state))
    classifier.to(device())
    return origin
