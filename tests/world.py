"""A small copy of the project that tests may run and break."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

ROOT = Path(__file__).parent.parent
COPIED = (
    "pipeline",
    "runner",
    "stages",
    "warm",
    "profiles",
    "dvc.yaml",
    "params.yaml",
    "requirements.lock",
    ".dvcignore",
    ".gitignore",
)


def folder_of_pictures(root: Path, per_class: int, classes: tuple[str, ...] = ("dark", "light")) -> Path:
    """Write a folder of pictures, a brightness a class, in several sizes and formats."""
    rng = np.random.default_rng(0)
    for number, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for index in range(per_class):
            height, width = 40 + 3 * index, 50 - index
            low = 70 * number
            image = Image.fromarray(rng.integers(low, low + 100, (height, width, 3), dtype=np.uint8))
            image.save(root / name / f"{index}.{('png', 'jpg')[index % 2]}")
    return root


class World:
    """A folder with the project's code and its own params.yaml, outside the repository.

    Attributes:
        root: the folder.
        warm: whether stages start from a preloaded interpreter, which ends a minute later by itself.
    """

    def __init__(self, root: Path, *, warm: bool = False) -> None:
        self.root, self.warm = root, warm
        for name in COPIED:
            source = ROOT / name
            copy = shutil.copytree if source.is_dir() else shutil.copy
            copy(source, root / name, **({"ignore": shutil.ignore_patterns("__pycache__")} if source.is_dir() else {}))

    @property
    def params(self) -> dict[str, Any]:
        return yaml.safe_load((self.root / "params.yaml").read_text())

    def set(self, params: dict[str, Any]) -> None:
        (self.root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))

    def edit(self, key: str, value: Any) -> None:
        """Set one dotted key; None removes it."""
        params = self.params
        *parents, last = key.split(".")
        section = params
        for part in parents:
            section = section[part]
        if value is None:
            del section[last]
        else:
            section[last] = value
        self.set(params)

    def run(self, *command: str, check: bool = True, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the folder, with this interpreter's programs first in the path."""
        environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "DVC_NO_ANALYTICS": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            **variables,
        }
        done = subprocess.run(command, cwd=self.root, env=environment, capture_output=True, text=True)
        if check and done.returncode:
            raise AssertionError(
                f"{' '.join(command)}: exit {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
            )
        return done

    def stage(self, name: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, "-m", f"stages.{name}", *arguments, check=check, **self._variables)

    @property
    def _variables(self) -> dict[str, str]:
        return {"COSE_WARM": "1"} if self.warm else {}

    def start_dvc(self) -> None:
        self.run("git", "init", "-q")
        self.run("dvc", "init", "-q")
        self.run("dvc", "config", "core.analytics", "false")

    def repro(self, *arguments: str, check: bool = True) -> list[str]:
        """Run `dvc repro` and return the stages that it ran."""
        output = self.run("dvc", "repro", *arguments, check=check, **self._variables).stdout
        return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]


def every_cell(params: dict[str, Any]) -> dict[str, Any]:
    """Return the cells of every model on every dataset."""
    return {
        f"{dataset}-{model}": {"dataset": dataset, "model": model}
        for dataset in params["datasets"]
        for model in params["models"]
    }


def small_params(world: World, pictures: Path) -> dict[str, Any]:
    """Return params.yaml with one dataset of few small pictures, one model and two methods."""
    params = world.params
    params["datasets"] = {
        "pictures": {
            "loader": "image_folder",
            "source": str(pictures),
            "image_size": 32,
            "boxes": None,
            "split": {"validation": 0.2, "test": 0.3},
        }
    }
    params["training"] = {"pictures": params["training"]["digits"] | {"epochs": 10, "warmup_steps": 2}}
    params["models"] = {"resnet_mini": params["models"]["resnet_mini"]}
    params["cells"] = {"pictures-resnet_mini": {"dataset": "pictures", "model": "resnet_mini"}}
    params["saliency"] = {name: params["saliency"][name] | {"images": "all"} for name in ("grad_cam", "lime")}
    params["saliency"]["lime"] |= {"samples": 20}
    params["faithfulness"] = {
        "average_drop": {"masked": "picture"},
        "deletion_normalized": {"steps": 4, "fill": "black", "patches": 2, "search": "single"},
    }
    params["localisation"]["box_study"] = ["average_drop"]
    params["plan"] |= {"images": 4, "images_of": {}, "first": {}, "magnitudes": 1, "checkpoints": [10, 50], "layers": 0}
    return params
