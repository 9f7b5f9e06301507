"""Reading a YAML file of settings with DVC's parser, ruamel.yaml, so that both see the same values (YAML 1.2)."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

from pipeline.core.errors import UserError

DEEPEST, MOST = 30, 100_000
"""Mappings and lists within each other, and values in all; aliases that lead in a circle or double themselves exceed
them."""


def read_yaml(path: Path) -> dict[str, Any]:
    """Return what a YAML file holds.

    Raises:
        UserError: it is missing, is not a file, is not valid YAML, repeats a key, or holds anything but a mapping of
            texts to texts, numbers, truth values, nulls, lists and mappings.
    """
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):  # reading a pipe would never end
            raise UserError(path, f"found {('a folder' if stat.S_ISDIR(mode) else 'no file')}", expected="a YAML file")
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(path, "there is no such file", fix="run from the root of the repository") from None
    except UnicodeDecodeError as error:
        raise UserError(path, f"not valid YAML (not UTF-8 text: {error.reason} at byte {error.start})") from None
    except OSError as error:
        raise UserError(path, error.strerror, expected="a YAML file") from None
    document = parse_yaml(text, str(path))
    if not isinstance(document, dict):
        raise UserError(path, f"found {type(document).__name__}", expected="a mapping of sections")
    _check_plain(document, str(path))
    return document


def parse_yaml(text: str, source: str) -> Any:
    """Return what a text in YAML says; one that is not valid is a `UserError` that begins with ``source``."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        return YAML(typ="safe").load(text)
    except YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        where = f", line {mark.line + 1}" if mark is not None else ""
        reason = " ".join(str(problem or error).split())[:200]
        raise UserError(f"{source}{where}", f"not valid YAML ({reason})") from None
    except RecursionError:
        raise UserError(source, "not valid YAML (lists and mappings too deep within each other)") from None
    except (ValueError, OverflowError, ArithmeticError, TypeError, AttributeError, KeyError, IndexError) as error:
        # A value that looks like a number or a date and is none.
        reason = " ".join(str(error).split())[:200]
        raise UserError(source, f"not valid YAML ({type(error).__name__}: {reason})") from None


def _check_plain(document: Any, source: str) -> None:
    waiting: list[tuple[Any, str, int]] = [(document, "", 0)]
    seen = 0
    while waiting:
        value, key, depth = waiting.pop()
        seen += 1
        if depth > DEEPEST or seen > MOST:
            raise UserError(
                f"{source}: {key[:100]}",
                "found too much within itself (an alias that leads in a circle?)",
                expected=f"{DEEPEST} levels and {MOST} values",
            )
        if isinstance(value, dict):
            for name, inner in value.items():
                if not isinstance(name, str):
                    raise UserError(f"{source}: {key[:100]}", f"found the key {name!r:.80}", expected="text, in quotes")
                waiting.append((inner, f"{key}.{name}" if key else name, depth + 1))
        elif isinstance(value, list):
            waiting += [(inner, f"{key}.{number}", depth + 1) for number, inner in enumerate(value)]
        elif value is not None and not isinstance(value, str | int | float):
            raise UserError(
                f"{source}: {key[:100]}",
                f"found {value!s:.80}, which YAML takes for a {type(value).__name__}",
                expected="text in quotes, or a number",
            )
