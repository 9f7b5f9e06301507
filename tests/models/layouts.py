"""The paper's checkpoints as their publishers lay them out, made from timm's weights of small networks."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml

from pipeline.core import params
from pipeline.models.build import build
from pipeline.models.classifier import Classifier
from pipeline.models.network import Network
from pipeline.models.recipe import FileWeights, ModelSettings
from tests.world import ROOT

State = dict[str, torch.Tensor]
PROFILE = yaml.safe_load((ROOT / "profiles/paper.yaml").read_text())
SIZE = 32
SMALL: dict[str, tuple[str, dict[str, Any]]] = {
    "resnet50": ("resnet18", {"layers": [1, 1, 1, 1], "channels": [8, 8, 8, 16]}),
    "vit_base_patch16_224": ("vit_tiny_patch16_224", {"depth": 2, "embed_dim": 24, "num_heads": 2}),
    "vit_large_patch16_224": ("vit_tiny_patch16_224", {"depth": 3, "embed_dim": 24, "num_heads": 2}),
    "swin_tiny_patch4_window7_224": (
        "swin_tiny_patch4_window7_224",
        {"embed_dim": 8, "depths": (1, 1, 2, 1), "num_heads": (1, 1, 2, 2), "window_size": 4},
    ),
    "convnext_small": ("convnext_atto", {"depths": [1, 1, 2, 1], "dims": [8, 8, 8, 16]}),
}
"""Small networks whose weights have the same names as those of the paper's."""


def rules(**changes: Any) -> FileWeights:
    """Return what params.yaml says of a file of weights; what is left out has its default."""
    return FileWeights.model_validate({"file": "x.pth"} | changes)


def small_settings(name: str, path: Path | None = None) -> ModelSettings:
    """Return a model of the paper's profile, small, with its weights in another file."""
    entry = dict(PROFILE["models"][name])
    entry["architecture"], entry["arguments"] = SMALL[entry["architecture"]]
    if path is not None:
        entry["weights"] = entry["weights"] | {"file": str(path), "url": None, "sha256": None}
    return params.check(f"models.{name}", ModelSettings, entry)


def small_model(settings: ModelSettings, classes: int, seed: int) -> Classifier:
    """Build a small model."""
    return build(Network(settings=settings.network(), classes=classes, image_size=SIZE, head=()), seed)


def disturbed(model: Classifier) -> Classifier:
    """Give every weight a value of its own: fresh networks have many that are alike."""
    drawn = torch.Generator().manual_seed(4)
    for tensor in model.network.state_dict().values():
        if tensor.is_floating_point():
            tensor.add_(torch.rand(tensor.shape, generator=drawn) * 0.1)
    return model


def moco(state: State, head: str) -> Any:
    wrapped = {f"module.base_encoder.{name}": tensor for name, tensor in state.items()}
    wrapped |= {f"module.momentum_encoder.{name}": tensor * 0 for name, tensor in state.items()}
    projector = {f"{head}.0.weight": torch.ones(3, 3), f"{head}.1.running_mean": torch.ones(3)}
    wrapped |= {f"module.base_encoder.{name}": tensor for name, tensor in projector.items()}
    wrapped |= {f"module.momentum_encoder.{name}": tensor for name, tensor in projector.items()}
    wrapped |= {"module.predictor.0.weight": torch.ones(2, 2)}
    return {"epoch": 300, "arch": "vit_base", "state_dict": wrapped, "optimizer": {"state": {}, "param_groups": []}}


def ibot(state: State) -> Any:
    return {"state_dict": {f"module.backbone.{name}": tensor for name, tensor in state.items()}}


def swin_as_published(state: State) -> State:
    published = {}
    for name, tensor in state.items():
        found = re.match(r"layers\.(\d)\.downsample\.(.*)", name)
        published[f"layers.{int(found[1]) - 1}.downsample.{found[2]}" if found else name] = tensor
    published["layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(4, 4, dtype=torch.int64)
    published["layers.0.blocks.1.attn_mask"] = torch.zeros(1, 4, 4)
    return published


def convnext_as_published(state: State) -> State:
    published = {}
    for name, tensor in state.items():
        if name.startswith("head.norm."):
            continue  # SparK trains none
        new = re.sub(r"^stem\.", "downsample_layers.0.", name)
        new = re.sub(r"^stages\.(\d)\.downsample\.", r"downsample_layers.\1.", new)
        new = re.sub(r"^stages\.(\d)\.blocks\.", r"stages.\1.", new)
        new = new.replace(".conv_dw.", ".dwconv.").replace(".mlp.fc1.", ".pwconv1.").replace(".mlp.fc2.", ".pwconv2.")
        published[new] = tensor
    return published


def vit_of_torchvision(state: State) -> State:
    names = {"cls_token": "class_token", "pos_embed": "encoder.pos_embedding"}
    pairs = [
        ("patch_embed.proj.", "conv_proj."),
        (".norm1.", ".ln_1."),
        (".norm2.", ".ln_2."),
        (".attn.qkv.", ".self_attention.in_proj_"),
        (".attn.proj.", ".self_attention.out_proj."),
        (".mlp.fc1.", ".mlp.0."),
        (".mlp.fc2.", ".mlp.3."),
    ]
    published = {"heads.head.weight": torch.ones(2, 2)}
    for name, tensor in state.items():
        new = re.sub(r"^blocks\.(\d+)\.", r"encoder.layers.encoder_layer_\1.", names.get(name, name))
        new = re.sub(r"^norm\.", "encoder.ln.", new)
        for ours, theirs in pairs:
            new = new.replace(ours, theirs)
        published[new] = tensor
    return published


def swin_of_torchvision(state: State) -> State:
    published = {"head.weight": torch.ones(2, 2)}
    for name, tensor in state.items():
        new = name.replace("patch_embed.proj.", "features.0.0.").replace("patch_embed.norm.", "features.0.2.")
        new = re.sub(r"^layers\.(\d)\.blocks\.", lambda found: f"features.{2 * int(found[1]) + 1}.", new)
        new = re.sub(r"^layers\.(\d)\.downsample\.", lambda found: f"features.{2 * int(found[1])}.", new)
        published[new.replace(".mlp.fc1.", ".mlp.0.").replace(".mlp.fc2.", ".mlp.3.")] = tensor
    published["features.1.0.attn.relative_position_index"] = torch.zeros(16, dtype=torch.int64)
    return published


LAYOUTS: dict[str, Callable[[State], Any]] = {
    "vit_b16": vit_of_torchvision,
    "vit_l16": vit_of_torchvision,
    "swin_tiny": swin_of_torchvision,
    "dino_vit_b16": lambda state: state,
    "moco_v3_vit_b16": lambda state: moco(state, "head"),
    "ibot_vit_b16": ibot,
    "dino_resnet50": lambda state: state,
    "moco_v3_resnet50": lambda state: moco(state, "fc"),
    "ibot_swin_tiny": lambda state: ibot(swin_as_published(state)),
    "spark_convnext_small": convnext_as_published,
}
"""What each checkpoint of the paper looks like, made from timm's weights of the same network without a classifier."""
