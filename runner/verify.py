"""Hash everything that DVC keeps, name what is damaged, and repair it: `python -m runner.verify [--repair]`.

DVC trusts an object of its cache that is write-protected, and a file of the workspace whose time has not changed,
without reading them. Here every byte is read. What is damaged is named with the stage that made it. With ``--repair``
it is taken from where it is still good (the workspace, the cache or the remote), or removed, so that `dvc repro` makes
it again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvc.repo import Repo
from tqdm import tqdm

from pipeline.core.device import cores
from pipeline.core.files import atomic_write, md5

NAME = re.compile(r"[0-9a-f]{2}/[0-9a-f]{30}(\.dir)?")
"""Where an object lies below the cache's folder: its MD5 checksum, cut after two digits."""


NOBODY = "an earlier run, or by a stage whose list of files is damaged too"


@dataclass
class Damage:
    """What is wrong with some content.

    Attributes:
        oid: checksum of the object, with ``.dir`` for the list of a folder's files.
        problems: files that should hold it, in the cache and in the workspace, and what is wrong with each.
        paths: of the outputs in the workspace that should hold it.
        stages: that made it.
    """

    oid: str
    problems: list[tuple[Path, str]]
    paths: list[Path]
    stages: list[str]

    def line(self) -> str:
        """Return one line for people."""
        wrong = "; ".join(f"{file}: {what}" for file, what in self.problems)
        others = [path for path in self.paths if path not in dict(self.problems)]
        held = f"; it holds {_listed_short(others)}" if others else ""
        return f"{wrong}{held}; made by {_listed_short(self.stages) if self.stages else NOBODY}"


def _listed_short(items: Iterable[object]) -> str:
    texts = sorted({str(one) for one in items})
    return ", ".join(texts[:3]) + (f" and {len(texts) - 3} more" if len(texts) > 3 else "")


class Contents:
    """What the outputs of all stages should hold, by the checksum of the content."""

    def __init__(self) -> None:
        self.paths: dict[str, list[Path]] = defaultdict(list)
        self.stages: dict[str, list[str]] = defaultdict(list)

    def add(self, oid: str, path: Path, stage: str) -> None:
        """Note that a stage's output holds some content."""
        self.paths[oid].append(path)
        self.stages[oid].append(stage)


def cache_folder(repo: Repo) -> Path:
    """Return the folder of the cache's objects."""
    return Path(repo.cache.local.path)


def object_file(cache: Path, oid: str) -> Path:
    """Return where an object lies."""
    return cache / oid[:2] / oid[2:]


def contents_of(repo: Repo, cache: Path) -> Contents:
    """Return what dvc.lock says of every output, and of every file in an output that is a folder.

    A list of files that is damaged itself says nothing; it is mended first.
    """
    contents = Contents()
    root = Path(repo.root_dir)
    for stage in repo.index.stages:
        for out in stage.outs:
            if not out.use_cache or not out.hash_info or not out.hash_info.value:
                continue
            oid, path = out.hash_info.value, Path(out.fs_path).relative_to(root)
            contents.add(oid, path, stage.addressing)
            if oid.endswith(".dir"):
                for name, inner in _listed(object_file(cache, oid), oid):
                    contents.add(inner, path / name, stage.addressing)
    return contents


def _listed(file: Path, oid: str) -> Iterator[tuple[str, str]]:
    with suppress(OSError, ValueError, KeyError, TypeError):
        if md5(file) == oid.removesuffix(".dir"):
            yield from [(entry["relpath"], entry["md5"]) for entry in json.loads(file.read_bytes())]


def look(repo: Repo, contents: Contents) -> list[Damage]:
    """Hash every object and every output in the workspace, and return what is not as it was."""
    cache = cache_folder(repo)
    objects = {name.replace("/", ""): cache / name for name in _names(cache)}
    outputs = [(oid, path) for oid, paths in contents.paths.items() if not oid.endswith(".dir") for path in paths]
    tasks = [*objects.items(), *((oid, path) for oid, path in outputs if path.is_file())]
    problems: dict[str, list[tuple[Path, str]]] = defaultdict(list)
    for oid in sorted(contents.paths.keys() - objects.keys()):
        problems[oid].append((object_file(cache, oid), "missing"))
    for (oid, file), what in zip(tasks, _in_threads(_wrong, tasks), strict=True):
        if what is not None:
            problems[oid].append((file, what))
    return [
        Damage(oid, wrong, contents.paths.get(oid, []), contents.stages.get(oid, [])) for oid, wrong in problems.items()
    ]


