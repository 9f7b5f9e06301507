"""Extremal perturbation against TorchRay's loop, written out for one image with torch's autograd and optimiser."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from torch import nn

from pipeline.models.classifier import Classifier
from pipeline.saliency.methods import extremal_perturbation
from pipeline.saliency.methods.extremal_perturbation import Settings, area_gradient, blur_matrix, blur_pyramid, perturb
from pipeline.saliency.smooth_masks import SmoothMasks
from tests.conftest import SIDE, wrapped

SETTINGS = Settings(images="all", iterations=10, area=0.1, step=3, sigma=6, max_blur=8)


def smooth_maximum(size: int, step: int, sigma: int) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Return the weights of the cells that reach each pixel, and their numbers, (pixels, neighbours) both."""
    reach, around = 1 + math.ceil(sigma / step), 1 + math.ceil(2 * sigma / step)
    wide = math.ceil(size / step) + 2 * around
    side = step * (wide - 2 * reach - 1) + 1
    y, x = (one.flatten()[:, None] for one in np.mgrid[:side, :side])
    down, across = (one.flatten()[None] for one in np.mgrid[: 2 * reach + 1, : 2 * reach + 1])
    cell_y, cell_x = y // step + down, x // step + across
    distance = np.hypot(y - sigma - step * (cell_y - around), x - sigma - step * (cell_x - around))
    weights = np.exp(-2 * np.maximum(0, distance / sigma - 0.5) ** 2)
    return torch.from_numpy(weights).float(), torch.from_numpy(cell_y * wide + cell_x), side


def straight_mask(cells: torch.Tensor, size: int, step: int, sigma: int) -> torch.Tensor:
    """Return a whole mask, margin included: for every pixel the smooth maximum over the cells near it."""
    weights, numbers, side = smooth_maximum(size, step, sigma)
    values = weights * F.pad(cells, (1 + math.ceil(2 * sigma / step),) * 4).flatten()[numbers]
    return (values * (20 * values).softmax(dim=1)).sum(dim=1).view(side, side).clamp(0, 1)


def straight_loop(model: Classifier, image: torch.Tensor, target: int, settings: Settings) -> torch.Tensor:
    """Return TorchRay's mask of one image (1, 3, S, S); equal pixels share their ranks."""
    size, step, sigma = image.shape[-1], settings.step, settings.sigma
    blurred = [
        gaussian_filter(image[0].numpy().astype(float), (0, s, s), mode="constant", radius=math.ceil(4 * s))
        for s in settings.max_blur * (1 - np.arange(8) / 7)
    ]
    pyramid = torch.from_numpy(np.stack(blurred)).float()
    parameters = torch.ones(math.ceil(size / step), math.ceil(size / step), requires_grad=True)
    optimizer = torch.optim.SGD([parameters], lr=settings.learning_rate, momentum=0.9, dampening=0.9)
    inside = slice(sigma, sigma + size)
    for number in range(settings.iterations):
        whole = straight_mask(parameters, size, step, sigma)
        mask = whole[inside, inside]
        level = (mask.detach() * 7).floor().long()
        part = mask * 7 - level
        rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
        weaker = pyramid[level, :, rows, columns].permute(2, 0, 1)
        stronger = pyramid[(level + 1).clamp(max=7), :, rows, columns].permute(2, 0, 1)
        shown = (1 - part) * weaker + part * stronger
        logit = model(shown.flip(2)[None] if number % 2 == 0 else shown[None])[0, target]
        flat = whole.flatten()
        order = (flat.detach() * 2**16).round()
        goal = torch.zeros_like(flat)
        goal[order.sort(stable=True).indices[int(len(flat) * (1 - settings.area)) :]] = 1
        for value in order.unique():
            goal[order == value] = goal[order == value].mean()
        loss = 300 * 1.0035**number * ((flat - goal) ** 2).mean() - logit
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            parameters.clamp_(0, 1)
    return mask.detach()


@pytest.mark.slow
def test_masks_are_those_of_torchrays_loop(convnet: Classifier, images: torch.Tensor, targets: torch.Tensor) -> None:
    for settings in (SETTINGS, SETTINGS.model_copy(update={"iterations": 4, "area": 0.3, "step": 4, "sigma": 9})):
        ours = extremal_perturbation.explain(convnet, images, targets, settings, [0] * 5)
        expected = torch.stack(
            [straight_loop(convnet, images[at : at + 1], int(targets[at]), settings) for at in range(5)]
        )
        assert expected.std(dim=(1, 2)).min() > 0.02
        # A value that rounds to the next multiple on one side alone moves a mask by less than a thousandth.
        assert (ours - expected).abs().max() < 2e-3
        assert (ours - expected).abs().mean() < 1e-4


