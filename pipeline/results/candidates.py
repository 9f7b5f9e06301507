"""What is chosen from: saliency methods, each at a layer and with settings, as a user writes them on one line.

``grad_cam@blocks.5`` is a method at another CAM layer, and ``smooth_grad:samples=20,noise=0.1`` one with other settings
than those of params.yaml.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipeline.core import params
from pipeline.core.errors import UserError, unknown_name
from pipeline.core.yaml_file import parse_yaml
from pipeline.saliency.method import METHODS, Cost, Method, MethodSettings

WRITTEN = re.compile(r"(?P<method>[a-z0-9_]+)(@(?P<layer>[^:@]+))?(:(?P<settings>.+))?")
AFFORDABLE = 400
"""Forward passes, a gradient counted as three, that a method may take a map to be chosen from without being named."""
GRADIENT = 3


@dataclass(frozen=True)
class Candidate:
    """A method at a layer, with settings.

    Attributes:
        name: as it was written.
        method: what the method declares.
        settings: its settings.
        layer: path of the CAM layer; None for the model's own, or where the method reads none.
    """

    name: str
    method: Method
    settings: MethodSettings
    layer: str | None = None

    @property
    def control(self) -> bool:
        """Whether it does not look at the model."""
        return self.method.control

    def at(self, layer: str) -> Candidate:
        """Return the same method at another layer."""
        method, colon, changes = self.name.partition(":")
        return replace(self, name=f"{method}@{layer}{colon}{changes}", layer=layer)

    def passes(self, channels: int) -> int:
        """Return what a map takes, in forward passes, on a CAM layer with so many channels."""
        cost: Cost = self.method.cost(self.settings).for_channels(channels)
        return cost.forward + GRADIENT * cost.gradient


def read_candidate(written: str) -> Candidate:
    """Return a candidate as a user writes it.

    Raises:
        UserError: it is not one, or there is no such method or setting, or the method reads no CAM layer.
    """
    found = WRITTEN.fullmatch(written)
    if found is None:
        raise UserError(
            "methods",
            f"found {written!r}",
            expected="method, method@layer, method:key=value,key=value, or method@layer:key=value",
        )
    name, layer, changes = found["method"], found["layer"], found["settings"]
    if name not in METHODS:
        raise unknown_name("methods", "method", name, METHODS)
    method, own = METHODS[name], _settings(name)
    if layer is not None and not method.at_layer:
        raise UserError("methods", f"found {written!r}", expected=f"{name} without a layer, since it reads none")
    given = own | dict(_change(one, written) for one in changes.split(",")) if changes else own
    return Candidate(written, method, params.check(f"saliency.{name}", method.settings, given), layer)


def _settings(name: str) -> dict[str, Any]:
    if name in params.names("saliency"):
        return dict(params.read(f"saliency.{name}", dict[str, Any]))
    return {"images": "all"}


def _change(one: str, written: str) -> tuple[str, Any]:
    key, equals, value = one.partition("=")
    if not equals or not value:
        raise UserError("methods", f"found {written!r}", expected="settings as key=value, with commas between them")
    return key.strip(), parse_yaml(value, f"methods: {key.strip()}")


def at_layers(candidates: Sequence[Candidate], layers: Sequence[str]) -> list[Candidate]:
    """Return candidates with those that read a CAM layer, and name none, once for each of some layers."""
    found: list[Candidate] = []
    for one in candidates:
        free = one.method.at_layer and one.layer is None
        found += [one.at(layer) for layer in layers] if layers and free else [one]
    return found


def controls() -> list[str]:
    """Return the names of the methods that do not look at the model."""
    return [name for name, method in METHODS.items() if method.control]


def affordable(channels: int) -> tuple[list[Candidate], dict[str, int]]:
    """Return the methods of params.yaml that do not take long on a CAM layer, and the passes that others would take."""
    candidates = {name: read_candidate(name) for name in params.names("saliency")}
    passes = {name: one.passes(channels) for name, one in candidates.items()}
    dear = {name: count for name, count in passes.items() if count > AFFORDABLE}
    return [one for name, one in candidates.items() if name not in dear], dear
