"""Names of weights that others trained: every layout of the paper's checkpoints becomes timm's."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from timm.models import convnext, swin_transformer

from pipeline.core import params
from pipeline.models.recipe import ModelSettings
from pipeline.models.weight_names import rename
from pipeline.models.weights import load_pretrained
from tests.models.layouts import (
    LAYOUTS,
    PROFILE,
    SIZE,
    SMALL,
    State,
    convnext_as_published,
    disturbed,
    rules,
    small_model,
    small_settings,
    swin_as_published,
)


def test_every_file_of_the_profile_has_a_layout() -> None:
    assert set(LAYOUTS) == {name for name, entry in PROFILE["models"].items() if entry["weights"] != "timm"}


@pytest.mark.parametrize("name", LAYOUTS)
def test_checkpoints_of_the_paper(name: str, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pth"
    settings = small_settings(name, path)
    source, model = disturbed(small_model(settings, 5, 1)), small_model(settings, 7, 2)
    backbone = {
        key: tensor for key, tensor in source.network.state_dict().items() if key not in source.classifier_weights()
    }
    torch.save(LAYOUTS[name](backbone), path)
    fresh = {key: tensor.clone() for key, tensor in model.network.state_dict().items()}

    origin = load_pretrained(model, settings, SIZE, name)

    assert origin == f"{path}, SHA-256 {hashlib.sha256(path.read_bytes()).hexdigest()}"
    for key, tensor in model.network.state_dict().items():
        kept = key in model.classifier_weights() or (key.startswith("head.norm.") and name == "spark_convnext_small")
        torch.testing.assert_close(tensor, fresh[key] if kept else backbone[key], atol=0, rtol=0)
    if name != "spark_convnext_small":
        images = torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(model.features(images), source.features(images), atol=0, rtol=0)


@pytest.mark.parametrize(
    ("names", "drop", "theirs", "ours"),
    [
        (
            "torchvision_vit",
            [],
            lambda: torchvision.models.VisionTransformer(32, 16, 2, 2, 24, 96, num_classes=6),
            lambda: timm.create_model(
                "vit_tiny_patch16_224", img_size=32, depth=2, embed_dim=24, num_heads=2, num_classes=6
            ),
        ),
        (
            "torchvision_swin",
            ["*.relative_position_index"],
            lambda: torchvision.models.SwinTransformer([4, 4], 8, [1, 2, 1], [1, 2, 2], [4, 4], num_classes=6),
            lambda: timm.create_model(
                "swin_tiny_patch4_window7_224",
                img_size=64,
                embed_dim=8,
                depths=(1, 2, 1),
                num_heads=(1, 2, 2),
                window_size=4,
                num_classes=6,
            ),
        ),
    ],
)
def test_torchvisions_networks_become_timms(
    names: str, drop: list[str], theirs: Callable[[], torch.nn.Module], ours: Callable[[], torch.nn.Module]
) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        published, network = theirs().eval(), ours().eval()
        for parameter in published.parameters():
            parameter.data.add_(torch.randn_like(parameter) * 0.2)
        size = 32 if "vit" in names else 64
        images = torch.randn(2, 3, size, size)
    network.load_state_dict(rename(published.state_dict(), rules(names=names, drop=drop), "test"))
    with torch.inference_mode():
        expected = published(images)
        assert expected.std() > 0.05
        torch.testing.assert_close(network(images), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("names", "filtered", "published"),
    [
        ("convnext", convnext.checkpoint_filter_fn, convnext_as_published),
        ("swin", swin_transformer.checkpoint_filter_fn, swin_as_published),
    ],
)
def test_names_become_what_timms_own_filter_makes_of_them(
    names: str, filtered: Callable[..., State], published: Callable[[State], State]
) -> None:
    name = {"convnext": "spark_convnext_small", "swin": "ibot_swin_tiny"}[names]
    architecture, arguments = SMALL[PROFILE["models"][name]["architecture"]]
    network = (
        timm.create_model(architecture, num_classes=4, img_size=64, **arguments)
        if names == "swin"
        else (timm.create_model(architecture, num_classes=4, **arguments))
    )
    state = published(network.state_dict())
    state = {re.sub(r"^head\.(norm|fc)\.", r"head.", key): tensor for key, tensor in state.items()}
    ours = rename(state, rules(names=names, drop=["*.relative_position_index", "*.attn_mask"]), "test")
    theirs = filtered(dict(state), network)
    assert set(ours) == {key for key in theirs if "relative_position_index" not in key and "attn_mask" not in key}


@pytest.mark.parametrize("name", LAYOUTS)
def test_names_of_the_real_networks(name: str) -> None:
    """At the real depth and window, by names and shapes alone."""
    entry = params.check(f"models.{name}", ModelSettings, PROFILE["models"][name])
    with torch.device("meta"):
        network = timm.create_model(entry.architecture, num_classes=0, **entry.arguments)
    expected = network.state_dict()
    content = LAYOUTS[name](dict(expected))
    for key in entry.weights.inside:
        content = content[key]
    found = rename(content, entry.weights, name)
    missing = expected.keys() - found.keys()
    assert missing == ({"head.norm.weight", "head.norm.bias"} if name == "spark_convnext_small" else set())
    assert {key: tensor.shape for key, tensor in found.items()} == {key: expected[key].shape for key in found}
