"""Replace params.yaml by a profile. Not a stage of the graph: the graph begins with params.yaml."""

import subprocess

from pipeline.core import params
from pipeline.core.errors import UserError
from pipeline.core.files import METRICS, atomic_write
from pipeline.core.profiles import PROFILES, profile_file, profiles
from stages.command import run

DEFAULT = "default"
"""Stands for params.yaml as it was last committed."""


def main(name: str) -> None:
    """Replace params.yaml by ``profiles/<name>.yaml``, unless it holds anything that is neither there nor committed."""
    committed = _committed()
    known = {DEFAULT: committed} | {one: profile_file(one).read_bytes() for one in profiles()}
    if params.PARAMS.exists() and params.PARAMS.read_bytes() not in known.values():
        raise UserError(
            params.PARAMS,
            "found changes that are neither committed nor in a profile",
            fix=f"commit them, save them as {PROFILES}/<name>.yaml, or git restore {params.PARAMS}",
        )
    wanted = committed if name == DEFAULT else profile_file(name).read_bytes()
    with atomic_write(params.PARAMS) as draft:
        draft.write_bytes(wanted)
    print(
        f"{params.PARAMS}: now profile {name}; `dvc params diff` shows what changed, and "
        f"{METRICS}/ follows with `dvc repro`"
    )


def _committed() -> bytes:
    shown = subprocess.run(["git", "show", f"HEAD:./{params.PARAMS}"], capture_output=True)
    if shown.returncode:
        reason = " ".join(shown.stderr.decode(errors="replace").split())
        raise UserError(
            params.PARAMS, f"git has no committed one ({reason})", fix=f"it is what profile {DEFAULT!r} means"
        )
    return shown.stdout


if __name__ == "__main__":
    run(main, "name")
