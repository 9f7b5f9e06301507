"""Batches and memory: how many images at once, and that results do not depend on it beyond rounding."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from pipeline.core import batches as module
from pipeline.core.batches import CPU_IMAGES, batch_size, batches, forget_memory, with_smaller_batches
from pipeline.core.computed_by import ComputedBy
from pipeline.core.errors import UserError
from pipeline.models.classifier import Classifier
from pipeline.saliency.method import METHODS
from tests.conftest import SIDE, wrapped
from tests.settings import SMALL

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def all_memory() -> Iterator[None]:
    forget_memory()
    yield
    forget_memory()


@pytest.mark.parametrize(
    ("count", "size", "lengths"),
    [(9, 4, [3, 3, 3]), (8, 4, [4, 4]), (5, 4, [3, 2]), (1, 4, [1]), (0, 4, [0]), (11, 4, [4, 4, 3]), (3, 1, [1] * 3)],
)
def test_even_batches(count: int, size: int, lengths: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COSE_BATCH", str(size))
    chosen = batches(count, 224, CPU)
    assert [part.stop - part.start for part in chosen] == lengths
    assert [number for part in chosen for number in range(count)[part]] == list(range(count))


def test_as_many_images_as_the_device_wants(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COSE_BATCH", raising=False)
    assert batch_size(512, CPU) == CPU_IMAGES
    assert batch_size(32, CPU) == 128
    assert batch_size(224, torch.device("cuda")) == 2**22 // 224**2
    assert batch_size(4096, torch.device("cuda")) == 1
    monkeypatch.setenv("COSE_BATCH", "7")
    assert batch_size(32, CPU) == batch_size(224, torch.device("cuda")) == 7
    monkeypatch.setenv("COSE_BATCH", "many")
    with pytest.raises(UserError, match="environment variable COSE_BATCH: found 'many'; allowed: a whole number from"):
        batch_size(32, CPU)


class Narrow(torch.nn.Module):
    """A network that runs out of memory when it gets more than three images."""

    def __init__(self, network: torch.nn.Module, error: type[Exception] | None) -> None:
        super().__init__()
        self.network, self.error, self.seen = network, error, []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.seen.append(len(images))
        if len(images) > 3:
            if self.error is not None:
                raise self.error("out of memory")
            torch.empty(2**50)  # the allocator's own error
        return self.network(images)


def _most_at_once(name: str, convnet: Classifier, images: torch.Tensor, targets: torch.Tensor) -> int:
    seen: list[int] = []
    with convnet.network.register_forward_hook(lambda _, inputs, output: seen.append(len(inputs[0]))):
        METHODS[name].explain(convnet, images, targets, SMALL[name], [0] * 5)
    return max(seen)


# Controls ask the model nothing, and Ablation-CAM's rows are of what follows its layer, eight for an image.
ASKING = [name for name, method in METHODS.items() if not method.control and name != "ablation_cam"]


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError, None])
@pytest.mark.parametrize("name", ASKING)
def test_batches_are_halved_until_they_fit(
    name: str,
    error: type[Exception] | None,
    convnet: Classifier,
    images: torch.Tensor,
    targets: torch.Tensor,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COSE_BATCH", "8")
    explain, settings = METHODS[name].explain, SMALL[name]
    expected = explain(convnet, images, targets, settings, [0] * 5)
    narrow = Narrow(convnet.network, error)
    model = wrapped(narrow, "network.3")
    if _most_at_once(name, convnet, images, targets) <= 3:  # a method that is new may take one image after the other
        assert torch.equal(explain(model, images, targets, settings, [0] * 5), expected)
        return
    maps = with_smaller_batches(lambda: explain(model, images, targets, settings, [0] * 5), SIDE, CPU)
    assert max(narrow.seen) > 3
    assert narrow.seen[-1] <= 3
    assert batch_size(SIDE, CPU) in (2, 4)  # 4 where five images are cut into three and two
    assert "memory ran out at 8 images per evaluation; going on with 4" in capsys.readouterr().err
    assert (maps - expected).abs().mean() < 0.01


def test_a_single_image_that_does_not_fit_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COSE_BATCH", "4")

    def work() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(UserError, match="device cpu: memory ran out for a single image of 224 pixels a side"):
        with_smaller_batches(work, 224, CPU)


def test_other_errors_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COSE_BATCH", raising=False)

    def work() -> None:
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        with_smaller_batches(work, 224, CPU)
    assert batch_size(224, CPU) == CPU_IMAGES


def test_what_memory_allowed_is_kept_until_it_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COSE_BATCH", "8")
    failures = iter([MemoryError, None])

    def work() -> int:
        error = next(failures)
        if error is not None:
            raise error
        return batch_size(224, CPU)

    assert with_smaller_batches(work, 224, CPU) == 4
    assert batch_size(224, CPU) == 4
    forget_memory()
    assert batch_size(224, CPU) == 8
    assert module._most is None


def test_what_computed_something_is_said() -> None:
    version = torch.__version__.split("+")[0]
    found = ComputedBy.here(CPU, 8, "bfloat16")
    assert found == ComputedBy(device="cpu", torch=version, precision="bfloat16", batch=8)