def test_smooth_masks_are_the_smooth_maximum_of_their_cells() -> None:
    for size, step, sigma in ((12, 3, 6), (11, 2, 5)):
        made = SmoothMasks(size, step, sigma, torch.device("cpu"))
        cells = torch.rand(2, made.cells, made.cells, generator=torch.Generator().manual_seed(1)).requires_grad_()
        expected = torch.stack([straight_mask(one, size, step, sigma) for one in cells])
        masks, total = made.make(cells.detach())
        assert masks.shape == (2, made.side, made.side)
        torch.testing.assert_close(masks, expected.detach(), atol=1e-5, rtol=0)
        direction = torch.rand(expected.shape, generator=torch.Generator().manual_seed(2)) - 0.5
        (by_cells,) = torch.autograd.grad((expected * direction).sum(), cells)
        torch.testing.assert_close(made.pull_back(direction, cells.detach(), masks, total), by_cells, atol=1e-4, rtol=0)


def test_blur_is_that_of_scipy_with_zeros_around(images: torch.Tensor) -> None:
    for level, sigma in enumerate(20 * (1 - np.arange(8) / 7)):
        expected = gaussian_filter(
            images.double().numpy(), (0, 0, sigma, sigma), mode="constant", radius=math.ceil(4 * sigma)
        )
        np.testing.assert_allclose(blur_pyramid(images, 20.0)[:, level], expected, atol=1e-5)
    assert torch.equal(blur_matrix(9, 0.0), torch.eye(9))


def test_perturbed_images_and_their_slopes(images: torch.Tensor) -> None:
    pyramid = blur_pyramid(images, 8.0)
    size = images.shape[-1]
    for value, expected in ((0.0, pyramid[:, 0]), (1.0, images), (2.5 / 7, (pyramid[:, 2] + pyramid[:, 3]) / 2)):
        shown, _ = perturb(pyramid, torch.full((5, size, size), value))
        torch.testing.assert_close(shown, expected, atol=1e-5, rtol=0)
    masks = torch.rand(5, size, size, generator=torch.Generator().manual_seed(0)) * 0.9
    shown, slopes = perturb(pyramid, masks)
    further, _ = perturb(pyramid, masks + 1e-3)
    same_level = ((masks + 1e-3) * 7).floor() == (masks * 7).floor()
    difference = (further - shown) / 1e-3 - slopes
    assert (difference.abs().amax(dim=1)[same_level] < 5e-3).all()


def test_the_area_draws_the_highest_pixels_up_and_the_others_down() -> None:
    masks = torch.tensor([[[0.1, 0.9], [0.4, 0.4]]])
    # A quarter is kept: the highest goes to 1, the others to 0.
    torch.testing.assert_close(area_gradient(masks, 0.25), torch.tensor([[[-0.1, 0.1], [-0.4, -0.4]]]) / 2)
    # Half is kept: the two in the middle share the second place.
    torch.testing.assert_close(area_gradient(masks, 0.5), torch.tensor([[[-0.1, 0.1], [0.1, 0.1]]]) / 2)


class Detail(nn.Module):
    """Looks for contrast in one patch, which is its own mirror image."""

    ROWS, COLUMNS = slice(3, 9), slice(9, 15)

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Identity()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        seen = self.layer(images)[..., self.ROWS, self.COLUMNS]
        score = (seen - seen.mean(dim=(2, 3), keepdim=True)).square().mean(dim=(1, 2, 3)) * 40
        return torch.stack([score, -score], dim=1)


def test_the_mask_keeps_the_patch_that_the_model_looks_at() -> None:
    model = wrapped(Detail(), "layer").requires_grad_(False)
    images = torch.randn(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(4))
    settings = SETTINGS.model_copy(update={"iterations": 60, "area": 0.03, "step": 2, "sigma": 4})
    maps = extremal_perturbation.explain(model, images, torch.zeros(3, dtype=torch.int64), settings, [0] * 3)
    assert (maps[:, Detail.ROWS, Detail.COLUMNS].amin(dim=(1, 2)) > 0.9).all()
    # A cell reaches four pixels and more; what is far from the patch is left to the blur.
    assert (maps[:, 16:].mean(dim=(1, 2)) < 0.1).all()
    assert (maps[:, :, :3].mean(dim=(1, 2)) < 0.1).all()


def test_rows_do_not_touch_each_other(convnet: Classifier, images: torch.Tensor, targets: torch.Tensor) -> None:
    together = extremal_perturbation.explain(convnet, images, targets, SETTINGS, [0] * 5)
    alone = extremal_perturbation.explain(convnet, images[2:3], targets[2:3], SETTINGS, [0])
    torch.testing.assert_close(together[2:3], alone, atol=1e-4, rtol=0)


def test_a_logit_that_does_not_answer_to_the_mask_gives_zeros(convnet: Classifier, images: torch.Tensor) -> None:
    grey = torch.zeros_like(images)  # blurred or not, it is the same
    assert (
        extremal_perturbation.explain(convnet, grey, torch.zeros(5, dtype=torch.int64), SETTINGS, [0] * 5) == 0
    ).all()


def test_a_cell_reaches_at_least_two_steps() -> None:
    with pytest.raises(ValueError, match="a sigma of at least two steps, here 14"):
        Settings(images="all", iterations=3, area=0.1, step=7, sigma=13)
