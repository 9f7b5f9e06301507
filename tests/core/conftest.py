"""A made-up project, whose code is small enough to say what belongs to each stage."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

MADE_UP = {
    "pipeline/__init__.py": "",
    "pipeline/core/__init__.py": "",
    "pipeline/core/registry.py": """
        import importlib
        from pathlib import Path
        class Registry:
            def __init__(self, package, attribute, kind):
                self.package, self.folder = package, Path(__file__).parent
            def __getitem__(self, name):
                return importlib.import_module(f"{self.package}.{name}")
        """,
    "pipeline/core/files.py": "def package_file(module_file, relative): ...",
    "pipeline/core/errors.py": "class UserError(Exception): ...",
    "pipeline/data/__init__.py": "",
    "pipeline/data/dataset.py": """
        from ..core.registry import Registry
        DATASETS: Registry[Dataset] = Registry("pipeline.data.datasets", "DATASET", "dataset loader")
        """,
    "pipeline/data/datasets/__init__.py": "",
    "pipeline/data/datasets/digits.py": "import sklearn.datasets",
    "pipeline/data/datasets/shapes.py": "from pipeline.data import draw",
    "pipeline/data/draw.py": "x = 1",
    "pipeline/metrics/__init__.py": "",
    "pipeline/metrics/similarity.py": "x = 1",
    "pipeline/results/__init__.py": "",
    "pipeline/results/comparison.py": """
        from pipeline.core.files import package_file
        def published(table):
            return package_file(__file__, "published")
        """,
    "pipeline/results/published/cose.csv": "a,b\n1,2\n",
    "pipeline/results/published/more/accuracy.csv": "a,b\n3,4\n",
    "pipeline/saliency/__init__.py": "",
    "pipeline/saliency/method.py": """
        from typing import TYPE_CHECKING
        from pipeline.core import registry
        if TYPE_CHECKING:
            from pipeline.results.comparison import published
        METHODS = registry.Registry[Method]("pipeline.saliency.methods", "METHOD", "saliency method")
        """,
    "pipeline/saliency/methods/__init__.py": "",
    "pipeline/saliency/methods/grad_cam.py": "from pipeline.saliency import method",
    "pipeline/saliency/methods/lime.py": "from ..surrogate import fit\nx = 1",
    "pipeline/saliency/surrogate.py": "def fit(): ...",
    "stages/__init__.py": "",
    "stages/aggregate.py": "from pipeline.results.comparison import published",
    "stages/check_params.py": "from pipeline.data import dataset\nfrom pipeline.saliency import method",
    "stages/explain.py": "from pipeline.saliency.method import METHODS",
    "stages/prepare.py": "import pipeline.data.dataset as known",
    "stages/score.py": "def main():\n    from pipeline.metrics.similarity import x",
}


@pytest.fixture
def made_up(tmp_path: Path) -> Callable[[Mapping[str, str]], Path]:
    def write(files: Mapping[str, str]) -> Path:
        for name, source in files.items():
            file = tmp_path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            lines = source.strip("\n").splitlines()
            indent = len(lines[0]) - len(lines[0].lstrip()) if lines else 0
            file.write_text("".join(f"{line[indent:]}\n" for line in lines))
        return tmp_path

    write(MADE_UP)
    return write


Write = Callable[[Mapping[str, str]], Path]
