"""Profiles: each is a whole params.yaml under a name."""

from __future__ import annotations

from pathlib import Path

from pipeline.core import params
from pipeline.core.errors import unknown_name

PROFILES = Path("profiles")


def profiles() -> list[str]:
    """Return the names of the profiles."""
    return sorted(file.stem for file in PROFILES.glob("*.yaml"))


def profile_file(name: str) -> Path:
    """Return the file of a profile; an unknown name is a `UserError`."""
    if name not in profiles():
        raise unknown_name(str(PROFILES), "profile", name, ["default", *profiles()])
    return PROFILES / f"{name}.yaml"


def use(profile: str) -> None:
    """Read a profile instead of params.yaml from now on; nothing is written."""
    if profile != "default":
        params.PARAMS = profile_file(profile)
