"""What follows the CAM layer, evaluated alone: the logits of one image for many other activations of that layer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import nn

from pipeline.models.cam_layer import runs
from pipeline.models.classifier import Classifier


class Tail(NamedTuple):
    """The part of a network behind its CAM layer, for one image.

    Attributes:
        activations: what the layer gives for the image, (1, ...) in the layer's own layout.
        logits: of the image, (1, classes).
        evaluate: ``activations (B, ...) -> logits (B, classes)``, each row as if the layer had given these instead; it
            may overwrite them.
    """

    activations: torch.Tensor
    logits: torch.Tensor
    evaluate: Callable[[torch.Tensor], torch.Tensor]


class _Pass(NamedTuple):
    activations: torch.Tensor
    logits: torch.Tensor
    before: dict[nn.Module, torch.Tensor]


def _forward(model: Classifier, image: torch.Tensor) -> _Pass:
    """Run the network and note what its modules gave that were through before the CAM layer was."""
    times: Counter[nn.Module] = Counter()
    before: dict[nn.Module, torch.Tensor] = {}
    kept: list[torch.Tensor] = []

    def note(module: nn.Module, inputs: Any, output: Any) -> None:
        times[module] += 1
        if module is model.cam_layer:
            kept.append(output.clone())
        elif not kept and isinstance(output, torch.Tensor) and output.shape[:1] == (1,):
            # What a module gives is all that is needed of the modules in it.
            for inner in module.modules():
                before.pop(inner, None)
            before[module] = output.clone()  # what follows may work in place

    handles = [module.register_forward_hook(note) for module in model.network.modules()]
    try:
        logits = model(image)
    finally:
        for handle in handles:
            handle.remove()
    if len(kept) != 1:
        raise runs(model.cam.path, len(kept))
    # A module that runs again gives something else there.
    return _Pass(kept[0], logits, {module: output for module, output in before.items() if times[module] == 1})


@contextmanager
def _in_place_of(forwards: Mapping[nn.Module, Callable[..., torch.Tensor]]) -> Iterator[None]:
    own = {module: vars(module)["forward"] for module in forwards if "forward" in vars(module)}
    try:
        for module, forward in forwards.items():
            module.forward = forward
        yield
    finally:
        for module in forwards:
            if module in own:
                module.forward = own[module]
            else:
                del module.forward


def tail(model: Classifier, image: torch.Tensor) -> Tail:
    """Run a network up to its CAM layer once, for evaluating what follows many times.

    Later the network sees as many rows as there are activations, for it may remember their number: some add a class
    token for each behind the layer. But modules that were through before the layer was are not computed again: each
    gives what it gave for the image. What is neither in such a module nor behind the layer is computed for every row.

    Args:
        model: in evaluation mode; no other thread may use it while ``evaluate`` runs.
        image: float32 (1, 3, H, W), normalised.

    Raises:
        UserError: the layer does not run once in a forward pass.
    """
    with torch.inference_mode():
        found = _forward(model, image)

    def evaluate(activations: torch.Tensor) -> torch.Tensor:
        rows = len(activations)

        def again(output: torch.Tensor) -> Callable[..., torch.Tensor]:
            return lambda *_, **__: output.expand(rows, *output.shape[1:])

        forwards = {module: again(output) for module, output in found.before.items()}
        forwards[model.cam_layer] = lambda *_, **__: activations
        with _in_place_of(forwards), torch.inference_mode():
            logits: torch.Tensor = model(image.expand(rows, *image.shape[1:]))
        return logits

    return Tail(found.activations, found.logits, evaluate)
