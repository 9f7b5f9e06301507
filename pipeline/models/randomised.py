"""Networks whose last stages are randomised: states that lie between a trained network and a random one.

A network that is not trained here has no checkpoints. Randomising it from the top, stage by stage, gives it states in
which it knows less and less, as in the cascading randomisation of J. Adebayo et al., Sanity Checks for Saliency Maps,
2018.
"""

from __future__ import annotations

from torch import nn

from pipeline.core import params
from pipeline.core.errors import UserError


def stages(network: nn.Module, architecture: str) -> list[list[str]]:
    """Return the names of a network's weights by stage, the input's first and the classifier's last.

    A stage ends where timm's ``feature_info`` says that features can be taken; what comes behind the last features is
    a stage of its own.

    Args:
        network: of timm.
        architecture: its name, for messages.

    Raises:
        UserError: timm does not say where the features of this architecture are.
    """
    info = getattr(network, "feature_info", None) or []
    ends = {one["module"] for one in info if isinstance(one, dict) and "module" in one}
    if not ends or not ends <= {name for name, _ in network.named_modules()}:
        raise UserError(
            params.at("plan.layers"),
            f"timm does not say what the stages of {architecture} are, so they cannot be randomised one by one",
            expected="0 for a model that is not trained",
        )
    number, inside = 0, ""
    stage_of: dict[str, int] = {}
    for name, _ in network.named_modules():  # in the order in which they were added, which is that of their use
        if inside and not name.startswith(f"{inside}."):
            number, inside = number + 1, ""
        if not inside and name in ends:
            inside = name
        stage_of[name] = number
    found: list[list[str]] = [[] for _ in range(number + 1)]
    for weight in network.state_dict():
        found[stage_of[weight.rpartition(".")[0]]].append(weight)
    return [names for names in found if names]  # an activation or a pooling may end a stage, and has no weights


def randomised(network: nn.Module, count: int, architecture: str) -> list[set[str]]:
    """Return the names of the weights in the last stage, the last two stages, and so on.

    Args:
        network: of timm.
        count: how many sets to return.
        architecture: its name, for messages.

    Raises:
        UserError: the network has too few stages; the first is left, since without it the network is a random one.
    """
    of_stage = stages(network, architecture) if count else []
    most = max(0, len(of_stage) - 1)
    if count > most:
        raise UserError(
            params.at("plan.layers"),
            f"found {count}",
            expected=f"at most {most}, the stages of {architecture} but the first",
        )
    return [{name for stage in of_stage[-depth:] for name in stage} for depth in range(1, count + 1)]
