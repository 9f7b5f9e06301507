"""Files of installed packages: found without importing them, by the one module whose fingerprint allows it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.core.errors import UserError
from pipeline.core.fingerprint import Code
from pipeline.core.packages import installed_files, is_installed
from tests.core.conftest import Write

WHEEL = {
    "fine_pictures/__init__.py": "raise RuntimeError('imported')",
    "fine_pictures/data/b.jpg": "b",
    "fine_pictures/data/a.jpg": "a",
    "fine_pictures/data/notes.txt": "no picture",
    "fine_pictures-1.2.dist-info/METADATA": "Metadata-Version: 2.1\nName: fine-pictures\nVersion: 1.2\n",
}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of packages with one in it, installed as a wheel is."""
    for name, content in WHEEL.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    record = "".join(f"{name},,\n" for name in WHEEL)
    (tmp_path / "fine_pictures-1.2.dist-info/RECORD").write_text(record)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_files_are_found_in_the_order_of_their_paths(site: Path) -> None:
    found = installed_files("fine-pictures", "fine_pictures/data/*.jpg")
    assert found == [site / "fine_pictures/data/a.jpg", site / "fine_pictures/data/b.jpg"]
    assert "fine_pictures" not in sys.modules
    assert is_installed("fine-pictures")


def test_a_missing_package_says_what_to_install() -> None:
    assert not is_installed("no-such-package")
    with pytest.raises(UserError) as caught:
        installed_files("no-such-package", "*")
    assert str(caught.value) == (
        "package no-such-package: not installed; allowed: the one in requirements.lock (`make setup` installs "
        "it, and so does `pip install no-such-package`)"
    )


@pytest.mark.parametrize("harm", ["listed and gone", "of another name", "without a list"])
def test_a_package_without_the_file_is_named_with_its_version(harm: str, site: Path) -> None:
    pattern, absent = "fine_pictures/data/a.jpg", str(site / "fine_pictures/data/a.jpg")
    if harm == "listed and gone":
        (site / pattern).unlink()
    elif harm == "of another name":
        pattern = absent = "fine_pictures/images/*.jpg"
    else:
        absent = pattern
        (site / "fine_pictures-1.2.dist-info/RECORD").unlink()
    with pytest.raises(UserError) as caught:
        installed_files("fine-pictures", pattern)
    assert str(caught.value) == (
        f"package fine-pictures 1.2: found no file {absent}; allowed: the version in requirements.lock, installed "
        "whole (`pip install --force-reinstall fine-pictures`)"
    )


def test_fingerprints_allow_the_list_of_packages_in_one_module(made_up: Write) -> None:
    allowed = "import importlib.metadata as metadata"
    root = made_up({"pipeline/core/packages.py": allowed, "stages/score.py": "import pipeline.core.packages"})
    assert "pipeline.core.packages" in Code(root).closure("stages.score", {})
    for source in (
        "import importlib",
        "import importlib.metadata",
        "import importlib.resources as metadata",
        "from importlib import metadata",
        "from importlib.metadata import files",
        f"{allowed}, runpy",
    ):
        made_up({"pipeline/core/packages.py": source})
        with pytest.raises(UserError, match=r"^pipeline/core/packages\.py:1: found an import of (importlib|runpy)"):
            Code(root).closure("stages.score", {})
    made_up({"pipeline/core/packages.py": allowed, "stages/score.py": allowed})
    with pytest.raises(UserError, match=r"^stages/score\.py:1: found an import of importlib\.metadata; allowed"):
        Code(root).closure("stages.score", {})


def test_looking_for_files_imports_no_package() -> None:
    heavy = "{'numpy', 'foolbox', 'skimage'} & set(sys.modules)"
    script = (
        f"import sys; from pipeline.core.packages import installed_files as f; f('foolbox', '*.jpg'); "
        f"sys.exit(str({heavy}) if {heavy} else 0)"
    )
    subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parents[2], check=True)