def _wrong(task: tuple[str, Path]) -> str | None:
    """Return what is wrong with a file that should have a checksum."""
    oid, file = task
    try:
        found = md5(file)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if found == oid.removesuffix(".dir"):
        return None
    return f"damaged ({file.stat().st_size} bytes with the MD5 checksum {found})"


def _names(cache: Path) -> list[str]:
    return sorted(name for file in cache.glob("??/*") if NAME.fullmatch(name := file.relative_to(cache).as_posix()))


def _in_threads(work: Callable[[Any], Any], tasks: list[Any]) -> Iterable[Any]:
    # Hashing lets go of Python's lock, so threads fill the cores.
    with ThreadPoolExecutor(cores()) as pool:
        yield from tqdm(pool.map(work, tasks), total=len(tasks), desc="verify", unit="file", disable=None, delay=1)


def mend(repo: Repo, damage: Damage) -> str:
    """Mend one thing and say how: from the workspace, the cache or the remote, or by removing what is damaged."""
    cache = cache_folder(repo)
    wanted, target = damage.oid.removesuffix(".dir"), object_file(cache, damage.oid)
    good = next((path for path in [target, *damage.paths] if _is(path, wanted)), None)
    how = f"from {good}"
    if good is None and damage.oid.endswith(".dir"):
        listed = next((content for path in damage.paths if (content := _list_of(path, wanted)) is not None), None)
        if listed is not None:
            _put(listed, target, 0o444)
            good, how = target, "from the folder itself"
    if good is None:
        good, how = _from_remote(repo, damage.oid, cache), "from the remote"
    for path in [target, *damage.paths]:
        if path.is_file() and not _is(path, wanted):
            path.unlink()
    if good is None:
        return f"removed{'; `dvc repro` makes it again' if damage.stages else ''}"
    if not target.is_file():
        _put(good.read_bytes(), target, 0o444)
    for path in damage.paths:
        if path.parent.is_dir() and not path.exists():
            _put(target.read_bytes(), path, 0o644)
    return f"mended {how}"


def _list_of(folder: Path, wanted: str) -> bytes | None:
    """Return DVC's list of a folder's files, if it has the checksum that it should have."""
    if not folder.is_dir():
        return None
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    entries = [{"md5": md5(file), "relpath": file.relative_to(folder).as_posix()} for file in files]
    content = json.dumps(sorted(entries, key=lambda entry: entry["relpath"]), sort_keys=True).encode()
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    return content if found == wanted else None


def _is(path: Path, wanted: str) -> bool:
    with suppress(OSError):
        return path.is_file() and md5(path) == wanted
    return False


def _from_remote(repo: Repo, oid: str, cache: Path) -> Path | None:
    """Fetch an object from the default remote, if it is there and good."""
    from dvc.config import NoRemoteError
    from dvc.exceptions import DvcException

    target = object_file(cache, oid)
    draft = target.with_name(f"{target.name}.{os.getpid()}")
    try:
        remote = repo.cloud.get_remote_odb()
        draft.parent.mkdir(parents=True, exist_ok=True)
        remote.fs.get_file(remote.oid_to_path(oid), os.fspath(draft))
    except (NoRemoteError, DvcException, OSError):
        draft.unlink(missing_ok=True)
        return None
    if not _is(draft, oid.removesuffix(".dir")):
        draft.unlink()
        return None
    draft.chmod(0o444)
    draft.replace(target)
    return target


def _put(content: bytes, target: Path, mode: int) -> None:
    with atomic_write(target) as draft:
        draft.write_bytes(content)
        draft.chmod(mode)


def main() -> int:
    """Name what is damaged, mend it if asked to, and return the exit status: 1 where something stays damaged."""
    parser = argparse.ArgumentParser(prog="python -m runner.verify", description=__doc__)
    parser.add_argument("--repair", action="store_true", help="mend what is damaged")
    repair = parser.parse_args().repair
    named: set[str] = set()
    with Repo() as repo, repo.lock:
        os.chdir(repo.root_dir)
        while True:
            found = [one for one in look(repo, contents_of(repo, cache_folder(repo))) if one.oid not in named]
            # Lists of folders' files first: once they are mended, they tell of more.
            lists = [one for one in found if one.oid.endswith(".dir")] if repair else []
            for damage in lists or found:
                named.add(damage.oid)
                print(f"{damage.line()}{f'; {mend(repo, damage)}' if repair else ''}")
            if not lists:
                break
    if not named:
        print("everything is as it was written")
    elif repair:
        print(f"{len(named)} mended or removed; `dvc repro` makes again what was removed")
    else:
        print(f"error: {len(named)} damaged or missing; `make verify REPAIR=1` mends them", file=sys.stderr)
    return 1 if named and not repair else 0


if __name__ == "__main__":
    sys.exit(main())
