"""A trained model from its description and its weights, ready to be asked."""

from __future__ import annotations

from pathlib import Path

from pipeline.core.device import device
from pipeline.models.build import build
from pipeline.models.network import Network
from pipeline.models.states import States


def load_states(network: Network, weights: Path) -> States:
    """Build a network on the device and return its states.

    Args:
        network: how it is built.
        weights: folder with one safetensors file per state.

    Raises:
        UserError: the network cannot be built, or the device cannot be used.
    """
    return States(build(network, seed=0).to(device()), weights, network.image_size)
