"""Write what code computes each stage: the stages depend on these files, and not on the code itself."""

from pathlib import Path
from typing import Literal

from pipeline.core.files import DATA, atomic_write, write_json
from pipeline.core.fingerprint import Code
from stages.command import run

FOLDER = DATA / "code"
DATASETS, METHODS = "pipeline.data.datasets", "pipeline.saliency.methods"
FAITHFULNESS, LOCALISATION = "pipeline.metrics.faithfulness.metrics", "pipeline.metrics.localisation.metrics"

STAGES: dict[str, dict[str, Literal["all", "one", "none"]]] = {
    "check_params": {DATASETS: "all", METHODS: "all", FAITHFULNESS: "all", LOCALISATION: "all"},
    "prepare": {DATASETS: "one"},
    "train": {},
    "predict": {},
    "explain": {METHODS: "one"},
    "score": {},
    "faithfulness_limits": {FAITHFULNESS: "all"},
    "faithfulness": {METHODS: "one", FAITHFULNESS: "all"},
    "objects": {FAITHFULNESS: "all", LOCALISATION: "none"},
    "localisation": {FAITHFULNESS: "all", LOCALISATION: "all"},
    "gallery": {},
    "aggregate": {FAITHFULNESS: "none", LOCALISATION: "all"},
}
"""Every stage, and which members it opens of each registry that its code can load.

Where it opens one, named on its command line or in params.yaml, each member has a file of its own. "none" is for a
registry whose module is loaded for something else.
"""


def main() -> None:
    """Write ``data/code/<stage>.json``, or ``data/code/<stage>/<member>.json`` where a stage opens one member."""
    code = Code(Path())
    with atomic_write(FOLDER) as draft:
        for stage, registries in STAGES.items():
            members = {package: code.members(package) for package in registries}
            opened = {package: members[package] if which == "all" else [] for package, which in registries.items()}
            one = next((package for package, which in registries.items() if which == "one"), None)
            if one is None:
                write_json(draft / f"{stage}.json", code.closure(f"stages.{stage}", opened))
                continue
            for member in members[one]:
                write_json(draft / stage / f"{member}.json", code.closure(f"stages.{stage}", opened | {one: [member]}))


if __name__ == "__main__":
    run(main)
