"""A trained model from its description and its weights, ready to use."""

from __future__ import annotations

from pathlib import Path

from pipeline.core.device import device
from pipeline.models.build import build
from pipeline.models.network import Network
from pipeline.models.states import States
from pipeline.models.trained import read_states_file


def load_states(network: Network, weights: Path) -> States:
    """Build a network on the device and return its states.

    Args:
        network: how it is built.
        weights: folder with one safetensors file per state.

    Raises:
        UserError: the network cannot be built, the device cannot be used, or what is said about the weights is missing
            or damaged; a state that is is found when it is asked for.
    """
    checksums = read_states_file(weights).sha256
    return States(build(network, seed=0).to(device()), weights, network.image_size, checksums)
