"""Small settings for every method, read by tests that run them all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from pipeline.saliency.method import METHODS

RAW: dict[str, dict[str, Any]] = {
    "grad_cam": {"images": "all"},
    "grad_cam_plus_plus": {"images": "all"},
    "integrated_gradients": {"images": "all", "steps": 5, "baseline": 0.0, "score": "softmax", "percentile": 99},
    "guided_ig": {
        "images": "all",
        "steps": 6,
        "baseline": 0.0,
        "fraction": 0.25,
        "max_dist": 0.1,
        "score": "softmax",
        "percentile": 99,
    },
    "blur_ig": {"images": "all", "steps": 5, "max_sigma": 4.0, "grad_step": 0.01, "score": "softmax", "percentile": 99},
    "smooth_grad": {
        "images": "all",
        "samples": 4,
        "noise": 0.15,
        "squared": True,
        "score": "softmax",
        "percentile": 99,
    },
    "lime": {
        "images": "all",
        "samples": 80,
        "features": 3,
        "positive_only": False,
        "hide_color": 0,
        "kernel_width": 0.25,
        "quickshift": {"kernel_size": 1.5, "max_dist": 8, "ratio": 0.3},
    },
    "x_grad_cam": {"images": "all"},
    "layer_cam": {"images": "all"},
    "eigen_cam": {"images": "all"},
    "eigen_grad_cam": {"images": "all"},
    "ablation_cam": {"images": "all"},
    "score_cam": {"images": "all", "score": "logit", "masked": "picture"},
    "opti_cam": {"images": "all", "iterations": 8, "learning_rate": 0.1, "masked": "picture"},
    "extremal_perturbation": {"images": "all", "iterations": 8, "area": 0.1, "step": 3, "sigma": 6, "max_blur": 8},
    "fake_cam": {"images": "all"},
    "random_map": {"images": "all"},
    "random_map_14x14": {"images": "all"},
    "random_map_7x7": {"images": "all"},
    "sobel": {"images": "all"},
    "center": {"images": "all", "sigma": 0.25},
    "uniform": {"images": "all"},
}

PARAMS = yaml.safe_load(Path("params.yaml").read_text())
# A method without small settings is run with those of params.yaml.
SMALL = {name: METHODS[name].settings.model_validate(RAW.get(name, PARAMS["saliency"].get(name))) for name in METHODS}
