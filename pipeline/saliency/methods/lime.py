"""LIME on superpixels: hide some, ask the model, and fit a weighted linear model to its answers.

Source: M. Ribeiro et al., "Why Should I Trust You?": Explaining the Predictions of Any Classifier, 2016, with the
choices of the lime package: quickshift superpixels, cosine distance, features chosen by a first ridge regression and
weighted by a second. (For six features or fewer the package switches to forward selection; here it is ridge always.)
The map is ternary: 1 where a chosen superpixel speaks for the class, -1 where it speaks against it, 0 elsewhere.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence
from typing import Annotated

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field, StrictBool
from skimage.segmentation import quickshift

from pipeline.core.batches import batches
from pipeline.core.params import Count, Positive
from pipeline.core.params import Settings as Section
from pipeline.data.decode import Pixels
from pipeline.models.classifier import Classifier
from pipeline.saliency.method import Cost, Method, MethodSettings

Segments = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

SELECTION_PENALTY, FIT_PENALTY = 0.01, 1.0

TIES = 0
"""Seed of the noise by which quickshift breaks ties: one for all, so that superpixels depend on the picture alone."""

CACHED = 4096
known: dict[bytes, bytes] = {}
"""Superpixels of the last pictures, packed: other states of a model see the same ones. Threads share it; what two of
them find for one picture is the same."""


class QuickshiftSettings(Section):
    """Superpixels: width of the density kernel in pixels, cut-off distance, and the weight of colour over place."""

    kernel_size: Annotated[float, Field(ge=1, le=100)]
    max_dist: Positive
    ratio: Annotated[float, Field(ge=0, le=1)]


class Settings(MethodSettings):
    """``hide_color`` is the grey level (0 to 255) of hidden superpixels; ``features`` is how many may be shown."""

    samples: Annotated[int, Field(ge=2, le=100_000)]
    features: Count
    positive_only: StrictBool
    hide_color: Annotated[int, Field(ge=0, le=255)]
    kernel_width: Positive
    quickshift: QuickshiftSettings


def superpixels(image: Pixels, settings: QuickshiftSettings) -> Segments:
    """Return the superpixel of every pixel, (H, W), numbered from 0; ``image`` is uint8 (H, W, 3)."""
    key = hashlib.blake2b(image.tobytes() + repr((image.shape, settings)).encode(), digest_size=16).digest()
    packed = known.get(key)
    if packed is None:
        found: Segments = quickshift(
            image, kernel_size=settings.kernel_size, max_dist=settings.max_dist, ratio=settings.ratio, rng=TIES
        )
        for oldest in list(known)[: -CACHED + 1]:
            known.pop(oldest, None)
        packed = known[key] = zlib.compress(found.astype(np.uint32).tobytes(), level=1)
    return np.frombuffer(zlib.decompress(packed), np.uint32).reshape(image.shape[:2]).astype(np.int64)


def _ridge(shown: Floats, answers: Floats, weights: Floats, penalty: float) -> Floats:
    """Return the coefficients of a weighted ridge regression with an unpenalised intercept."""
    total = weights.sum()
    x = shown - weights @ shown / total
    y = answers - weights @ answers / total
    gram = x.T @ (weights[:, None] * x)
    gram[np.diag_indices_from(gram)] += penalty
    coefficients: Floats = np.linalg.solve(gram, x.T @ (weights * y))
    return coefficients


def linear_model(shown: Floats, answers: Floats, features: int, kernel_width: float) -> tuple[Segments, Floats]:
    """Fit the model's answers with few superpixels.

    Args:
        shown: (samples, superpixels), 1 where a superpixel is shown and 0 where hidden; the first row shows all.
        answers: (samples,), the softmax score of the class.
        features: how many superpixels are kept.
        kernel_width: of the exponential kernel on the cosine distance to the first row.

    Returns:
        The superpixels kept, strongest first, and their weights.
    """
    distance = 1 - np.sqrt(shown.mean(axis=1))
    weights = np.sqrt(np.exp(-(distance**2) / kernel_width**2))
    first = _ridge(shown, answers, weights, SELECTION_PENALTY)
    kept = np.argsort(-np.abs(first), kind="stable")[:features]
    second = _ridge(shown[:, kept], answers, weights, FIT_PENALTY)
    order = np.argsort(-np.abs(second), kind="stable")
    return kept[order], second[order]


def _answers(
    model: Classifier, image: torch.Tensor, segments: Segments, shown: npt.NDArray[np.bool_], *, target: int, hide: int
) -> Floats:
    """Return the softmax score of the class for every sample; samples that are the same are asked once."""
    packed = np.packbits(shown, axis=1)
    _, first, position = np.unique(packed.view(f"V{packed.shape[1]}").ravel(), return_index=True, return_inverse=True)
    distinct = torch.from_numpy(shown[first]).to(image.device)
    place = torch.from_numpy(segments).to(image.device)
    hidden = model.normalize(np.full((1, 1, 1, 3), hide, np.uint8)).view(3)
    picture = image.permute(1, 2, 0).contiguous()
    scores = []
    for part in batches(len(distinct), image.shape[-1], image.device):
        inputs = torch.where(distinct[part][:, place][..., None], picture, hidden).permute(0, 3, 1, 2)
        with torch.inference_mode():
            scores.append(model(inputs).softmax(dim=1)[:, target].double().cpu().numpy())
    answers: Floats = np.concatenate(scores)[position.ravel()]
    return answers


def _explain_one(
    model: Classifier, image: torch.Tensor, picture: Pixels, target: int, *, settings: Settings, seed: int
) -> Floats:
    segments = superpixels(picture, settings.quickshift)
    count = int(segments.max()) + 1
    # The lime package's own generator, so that one state gives both the same samples.
    drawn = np.random.RandomState(seed % 2**32).randint(0, 2, settings.samples * count)
    shown = drawn.reshape(settings.samples, count).astype(bool)
    shown[0] = True
    answers = _answers(model, image, segments, shown, target=target, hide=settings.hide_color)
    kept, weights = linear_model(shown.astype(np.float64), answers, settings.features, settings.kernel_width)
    signs = np.where(weights < 0, -1.0, 1.0)
    if settings.positive_only:
        signs = (weights > 0).astype(np.float64)
    values = np.zeros(count)
    values[kept] = signs
    return values[segments]


def explain(
    model: Classifier, images: torch.Tensor, targets: torch.Tensor, settings: Settings, seeds: Sequence[int]
) -> torch.Tensor:
    """Return the maps, float32 (N, H, W) of -1, 0 and 1; each row's samples come from its seed."""
    rows = zip(images, model.pixels(images), targets.tolist(), seeds, strict=True)
    maps = np.stack([_explain_one(model, *row[:3], settings=settings, seed=row[3]) for row in rows])
    return torch.from_numpy(maps.astype(np.float32)).to(images.device)


def cost(settings: Settings) -> Cost:
    """One forward pass per sample, less where samples are the same."""
    return Cost(forward=settings.samples, at_once=settings.samples)


METHOD = Method(Settings, explain, "ternary", cost)
