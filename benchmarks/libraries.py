"""Methods as the libraries make them, one image at a time or as well as each library allows."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import matplotlib as mpl
import numpy as np
import saliency.core as library
import torch
from lime.lime_image import LimeImageExplainer
from matplotlib import pyplot as plt
from pytorch_grad_cam import (
    AblationCAM,
    EigenCAM,
    EigenGradCAM,
    GradCAM,
    GradCAMPlusPlus,
    LayerCAM,
    ScoreCAM,
    XGradCAM,
)
from pytorch_grad_cam.ablation_layer import AblationLayer, AblationLayerVit
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from skimage.segmentation import quickshift

from pipeline.models.classifier import Classifier
from pipeline.saliency.methods import lime

mpl.use("Agg")

Maps = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Row:
    """One map to make.

    Attributes:
        state: of the model.
        image: number of the picture.
        pixels: the input, uint8 (H, W, 3).
        target: class to explain.
        seed: of what is random.
    """

    state: str
    image: int
    pixels: Maps
    target: int
    seed: int


def _gradients(model: Classifier, target: int) -> Callable[..., dict[str, Any]]:
    """Return what the saliency library calls: images (B, H, W, 3) in, gradients of the softmax score out."""

    def call(batch: Maps, call_model_args: Any = None, expected_keys: Sequence[str] = ()) -> dict[str, Any]:
        inputs = torch.tensor(np.moveaxis(batch, -1, 1), dtype=torch.float32, device=model.mean.device)
        inputs.requires_grad_()
        score = model(inputs).softmax(dim=1)[:, target].sum()
        (gradient,) = torch.autograd.grad(score, inputs)
        return {library.INPUT_OUTPUT_GRADIENTS: np.moveaxis(gradient.cpu().numpy(), 1, -1)}

    return call


def _last_axis(model: Classifier, row: Row) -> Maps:
    return model.normalize(row.pixels[None])[0].permute(1, 2, 0).cpu().numpy().astype(np.float64)


CAMS: dict[str, type] = {
    "grad_cam": GradCAM,
    "grad_cam_plus_plus": GradCAMPlusPlus,
    "x_grad_cam": XGradCAM,
    "layer_cam": LayerCAM,
    "eigen_cam": EigenCAM,
    "eigen_grad_cam": EigenGradCAM,
    "ablation_cam": AblationCAM,
    "score_cam": ScoreCAM,
}


def _cams(name: str, model: Classifier, rows: list[Row], batch: int = 32) -> Maps:
    layers: dict[str, Any] = {"target_layers": [model.cam_layer], "reshape_transform": model.grid}
    if name == "ablation_cam":
        tokens = model.cam.layout == "tokens"
        layers["ablation_layer"] = AblationLayerVit() if tokens else AblationLayer()
    with CAMS[name](model=model, **layers) as explainer:
        explainer.batch_size = batch  # of those that ask for each channel; grad-cam's own is 32
        inputs = model.normalize(np.stack([row.pixels for row in rows]))
        # With frozen weights, which spares their gradients, something else has to ask for a backward pass.
        explainer.compute_input_gradient = not next(model.parameters()).requires_grad
        with contextlib.redirect_stderr(io.StringIO()):  # some draw progress bars
            return explainer(inputs, [ClassifierOutputTarget(row.target) for row in rows])


def _cam(name: str, model: Classifier, row: Row, settings: Any, batch: int) -> Maps:
    return _cams(name, model, [row])[0]


def _integrated(model: Classifier, row: Row, settings: Any, batch: int) -> Maps:
    return library.IntegratedGradients().GetMask(
        _last_axis(model, row), _gradients(model, row.target), x_steps=settings.steps, batch_size=batch
    )


def _blurred(model: Classifier, row: Row, settings: Any, batch: int) -> Maps:
    return library.BlurIG().GetMask(
        _last_axis(model, row),
        _gradients(model, row.target),
        max_sigma=settings.max_sigma,
        steps=settings.steps,
        grad_step=settings.grad_step,
        batch_size=batch,
    )


def _guided(model: Classifier, row: Row, settings: Any, batch: int) -> Maps:
    return library.GuidedIG().GetMask(
        _last_axis(model, row),
        _gradients(model, row.target),
        x_steps=settings.steps,
        fraction=settings.fraction,
        max_dist=settings.max_dist,
    )


def _smoothed(model: Classifier, row: Row, settings: Any, batch: int) -> Maps:
    image = _last_axis(model, row)
    # The library draws from numpy's global stream; given our draws there, it must give our map.
    noise = np.random.default_rng(row.seed).standard_normal((settings.samples, 3, *image.shape[:2]), dtype=np.float32)
    draws, original = iter(noise.transpose(0, 2, 3, 1)), np.random.normal
    np.random.normal = lambda mean, deviation, shape: next(draws) * deviation  # type: ignore[assignment]
    try:
        return library.GradientSaliency().GetSmoothedMask(
            image,
            _gradients(model, row.target),
            stdev_spread=settings.noise,
            nsamples=settings.samples,
            magnitude=settings.squared,
        )
    finally:
        np.random.normal = original


def _explained(model: Classifier, row: Row, settings: Any, batch: int) -> Maps:
    def classify(pictures: Maps) -> Maps:
        with torch.inference_mode():
            return model(model.normalize(np.asarray(pictures))).softmax(dim=1).double().cpu().numpy()

    shift = settings.quickshift
    explainer = LimeImageExplainer(settings.kernel_width, random_state=np.random.RandomState(row.seed % 2**32))
    with contextlib.redirect_stderr(io.StringIO()):  # it draws progress bars
        explanation = explainer.explain_instance(
            row.pixels,
            classify,
            labels=(row.target,),
            top_labels=None,
            hide_color=settings.hide_color,
            num_features=settings.features,
            num_samples=settings.samples,
            batch_size=batch,
            random_seed=lime.TIES,
            segmentation_fn=lambda picture: quickshift(
                picture, kernel_size=shift.kernel_size, max_dist=shift.max_dist, ratio=shift.ratio, rng=lime.TIES
            ),
        )
    return explanation.get_image_and_mask(
        row.target,
        positive_only=settings.positive_only,
        negative_only=False,
        num_features=settings.features,
        hide_rest=False,
    )[1]


def _grey(make: Callable[..., Maps], model: Classifier, row: Row, settings: Any, batch: int) -> Maps:
    return library.VisualizeImageGrayscale(make(model, row, settings, batch), settings.percentile)


ONE: dict[str, Callable[[Classifier, Row, Any, int], Maps]] = {
    **{name: partial(_cam, name) for name in CAMS},
    "integrated_gradients": lambda *arguments: _grey(_integrated, *arguments),
    "guided_ig": lambda *arguments: _grey(_guided, *arguments),
    "blur_ig": lambda *arguments: _grey(_blurred, *arguments),
    "smooth_grad": lambda *arguments: _grey(_smoothed, *arguments),
    "lime": _explained,
}
"""``(model, row, settings, images per evaluation) -> map`` by method."""

USUAL_BATCH = {"integrated_gradients": 20, "lime": 10}
"""Images per evaluation in the paper's calls; the libraries' default elsewhere is 1."""


def per_image(
    name: str, rows: list[Row], settings: Any, load: Callable[[str], Classifier], *, figure: str
) -> list[Maps]:
    """Make maps one by one, a checkpoint read for every image and state, every map drawn and saved as a figure."""
    maps, at, model = [], None, None
    for row in rows:
        if at != (row.state, row.image) or model is None:
            model, at = load(row.state), (row.state, row.image)
        maps.append(ONE[name](model, row, settings, USUAL_BATCH.get(name, 1)))
        plt.figure()
        plt.imshow(maps[-1], cmap="gray")
        plt.axis("off")
        plt.savefig(figure)
        plt.close()
    return maps


def at_best(name: str, rows: list[Row], settings: Any, load: Callable[[str], Classifier], *, batch: int) -> list[Maps]:
    """Make maps with the largest batches that each library takes, every state read once, no weight's gradient taken."""
    maps: dict[int, Maps] = {}
    for state in dict.fromkeys(row.state for row in rows):
        model, own = load(state).requires_grad_(False), [row for row in rows if row.state == state]
        places = [place for place, row in enumerate(rows) if row.state == state]
        if name in CAMS:
            made = [one for at in range(0, len(own), batch) for one in _cams(name, model, own[at : at + batch], batch)]
        else:
            made = [ONE[name](model, row, settings, batch) for row in own]
        maps.update(zip(places, made, strict=True))
    return [maps[place] for place in range(len(rows))]
