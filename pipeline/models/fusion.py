"""Networks made faster for inference without changing what they compute, but for rounding.

Batch normalisation in evaluation mode is a scale and a shift per channel; where a convolution alone feeds it, both go
into the convolution's weights. Weights lie channels last, as convolutions on CPUs and recent GPUs want them.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from pipeline.core.no_compiler import without_compiler
from pipeline.core.randomness import generator
from pipeline.models.classifier import Classifier

with without_compiler():
    from timm.layers import BatchNormAct2d

Pairs = tuple[tuple[str, str], ...]

TOLERANCE = 1e-9
"""Of the outputs in float64, relative: what folding right pairs changes is ten thousand times less."""


def foldable(model: Classifier, image_size: int) -> Pairs:
    """Find the convolutions whose output goes into a batch normalisation and nowhere else.

    The network is run once, with drawn weights, before and after folding: were a convolution's output used
    elsewhere too, or differently, the outputs would differ, and nothing is folded.

    Args:
        model: left untouched.
        image_size: side of its input in pixels.

    Returns:
        Names of the two modules of each pair. Layers that a class activation map is read from are left out.
    """
    if not any(isinstance(module, nn.BatchNorm2d) for module in model.modules()):
        return ()
    probe = copy.deepcopy(model).to("cpu", torch.float64).eval()
    rng = generator(0, "fusion")
    for tensor in probe.parameters():
        # Fresh networks have weights of zero, which would hide what happens behind them.
        spread = 0.3 / max(1, tensor[0].numel()) ** 0.5 if tensor.ndim > 1 else 0.1
        tensor.data += torch.from_numpy(rng.standard_normal(tensor.shape)) * spread
    for module in probe.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
            for values in (module.weight, module.bias, module.running_mean, module.running_var):
                if values is not None:
                    values.data = torch.from_numpy(rng.uniform(0.5, 1.5, values.shape))
    image = torch.from_numpy(rng.standard_normal((1, 3, image_size, image_size)))
    with torch.inference_mode():
        expected, pairs = _watch(probe, image)
        fold(probe, pairs)
        folded = probe(image)
    scale = expected.abs().max().clamp(min=1e-30)
    same = bool(((folded - expected).abs().max() / scale) < TOLERANCE)
    return pairs if same else ()


def _watch(model: Classifier, image: torch.Tensor) -> tuple[torch.Tensor, Pairs]:
    """Run a network and note which convolution's output each normalisation gets."""
    names = {module: name for name, module in model.network.named_modules()}
    made: dict[int, tuple[nn.Module, torch.Tensor]] = {}  # the tensors are held, so that no id is used again
    pairs: list[tuple[str, str]] = []

    def after_convolution(layer: nn.Module, inputs: Any, output: torch.Tensor) -> None:
        made[id(output)] = (layer, output)

    def before_normalisation(layer: nn.Module, inputs: Any) -> None:
        convolution = made.get(id(inputs[0]), (None,))[0]
        if convolution is not None and model.cam_layer not in (convolution, layer):
            pairs.append((names[convolution], names[layer]))

    handles = []
    for module in names:
        if type(module) is nn.Conv2d:
            handles.append(module.register_forward_hook(after_convolution))
        elif type(module) in (nn.BatchNorm2d, BatchNormAct2d) and module.running_mean is not None:
            handles.append(module.register_forward_pre_hook(before_normalisation))
    try:
        output = model(image)
    finally:
        for handle in handles:
            handle.remove()
    once = {pair for pair in pairs if sum(pair[0] == a or pair[1] == b for a, b in pairs) == 1}
    return output, tuple(pair for pair in pairs if pair in once)


def fold(model: Classifier, pairs: Pairs) -> None:
    """Fold normalisations into the convolutions before them, in place; the arithmetic is done in float64."""
    for convolution_name, normalisation_name in pairs:
        convolution: Any = model.network.get_submodule(convolution_name)
        norm: Any = model.network.get_submodule(normalisation_name)

        def exact(value: Any) -> Any:
            return None if value is None else value.detach().double()

        weight, bias = fuse_conv_bn_weights(
            exact(convolution.weight),
            exact(convolution.bias),
            exact(norm.running_mean),
            exact(norm.running_var),
            norm.eps,
            exact(norm.weight),
            exact(norm.bias),
        )
        kind = convolution.weight.dtype
        convolution.weight = nn.Parameter(weight.to(kind), requires_grad=False)
        convolution.bias = nn.Parameter(bias.to(kind), requires_grad=False)
        kept = nn.Sequential(norm.drop, norm.act) if isinstance(norm, BatchNormAct2d) else nn.Identity()
        parent, _, name = normalisation_name.rpartition(".")
        setattr(model.network.get_submodule(parent), name, kept.eval())


def lay_out(model: Classifier) -> None:
    """Put the weights of convolutions channels last, in place."""
    model.network.to(memory_format=torch.channels_last)
