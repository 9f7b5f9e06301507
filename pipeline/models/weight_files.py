"""Reading a file of weights that somebody else wrote, without running any code that is in it."""

from __future__ import annotations

import argparse
import pickle
import pickletools
import re
import stat
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from pipeline.core import params
from pipeline.core.errors import UserError

HARMLESS = ("torch.", "collections.OrderedDict", "argparse.Namespace", "_codecs.encode", "numpy.")
"""What the names of objects begin with that are not worth naming as a culprit."""


def read(path: Path, shown: str = "") -> Any:
    """Return what a file of weights holds, without running any code that is in it.

    Args:
        path: the file: safetensors or what ``torch.save`` writes, which its content tells, whatever it is called.
        shown: what to call it in messages; its path where nothing is given.

    Raises:
        UserError: there is no such file, it is cut short, or holds more than tensors and plain values.
    """
    called = shown or str(path)
    check_regular(path, called)
    try:
        with path.open("rb") as file:
            start = file.read(9)
        if start[8:] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size:
            return load_file(path)
        # Training programs keep their arguments beside the weights; the type has no code of its own.
        # It is given an open file because it would go by the name otherwise.
        with torch.serialization.safe_globals([argparse.Namespace]), path.open("rb") as file:
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's own sentences recommend to turn this protection off.
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        held = foreign_global(path) or (named[1] if named else None)
        if held is not None:
            raise UserError(
                called,
                f"found an object of type {held}, which is not read because it might run code",
                expected="a file of tensors (torch.save(model.state_dict(), ...) or safetensors)",
            ) from None
        raise _unreadable(called, "no safetensors, and nothing that torch.save writes of tensors alone") from None
    except EOFError:
        raise _unreadable(called, "it ends too early") from None
    except (SafetensorError, OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise _unreadable(called, " ".join(reason.split())[:200]) from None
    except Exception as error:  # torch's unpickler trusts the file to be a pickle, and stumbles in many ways
        raise _unreadable(called, f"no pickle: {type(error).__name__}") from None


def _unreadable(called: str, reason: str) -> UserError:
    return UserError(
        called, f"not a readable file of weights ({reason})", fix="it may be cut short: replace or remove it"
    )


def check_regular(path: Path, called: str) -> None:
    """Raise a `UserError` for what is not a file: reading a pipe or a device would never end."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise UserError(called, error.strerror, expected="a file") from None
    if not stat.S_ISREG(mode):
        kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
        raise UserError(called, f"found {kinds.get(stat.S_IFMT(mode), 'a device')}", expected="a file")


def foreign_global(path: Path) -> str | None:
    """Return the first class or function in a pickle that a file of tensors has no use for; None if none is found.

    The pickle is taken apart and not run.
    """
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
                with archive.open(name) as file:
                    return _foreign(file)
        with path.open("rb") as file:
            # Before version 1.6 torch wrote several pickles, one after the other: its own numbers, then the content.
            return next((found for _ in range(5) if (found := _foreign(file)) is not None), None)
    except Exception:  # it is not even a pickle
        return None


def _foreign(file: Any) -> str | None:
    memo: dict[Any, str | None] = {}
    texts: list[str] = []
    pushed: str | None = None
    stream: BinaryIO = file
    for operation, argument, _ in pickletools.genops(stream):
        found = None
        if operation.name == "MEMOIZE":
            memo[len(memo)] = pushed
        elif operation.name in ("PUT", "BINPUT", "LONG_BINPUT"):
            memo[argument] = pushed
        elif operation.name == "GLOBAL":
            found = str(argument).replace(" ", ".")
        elif operation.name == "STACK_GLOBAL" and len(texts) > 1:
            found = ".".join(texts[-2:])
        else:
            pushed = memo.get(argument) if operation.name in ("GET", "BINGET", "LONG_BINGET") else argument
            pushed = pushed if isinstance(pushed, str) else None
            texts += [pushed] if pushed is not None else []
        if found is not None and not (found.startswith(HARMLESS) and not found.startswith("torch.nn.modules.")):
            return found
    return None


def tensors_inside(content: Any, keys: Iterable[str], path: str) -> Mapping[str, torch.Tensor]:
    """Return the weights in what a file holds.

    Args:
        content: of the file.
        keys: to go down before the weights are reached.
        path: what the file is called in messages.

    Raises:
        UserError: there is no such key, or something else than named dense tensors of numbers.
    """
    for key in keys:
        if not isinstance(content, Mapping) or key not in content:
            found = ", ".join(map(str, list(content)[:8])) if isinstance(content, Mapping) else type(content).__name__
            found = " ".join(found.split())[:200]
            raise UserError(
                path,
                f"there is no {key!r} inside (found: {found})",
                fix=f"weights.inside in {params.PARAMS} asks for it",
            )
        content = content[key]
    allowed = "names and tensors"
    fix = f"weights.inside in {params.PARAMS} says where in the file they are"
    if not isinstance(content, Mapping):
        raise UserError(path, f"found a {type(content).__name__}", expected=allowed, fix=fix)
    for name, tensor in content.items():
        if not isinstance(name, str) or not name.isprintable():
            kind = type(name).__name__
            raise UserError(path, f"found the name {str(name)[:80]!r} of type {kind}", expected="printable text")
        if not isinstance(tensor, torch.Tensor):
            kind = type(tensor).__name__
            found = f"found {name[:80]!r}, which is a {kind} and not a tensor"
            raise UserError(path, found, expected=allowed, fix=fix)
        special = _special(tensor)
        if special is not None:
            raise UserError(path, f"found {name[:80]!r}, which is {special}", expected="a dense tensor of numbers")
    return content


def _special(tensor: torch.Tensor) -> str | None:
    """Return what a tensor is that is not an ordinary one; None for one that is."""
    if tensor.is_nested:
        return "a nested tensor"
    if tensor.is_quantized:
        return "a quantized tensor"
    if tensor.is_meta:
        return "a tensor without values (on the device meta)"
    if tensor.layout != torch.strided:
        return f"a sparse tensor ({str(tensor.layout).removeprefix('torch.')})"
    return None
