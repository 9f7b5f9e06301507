"""Names of weights: whose they are, and what makes timm's of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase

import torch

from pipeline.core.errors import UserError
from pipeline.models.recipe import FileWeights

State = dict[str, torch.Tensor]

BLOCKS = (1, 2, 2, 3, 3, 4, 1)
"""Blocks of each stage of EfficientNet-B0 and Lite0."""


def _stage_of(block: int) -> str:
    """Return the stage of one of EfficientNet's blocks and its place there, both from 0."""
    for stage, blocks in enumerate(BLOCKS):
        if block < blocks:
            return f"{stage}.{block}"
        block -= blocks
    return f"{len(BLOCKS)}.{block}"  # which no such network has


NAMES: dict[str, list[tuple[str, str | Callable[[re.Match[str]], str]]]] = {
    "timm": [],
    # ConvNeXt's own repository, and SparK's files "in official style".
    "convnext": [
        (r"^downsample_layers\.0\.", r"stem."),
        (r"^downsample_layers\.(\d+)\.", r"stages.\1.downsample."),
        (r"^stages\.(\d+)\.(\d+)\.", r"stages.\1.blocks.\2."),
        (r"\.dwconv\.", r".conv_dw."),
        (r"\.pwconv(\d)\.", r".mlp.fc\1."),
        (r"^head\.", r"head.fc."),
        (r"^norm\.", r"head.norm."),
    ],
    # EfficientNet-PyTorch (L. Melas-Kyriazi) and what follows it: blocks are counted through, as in B0 and Lite0.
    "efficientnet_pytorch": [
        (r"^_conv_stem\.", r"conv_stem."),
        (r"^_bn0\.", r"bn1."),
        (r"^_conv_head\.", r"conv_head."),
        (r"^_bn1\.", r"bn2."),
        (r"^_fc\.", r"classifier."),
        (r"^_blocks\.(\d+)\._", lambda found: f"blocks.{_stage_of(int(found[1]))}."),
        # The first block has no expansion, and so no first norm.
        (r"^(blocks\.0\.0)\.project_conv\.", r"\1.conv_pw."),
        (r"^(blocks\.(?!0\.0\.)\d+\.\d+)\.bn(\d)\.", lambda found: f"{found[1]}.bn{int(found[2]) + 1}."),
        (r"\.expand_conv\.", r".conv_pw."),
        (r"\.depthwise_conv\.", r".conv_dw."),
        (r"\.project_conv\.", r".conv_pwl."),
    ],
    # Swin's own repository, and iBOT's: a stage ends with its downsampling, where timm's next one begins with it.
    "swin": [
        (r"^layers\.(\d+)\.downsample\.", lambda found: f"layers.{int(found[1]) + 1}.downsample."),
        (r"^head\.", r"head.fc."),
    ],
    "torchvision_swin": [
        (r"^features\.0\.0\.", r"patch_embed.proj."),
        (r"^features\.0\.2\.", r"patch_embed.norm."),
        (r"^features\.(\d+)\.(norm|reduction)\.", lambda found: f"layers.{int(found[1]) // 2}.downsample.{found[2]}."),
        (r"^features\.(\d+)\.", lambda found: f"layers.{int(found[1]) // 2}.blocks."),
        (r"\.mlp\.0\.", r".mlp.fc1."),
        (r"\.mlp\.3\.", r".mlp.fc2."),
        (r"^head\.", r"head.fc."),
    ],
    "torchvision_vit": [
        (r"^class_token$", r"cls_token"),
        (r"^conv_proj\.", r"patch_embed.proj."),
        (r"^encoder\.pos_embedding$", r"pos_embed"),
        (r"^encoder\.layers\.encoder_layer_(\d+)\.", r"blocks.\1."),
        (r"^encoder\.ln\.", r"norm."),
        (r"\.ln_(\d)\.", r".norm\1."),
        (r"\.self_attention\.in_proj_", r".attn.qkv."),
        (r"\.self_attention\.out_proj\.", r".attn.proj."),
        (r"\.mlp\.(linear_1|0)\.", r".mlp.fc1."),
        (r"\.mlp\.(linear_2|3)\.", r".mlp.fc2."),
        (r"^heads\.head\.", r"head."),
    ],
}
"""Whose names, and what makes timm's of them: patterns replaced one after the other."""


def rename(state: Mapping[str, torch.Tensor], settings: FileWeights, source: str) -> State:
    """Return a checkpoint's weights under timm's names.

    Args:
        state: by the checkpoint's names.
        settings: ``drop``, ``prefixes`` and ``names`` say what becomes of them.
        source: what to call the checkpoint in messages.

    Raises:
        UserError: two names become the same.
    """
    renamed: State = {}
    for name in state:
        if any(fnmatchcase(name, pattern) for pattern in settings.drop):
            continue
        new = name
        for prefix in settings.prefixes:
            new = new.removeprefix(prefix)
        for pattern, replacement in NAMES[settings.names]:
            new = re.sub(pattern, replacement, new)
        if new in renamed:
            raise UserError(source, f"two weights become {new!r}, one of them {name!r}", expected="one")
        renamed[new] = state[name]
    return renamed
