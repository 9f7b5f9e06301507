"""Importing timm without torch's compiler.

timm imports torchvision, whose detection operators import `torch._dynamo` to ask whether they can be compiled; timm
itself imports it to mark functions as not to be compiled. No stage compiles anything, the compiler takes as long to
import as timm and torchvision together, and the grid is a matrix of small processes that would each pay for it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

COMPILER, UTILITIES = "torch._dynamo", "torch._dynamo.utils"


def _stand_in(name: str, known: dict[str, Any]) -> ModuleType:
    """Return a module that knows a few names and, asked for any other, gives way to the real one."""
    module = ModuleType(name)
    vars(module).update(known)

    def real(attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        _remove()
        import torch._dynamo.utils  # noqa: F401 - brings both of the real modules

        return getattr(sys.modules[name], attribute)

    vars(module)["__getattr__"] = real
    vars(module)["stands_in"] = True
    return module


def _remove() -> None:
    for name in (COMPILER, UTILITIES):
        if vars(sys.modules.get(name, sys)).get("stands_in"):
            del sys.modules[name]


def _unchanged(function: Callable[..., Any] | None = None, *_: Any, **__: Any) -> Any:
    return function if function is not None else _unchanged


@contextmanager
def without_compiler() -> Iterator[None]:
    """Let a block import what imports the compiler, without importing it.

    Inside, stand-ins say that nothing can be compiled and leave functions as they are. Afterwards they are gone:
    whoever imports the compiler then gets the real one. Where it is imported already, nothing is replaced.
    """
    if COMPILER in sys.modules:
        yield
        return
    utilities = _stand_in(UTILITIES, {"is_compile_supported": lambda _device: False})
    sys.modules[UTILITIES] = utilities
    sys.modules[COMPILER] = _stand_in(COMPILER, {"disable": _unchanged, "utils": utilities, "__path__": []})
    try:
        yield
    finally:
        _remove()
