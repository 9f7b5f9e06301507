"""Put a profile in the place of params.yaml. Not a stage of the graph: the graph begins with params.yaml."""

from pipeline import params, storage
from pipeline.errors import UserError
from stages.command import run


def main(name: str) -> None:
    """Replace params.yaml by ``profiles/<name>.yaml``, unless it holds anything that is in no profile."""
    wanted = params.profile_file(name).read_bytes()
    known = [params.profile_file(profile).read_bytes() for profile in params.profiles()]
    if storage.PARAMS.exists() and storage.PARAMS.read_bytes() not in known:
        raise UserError(f"{storage.PARAMS}: found changes that are in no profile; save it as {storage.PROFILES}/<name>"
                        f".yaml to keep them, or undo them (git restore {storage.PARAMS})")  # fmt: skip
    with storage.whole(storage.PARAMS) as draft:
        draft.write_bytes(wanted)
    print(f"{storage.PARAMS}: now profile {name}; `dvc params diff` shows what changed")


if __name__ == "__main__":
    run(main, "name")
