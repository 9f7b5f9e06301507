"""Folding normalisations into convolutions: which, that outputs stay, and that nothing else is touched."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from pipeline.models.build import build
from pipeline.models.classifier import Classifier
from pipeline.models.fusion import fold, foldable, lay_out
from tests.conftest import described, wrapped

# Architecture, arguments, CAM layer, layout, and how many of its normalisations can be folded.
NETWORKS: dict[str, tuple[str, dict[str, Any], str, str, int]] = {
    "resnet": ("resnet18", {"layers": [1, 1, 1, 1], "channels": [8, 8, 16, 16]}, "layer4.-1", "channels_first", 13),
    "resnet50": ("resnet50", {}, "layer4.-1", "channels_first", 53),
    "densenet": ("densenet121", {"growth_rate": 4, "block_config": [2, 2]}, "features.-1", "channels_first", 5),
    "efficientnet": ("efficientnet_b0", {}, "blocks.-1", "channels_first", 49),
    "xcit": ("xcit_nano_12_p8_224", {"embed_dim": 32, "depth": 2, "num_heads": 2}, "blocks.-1.norm1", "tokens", 3),
    "vit": ("vit_tiny_patch16_224", {"embed_dim": 32, "depth": 1, "num_heads": 2}, "blocks.-1.norm1", "tokens", 0),
    "convnext": (
        "convnext_atto",
        {"depths": [1, 1, 1, 1], "dims": [8, 8, 16, 16]},
        "stages.-1.blocks.-1",
        "channels_first",
        0,
    ),
}


def disturbed(model: Classifier) -> Classifier:
    """Give normalisations values as training would."""
    drawn = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.copy_(torch.randn(module.running_mean.shape, generator=drawn) / 3)
            module.running_var.copy_(torch.rand(module.running_var.shape, generator=drawn) + 0.5)
            module.weight.data.copy_(torch.rand(module.weight.shape, generator=drawn) + 0.5)
            module.bias.data.copy_(torch.randn(module.bias.shape, generator=drawn) / 3)
    return model


@pytest.mark.slow
@pytest.mark.parametrize("family", NETWORKS)
def test_outputs_and_gradients_stay(family: str) -> None:
    architecture, arguments, layer, layout, count = NETWORKS[family]
    network = described(architecture, 5, 64, arguments=arguments, cam_layer=layer, cam_layout=layout)
    model = disturbed(build(network, seed=1)).requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    pairs = foldable(model, 64)
    assert len(pairs) == count
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(not module._forward_hooks and not module._forward_pre_hooks for module in model.modules())

    fast = copy.deepcopy(model)
    fold(fast, pairs)
    lay_out(fast)
    assert sum(isinstance(m, nn.BatchNorm2d) for m in fast.modules()) + count == sum(
        isinstance(m, nn.BatchNorm2d) for m in model.modules()
    )
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(3)).requires_grad_()
    results = []
    for one in (model, fast):
        seen = []
        handle = one.cam_layer.register_forward_hook(lambda _, __, output, seen=seen: seen.append(output.detach()))
        logits = one(images)
        handle.remove()
        results.append((logits.detach(), torch.autograd.grad(logits[:, 1].sum(), images)[0], seen[0]))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-5 * float(theirs.abs().max()), rtol=0)


class Forked(nn.Module):
    """A convolution whose output is used before its normalisation too."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.conv(images)
        return self.head((self.norm(features) + features.relu()).mean(dim=(2, 3)))


class Shared(Forked):
    """A normalisation that two convolutions feed."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head((self.norm(self.conv(images)) + self.norm(self.conv(images.flip(3)))).mean(dim=(2, 3)))


class Silent(Forked):
    """One whose fresh head says nothing of what is before it."""

    def __init__(self) -> None:
        super().__init__()
        nn.init.zeros_(self.head.weight)


@pytest.mark.parametrize("network", [Forked, Shared, Silent])
def test_what_may_not_be_folded_is_left(network: type[nn.Module]) -> None:
    assert foldable(wrapped(network(), "head"), 16) == ()


@pytest.mark.parametrize(("layer", "count"), [("0", 0), ("1", 0), ("2", 1)])
def test_the_layer_of_the_class_activation_map_is_left(layer: str, count: int) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert len(foldable(wrapped(network, layer), 16)) == count
