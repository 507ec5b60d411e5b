"""Whether projections of a layer have a way down by the rules, and what of it is not the paper's."""

from collections.abc import Sequence

from deconvnet.errors import DeconvnetError
from deconvnet.models import Network
from deconvnet.projection.rules import DECONVNET
from deconvnet.tracing import Rules, explain_refusal


def check_way_down(network: Network, layer: str, rules: Rules = DECONVNET) -> None:
    """Raise `DeconvnetError` if the way down from a layer passes what the rules refuse; warn, once for a network, if it
    passes functions for which the paper has no rule, or is cut.
    """
    index = network.layer(layer).index
    steps = network.trace.steps_below(index)
    if rules.refuse_other_activations:
        refused = next((step for step in steps if step.is_other_activation), None)
        if refused is not None:
            raise DeconvnetError(explain_refusal(refused.func))
        functions = network.trace.functions_without_rule(index)
        if functions:
            network.warn_once(
                "gates",
                f"The way down from {layer} of {network.full_name} passes gates or the like ({', '.join(functions)}), for "
                "which the paper has no rule: their gradient is used.",
            )
    cut = [step for step in steps if step.is_cut]
    if cut:
        where = f"cut at {cut[-1].name}{cut[-1].where}, by torch.no_grad, detach, reentrant checkpointing or the like"
        if not network.trace.has_way_down(index):
            raise DeconvnetError(f"There is no way down from {layer} of {network.full_name}: it is {where}.")
        network.warn_once(
            "cuts",
            f"The way down from {layer} of {network.full_name} is {where}: what lies below has no part in projections.",
        )


def layers_with_way_down(network: Network, layers: Sequence[str]) -> list[str]:
    """Those of `layers` from which there is a way down by the paper's rules; a warning names the others.

    Raises `DeconvnetError` if there is none.
    """
    possible: list[str] = []
    reasons: dict[str, DeconvnetError] = {}
    for layer in layers:
        try:
            check_way_down(network, layer)
            possible.append(layer)
        except DeconvnetError as error:
            reasons[layer] = error
    if reasons:
        first = next(iter(reasons.values()))
        if not possible:
            raise first
        network.warn_once("left out", f"Layers that cannot be projected are left out: {', '.join(reasons)}. {first}")
    return possible
