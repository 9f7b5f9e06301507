"""Where class activation maps are read, on one architecture of every family of timm that makes sense."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import timm
import torch

from pipeline.core.errors import UserError
from pipeline.models.build import build
from pipeline.models.classifier import Classifier
from pipeline.saliency.cams import activations_and_gradients
from tests.conftest import described

SWIN = {"depths": (1, 1, 2, 2), "embed_dim": 24, "num_heads": (1, 2, 2, 4)}
FAMILIES: dict[str, tuple[dict[str, Any], int, str, int]] = {
    # name of timm: arguments, image size, where, side of the grid
    "resnet18": ({}, 224, "layer4", 7),
    "resnetv2_50": ({"layers": [1, 1, 1, 1]}, 224, "stages.3", 7),
    "densenet121": ({"block_config": (2, 2, 2, 2)}, 224, "features.norm5", 7),
    "convnext_atto": ({}, 224, "stages.3", 7),
    "efficientnet_b0": ({}, 224, "blocks.6", 7),
    "mobilenetv3_small_050": ({}, 224, "blocks.5", 7),
    "regnetx_002": ({}, 224, "s4", 7),
    "regnety_002": ({}, 224, "s4", 7),
    "inception_next_atto": ({}, 224, "stages.3", 7),
    "poolformer_s12": ({}, 224, "stages.3", 7),
    "coatnet_nano_rw_224": ({}, 224, "stages.3", 7),
    "pvt_v2_b0": ({}, 224, "stages.3", 7),
    "mobilevit_xxs": ({}, 256, "final_conv", 8),
    "swin_tiny_patch4_window7_224": (SWIN, 224, "layers.3.blocks.1.norm1", 7),
    "swinv2_tiny_window8_256": (SWIN, 256, "layers.3.blocks.1.norm1", 8),
    "vit_tiny_patch16_224": ({"depth": 3}, 224, "blocks.2.norm1", 14),
    "vit_base_patch16_rope_reg1_gap_256": ({"depth": 3, "embed_dim": 192, "num_heads": 3}, 256, "blocks.2.norm1", 16),
    "vit_small_patch14_reg4_dinov2": ({"depth": 3}, 224, "blocks.2.norm1", 16),
    "vit_base_patch16_clip_224": ({"depth": 3, "embed_dim": 192, "num_heads": 3}, 224, "blocks.2.norm1", 14),
    "deit_tiny_distilled_patch16_224": ({"depth": 3}, 224, "blocks.2.norm1", 14),
    "vit_tiny_r_s16_p8_224": ({"depth": 3}, 224, "blocks.2.norm1", 7),
    "beit_base_patch16_224": ({"depth": 3, "embed_dim": 192, "num_heads": 3}, 224, "blocks.2.norm1", 14),
    "eva02_tiny_patch14_224": ({"depth": 3}, 224, "blocks.2.norm1", 16),
    "cait_xxs24_224": ({"depth": 3}, 224, "blocks.2.norm1", 14),
    "xcit_nano_12_p8_224": ({"depth": 3}, 224, "blocks.2.norm1", 28),
    "mixer_s32_224": ({}, 224, "blocks.7.norm1", 7),
    "resmlp_12_224": ({}, 224, "blocks.11.norm1", 14),
    "gmlp_s16_224": ({}, 224, "blocks.29", 14),
}


BEHIND_ATTENTION = {"swinv2_tiny_window8_256"}
"""Whose first norm comes behind the attention, which here sees the whole grid: a corner shows everywhere."""


def corner_shows_in_its_place(model: Classifier, size: int, mixed: bool) -> tuple[int, int]:
    """Check that a change in the upper right corner shows there in the activations; return the grid's shape."""
    pixels = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), dtype=np.uint8)
    corner, part = pixels.copy(), size // 6
    corner[:, :part, -part:] = 255 - corner[:, :part, -part:]
    targets = torch.tensor([0, 3])
    activations, gradients = activations_and_gradients(model, model.normalize(pixels), targets)
    assert activations.shape == gradients.shape
    reached = gradients.abs().amax(dim=(0, 1))
    assert (reached > 0).all(), "the class does not hang on all of the grid"
    changed, _ = activations_and_gradients(model, model.normalize(corner), targets)
    difference = (changed - activations).abs().sum(dim=(0, 1))
    height, width = difference.shape
    if mixed:
        return height, width
    assert (difference.sum(1) * torch.arange(height)).sum() / difference.sum() < (height - 1) / 2 - 0.2
    assert (difference.sum(0) * torch.arange(width)).sum() / difference.sum() > (width - 1) / 2 + 0.2
    return height, width


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_the_layer_is_found(name: str) -> None:
    arguments, size, path, side = FAMILIES[name]
    model = build(described(name, 5, size, arguments=arguments), seed=0).requires_grad_(False)
    assert model.cam.path == path
    known = timm.get_pretrained_cfg(name)
    assert model.mean.flatten().tolist() == pytest.approx(known.mean)
    assert model.std.flatten().tolist() == pytest.approx(known.std)
    with torch.no_grad():  # layers that begin as zeros would hide the classes from the grid
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(std=0.1, generator=torch.Generator().manual_seed(1))
    assert corner_shows_in_its_place(model, size, name in BEHIND_ATTENTION) == (side, side)


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        (
            "mvitv2_tiny",
            "cam_layer: found 'auto', but timm does not say where the last features of this architecture are",
        ),
        (
            "hrnet_w18_small",
            r"cam_layout: found 'auto', but timm does not say how the output of stage4 is laid out \(None\)",
        ),
    ],
)
def test_what_timm_does_not_say_the_user_has_to(architecture: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(described(architecture, 5, 224), seed=0)


def test_what_the_user_says_is_taken() -> None:
    model = build(described("resnet18", 5, 64, cam_layer="layer3.-1", cam_layout="channels_first"), seed=0)
    assert model.cam_layer is model.network.layer3[-1]
    tokens = build(described("vit_tiny_patch16_224", 5, 64, cam_layer="blocks.3.norm2"), seed=0)
    assert tokens.cam == ("blocks.3.norm2", "tokens", 4)


def test_prefix_tokens_are_dropped_however_many_there_are() -> None:
    # A class token, six registers and a grid of 2 by 2: eleven tokens, enough for 3 by 3, which is not there.
    model = build(described("vit_tiny_patch16_224", 5, 32, arguments={"reg_tokens": 6}), seed=0)
    tokens = torch.arange(11.0).view(1, 11, 1)
    assert model.grid(tokens)[0, 0].tolist() == [[7, 8], [9, 10]]


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "convnext_atto"])
@pytest.mark.parametrize("head", [(), (12, 7)])
def test_heads(name: str, head: tuple[int, ...]) -> None:
    arguments, size, _, _ = FAMILIES[name]
    model = build(described(name, 5, size, head, arguments=arguments), seed=0)
    linear = [module for module in model.classifier().modules() if isinstance(module, torch.nn.Linear)]
    assert [layer.out_features for layer in linear] == [*head, 5]
    images = torch.randn(2, 3, size, size)
    with torch.inference_mode():
        features = model.features(images)
        assert features.ndim == 2
        torch.testing.assert_close(model.classifier()(features), model(images))
    assert model.classifier_weights()
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_architectures_with_two_classifiers_are_trained_as_a_whole() -> None:
    model = build(described("deit_tiny_distilled_patch16_224", 5, 224, arguments={"depth": 1}), seed=0)
    assert {name.split(".")[0] for name in model.classifier_weights()} == {"head", "head_dist"}
    with pytest.raises(UserError, match="timm knows 2 classifiers of this architecture, not one"):
        model.classifier()
    with pytest.raises(UserError, match=r"allowed: head: \[\] and backbone: trained"):
        build(described("deit_tiny_distilled_patch16_224", 5, 224, (8,), arguments={"depth": 1}), seed=0)


def test_a_classifier_that_is_not_linear_takes_no_hidden_layers() -> None:
    arguments = {"layers": [1, 1, 1, 1]}
    with pytest.raises(UserError, match=r"training: this architecture's classifier is not a linear layer but Conv2d"):
        build(described("resnetv2_50", 5, 64, (8,), arguments=arguments), seed=0)
    with pytest.raises(UserError, match="is not a linear layer but Conv2d"):
        build(described("resnetv2_50", 5, 64, arguments=arguments), seed=0).classifier()
