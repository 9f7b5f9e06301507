"""params.yaml is read as DVC reads it, and what is not plain YAML is one line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from dvc.utils.serialize import load_yaml, modify_yaml

from pipeline.core.errors import UserError
from pipeline.core.yaml_file import DEEPEST, read_yaml
from tests.world import ROOT

SAME = {
    "1e-4": 1e-4,
    "12e03": 12000.0,
    ".5": 0.5,
    "-1.": -1.0,
    "+3": 3,
    "010": 10,
    "0o10": 8,
    "0x1F": 31,
    "1_000": 1000,
    "1:30": "1:30",
    "190:20:30": "190:20:30",
    "no": "no",
    "True": True,
    "~": None,
    "'3'": "3",
    "x y": "x y",
    "[1, {a: b}]": [1, {"a": "b"}],
}


@pytest.mark.parametrize("text", SAME)
def test_values_are_those_of_dvc(text: str, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(f"a: {text}\n")
    found = read_yaml(path)
    assert found == {"a": SAME[text]}
    assert type(found["a"]) is type(SAME[text])
    assert found == load_yaml(str(path))


def test_every_settings_file_of_the_repository_is_read_as_dvc_reads_it() -> None:
    files = [ROOT / "params.yaml", *(ROOT / "profiles").glob("*.yaml")]
    assert len(files) > 2
    for path in files:
        assert read_yaml(path) == load_yaml(str(path))


BAD: dict[str, tuple[str | bytes, str]] = {
    "a duplicate key": ("a: 1\nb: 2\na: 3\n", r"line 3: not valid YAML \(found duplicate key"),
    "a duplicate key inside": ("a:\n  b: 1\n  b: 1\n", r"line 3: not valid YAML \(found duplicate key"),
    "an open bracket": ("a: [", r"line \d: not valid YAML \("),
    "a tab": ("a:\n\tb: 1", r"line 2: not valid YAML \(found character"),
    "a list": ("- 1", "found list; allowed: a mapping"),
    "nothing": ("", "found NoneType; allowed: a mapping"),
    "a date": ("seed: 2001-01-01", "seed: found 2001-01-01, which YAML takes for a date; allowed: text in"),
    "no date": ("seed: 2001-99-99", r"not valid YAML \(ValueError: month must be in"),
    "no hexadecimal": ("seed: 0x_", "not valid YAML"),
    "no binary": ("seed: 0b_", "not valid YAML"),
    "5,000 digits": ("seed: " + "9" * 5000, r"not valid YAML \(ValueError: Exceeds the limit"),
    "5,000 brackets": ("seed: " + "[" * 5000 + "]" * 5000, "(too deep within each other|too much within itself)"),
    "60 brackets": ("seed: " + "[" * 60 + "]" * 60, r"seed[.0]*: found too much within itself .* levels"),
    "an alias in a circle": ("seed: &a [*a]", r"seed[.0]*: found too much within itself \(an alias that leads in a"),
    "aliases that double": (
        "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 25)),
        "found too much within itself",
    ),
    "an unknown alias": ("seed: *a", "not valid YAML .*undefined alias"),
    "a tag that makes objects": ("seed: !!python/object/apply:os.system [true]", "could not determine a constructor"),
    "a set": ("seed: !!set {a, b}", "seed: found .*, which YAML takes for a set; allowed"),
    "bytes": ("seed: !!binary aGVsbG8=", "seed: found .*, which YAML takes for a bytes; allowed"),
    "a number as key": ("models: {3: {}}", "models: found the key 3; allowed: text, in quotes"),
    "null as key": ("~: 3", "found the key None; allowed: text"),
    "a list as key": ("[a]: 3", "(not valid YAML|found the key)"),
    "not UTF-8": (b"seed: \xff", r"not valid YAML \(not UTF-8 text: invalid start byte at byte 6\)"),
    "a zero byte": (b"seed: \x00", "not valid YAML"),
    "two documents": ("a: 1\n---\nb: 2\n", "not valid YAML"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_not_plain_yaml_is_one_line(name: str, tmp_path: Path) -> None:
    content, message = BAD[name]
    path = tmp_path / "params.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(UserError, match=message) as caught:
        read_yaml(path)
    said = str(caught.value)
    assert said.startswith(str(path))
    assert "\n" not in said
    assert len(said) < 500


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    cases: list[tuple[Any, str]] = [
        (tmp_path, "found a folder; allowed: a YAML file"),
        (tmp_path / "pipe", "found no file; allowed: a YAML file"),
        (tmp_path / "loop", "Too many levels of symbolic links"),
        (tmp_path / "none", "there is no such file; run"),
        (tmp_path / ("x" * 300), "File name too long"),
    ]
    for path, message in cases:
        with pytest.raises(UserError, match=message):
            read_yaml(path)


def test_what_is_allowed_is_deep_enough(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("a: " + "[" * (DEEPEST - 1) + "]" * (DEEPEST - 1))
    assert read_yaml(path)["a"]


def test_dvcs_writer_leaves_params_alone_but_for_what_changes(tmp_path: Path) -> None:
    # `dvc exp run -S` rewrites the whole file with ruamel.yaml.
    path = tmp_path / "params.yaml"
    path.write_bytes(before := (ROOT / "params.yaml").read_bytes())
    with modify_yaml(str(path)):
        pass
    assert path.read_bytes() == before
    with modify_yaml(str(path)) as settings:
        settings["saliency"]["lime"]["samples"] = 77
    lines = zip(before.decode().splitlines(), path.read_text().splitlines(), strict=True)
    changed = [(old, new) for old, new in lines if old != new]
    assert len(changed) == 1
    assert changed[0][1].split("#")[0].strip() == "samples: 77"
    assert changed[0][0].partition("#")[2] == changed[0][1].partition("#")[2]
