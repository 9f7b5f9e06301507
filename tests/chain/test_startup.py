"""What starting a stage costs: a matrix of small stages pays it again and again."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

HEAVY = {
    "stages.score": {
        "torch",
        "torchvision",
        "timm",
        "great_expectations",
        "skimage",
        "sklearn",
        "matplotlib",
        "lime",
        "saliency",
        "pytorch_grad_cam",
        "cv2",
        "scipy",
    },
    "stages.aggregate": {
        "great_expectations",
        "torch",
        "torchvision",
        "timm",
        "sklearn",
        "lime",
        "saliency",
        "pytorch_grad_cam",
    },
    "stages.faithfulness": {"great_expectations", "lime", "saliency", "pytorch_grad_cam", "sklearn", "dvc", "cv2"},
    "stages.objects": {"great_expectations", "lime", "saliency", "pytorch_grad_cam", "sklearn", "dvc", "cv2"},
    "stages.localisation": {"great_expectations", "lime", "saliency", "pytorch_grad_cam", "sklearn", "dvc", "cv2"},
    "stages.gallery": {
        "great_expectations",
        "torch",
        "torchvision",
        "timm",
        "sklearn",
        "lime",
        "saliency",
        "pytorch_grad_cam",
    },
    "stages.prepare": {"great_expectations", "torch", "torchvision", "timm", "lime", "saliency", "pytorch_grad_cam"},
    "stages.train": {"great_expectations", "lime", "saliency", "pytorch_grad_cam", "dvc", "cv2"},
    "stages.predict": {"great_expectations", "lime", "saliency", "pytorch_grad_cam", "sklearn", "dvc", "cv2"},
    "stages.explain": {"great_expectations", "lime", "saliency", "pytorch_grad_cam", "sklearn", "dvc", "cv2"},
}


@pytest.mark.parametrize("stage", HEAVY)
def test_a_stage_imports_no_heavy_package_that_it_does_not_need(stage: str) -> None:
    code = f"import sys, {stage}; print(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    imported = set(
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    )
    assert stage.split(".")[0] in imported
    assert not imported & HEAVY[stage]


# Several times what was measured on two idle cores, as multiples of what `import numpy` takes on the same machine at
# the same moment, so that a slow or busy machine does not fail the test.
LIMITS = {"stages.score": 20, "stages.check_params": 70, "stages.explain": 70, "stages.aggregate": 70}


def seconds(module: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
    return time.perf_counter() - start


@pytest.mark.parametrize("stage", LIMITS)
def test_import_time(stage: str) -> None:
    seconds(stage)  # reads the disk
    ratio = min(seconds(stage) / seconds("numpy") for _ in range(3))
    assert ratio < LIMITS[stage], f"{stage} takes {ratio:.0f} times as long to import as numpy"


def test_timm_comes_without_the_compiler_and_leaves_it_usable() -> None:
    code = """
import sys, pipeline.models.build, torch
assert not {name for name in sys.modules if name.startswith("torch._dynamo")}, "the compiler was imported"
import torchvision
boxes = torch.tensor([[0.0, 0, 1, 1], [0, 0, 1, 1]])
assert torchvision.ops.nms(boxes, torch.tensor([0.5, 0.6]), 0.5).tolist() == [1]
assert torch.compile(lambda x: x + 1, backend="eager")(torch.ones(2)).tolist() == [2, 2]
assert not hasattr(torch._dynamo, "stands_in")
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_stand_in_gives_way_to_the_real_compiler() -> None:
    code = """
import sys
from pipeline.core.no_compiler import without_compiler
with without_compiler():
    import torch._dynamo
    assert torch._dynamo.stands_in
    assert callable(torch._dynamo.optimize)  # not known to the stand-in
assert not hasattr(sys.modules["torch._dynamo"], "stands_in")
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_library_needs_neither_dvc_nor_great_expectations() -> None:
    # Machines that only compute, such as borrowed GPUs, have neither.
    code = """
import importlib, pkgutil, sys
for name in ("dvc", "great_expectations"):
    sys.modules[name] = None
import pipeline
for module in pkgutil.walk_packages(pipeline.__path__, "pipeline."):
    importlib.import_module(module.name)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_two_processes_at_once_do_not_collapse() -> None:
    # Spinning threads make two small networks on the same cores tens of times slower than one after the other.
    code = """
import stages, sys, time, torch
from pipeline.core.device import device
device()
layers = [layer for _ in range(6) for layer in (torch.nn.Conv2d(16, 16, 3, padding=1), torch.nn.ReLU())]
network = torch.nn.Sequential(*layers)
images = torch.randn(8, 16, 28, 28)
for _ in range(5): network(images).sum().backward()
sys.stdin.readline()
start = time.perf_counter()
for _ in range(60): network(images).sum().backward()
print(time.perf_counter() - start)
"""

    def together(count: int) -> float:
        running = [
            subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(count)
        ]
        time.sleep(6)
        for process in running:
            assert process.stdin is not None
            process.stdin.write("\\n")
            process.stdin.flush()
        return max(float(process.communicate()[0]) for process in running)

    alone, both = together(1), together(2)
    assert both < 6 * alone, f"two at once took {both / alone:.1f} times as long as one"
