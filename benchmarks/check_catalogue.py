"""Run `check` over torchvision's catalogue, families of timm and of transformers, all with random weights.

    python benchmarks/check_catalogue.py [NAME …]       checks those named, or all that have not been checked yet
    python benchmarks/check_catalogue.py --page > docs/checked-networks.md

Results go to benchmarks/results/checked_networks.json, one after the other, so that an interrupted run resumes. Weights are
drawn as the libraries draw them; batch normalisation then gets random scales, shifts and statistics, as those of an
untrained network are trivial. Inputs have 64×64 pixels, or 96×96 or 224×224 where an architecture does not take these. Of
deep networks ten layers are checked, evenly spaced, with 3 activations each. Needs timm and transformers.
"""

import gc
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import torch
import torchvision
import typer
from torch import nn

from deconvnet.checking import check
from deconvnet.data import torchvision_preprocessing
from deconvnet.errors import DeconvnetError
from deconvnet.formatting import shorten
from deconvnet.models import Network
from deconvnet.projection import check_way_down

RESULTS = Path(__file__).parent / "results" / "checked_networks.json"
_LAYERS, _PLACES, _SIZES = 10, 3, (64, 96, 224)
#: Larger ones are not built: a float64 copy of them would not fit in memory.
_MOST_WEIGHTS = 200_000_000

#: Of each family of timm a small member.
TIMM = """
    resnet18 resnext50_32x4d resnet18d resnetblur18 res2net50_14w_8s resnest14d seresnet18 legacy_seresnet18 skresnet18
    ecaresnet26t resnetrs50 wide_resnet50_2 densenet121 vgg11 vgg11_bn inception_v3 inception_v4 inception_resnet_v2
    legacy_xception xception41 regnetx_002 regnety_002 dla34 dla46_c hrnet_w18_small ghostnet_050 ghostnetv2_100 vovnet39a
    ese_vovnet19b_dw dpn48b dpn68 nf_resnet26 nf_regnet_b0 resnetv2_50 resnetv2_50x1_bit cspresnet50 cspdarknet53
    mobilenetv2_050 mnasnet_050 mobilenetv3_small_050 efficientnet_b0 tf_mixnet_s repvgg_a0 selecsls42b tresnet_m
    hardcorenas_a rexnet_100 mobileone_s0 convnext_atto vit_tiny_patch16_224
""".split()


def torchvision_module(name: str) -> nn.Module:
    return torchvision.models.get_model(name, weights=None, **({"init_weights": False} if "inception" in name else {}))


def timm_module(name: str) -> nn.Module:
    import timm

    return timm.create_model(name, pretrained=False)


def transformers_module(name: str) -> nn.Module:
    import transformers

    # The smallest that is published, where it is not the default.
    small = {"embedding_size": 64, "hidden_sizes": [64, 128, 256, 512], "depths": [2, 2, 2, 2], "layer_type": "basic"}
    options = small if name.startswith("ResNet") else {}
    configuration = getattr(transformers, name.replace("ForImageClassification", "Config"))(**options)
    return getattr(transformers, name)(configuration)


TRANSFORMERS = [
    f"{family}ForImageClassification" for family in ("ResNet", "RegNet", "MobileNetV1", "MobileNetV2", "Bit", "Levit")
]
LIBRARIES: dict[str, tuple[list[str], Callable[[str], nn.Module]]] = {
    "torchvision": (torchvision.models.list_models(torchvision.models), torchvision_module),
    "timm": (TIMM, timm_module),
    "transformers": (TRANSFORMERS, transformers_module),
}
NAMES = [f"{library}:{name}" for library, (names, _) in LIBRARIES.items() for name in names]


def build(address: str) -> nn.Module:
    """The module of that library with random weights, always the same, and batch normalisation that does something."""
    library, name = address.split(":")
    torch.manual_seed(0)
    module = LIBRARIES[library][1](name).eval()
    for submodule in module.modules():
        if isinstance(submodule, nn.BatchNorm2d) and submodule.weight is not None and not submodule.weight.is_meta:
            nn.init.uniform_(submodule.weight, 0.5, 1.5)
            nn.init.normal_(submodule.bias, std=0.3)
            nn.init.normal_(submodule.running_mean, std=0.3)
            nn.init.uniform_(submodule.running_var, 0.5, 2.0)
    return module


def checked(address: str) -> dict[str, Any]:
    """What `check` says of one network, in short."""
    for size in _SIZES:
        found = checked_at(address, size)
        if "cannot be run on" not in found["reason"]:
            break
    return found


def some_layers(network: Network) -> list[str]:
    """Names of layers, evenly spaced from the first to the last."""
    names = list(network.layers)
    step = max(1.0, (len(names) - 1) / (_LAYERS - 1))
    return [names[index] for index in sorted({round(number * step) for number in range(_LAYERS)}) if index < len(names)]


def refused(network: Network) -> str:
    """Why the network, or each of these layers, is refused; empty if it is not."""
    reason = ""
    try:
        for name in some_layers(network):
            try:
                check_way_down(network, name)
            except DeconvnetError as error:
                reason = reason or str(error)
            else:
                return ""
    except DeconvnetError as error:
        return str(error)
    return reason


def checked_at(address: str, size: int) -> dict[str, Any]:
    """The same, with inputs of size × size pixels."""
    start = time.monotonic()
    preprocessing = torchvision_preprocessing(size, size)
    try:  # without memory for weights: most that are refused are refused for what they call
        with torch.device("meta"):
            empty = build(address)
        weights = sum(parameter.numel() for parameter in empty.parameters())
        refusal = refused(Network(empty, preprocessing, name=address))
    except Exception:  # some cannot be built so
        weights, refusal = 0, ""
    if refusal:
        return {"size": size, "verdict": "refused", "reason": refusal}
    if weights > _MOST_WEIGHTS:
        return {"size": size, "verdict": "not checked", "reason": f"{weights / 1e6:.0f} million weights"}
    network = Network(build(address), preprocessing, name=address)
    refusal = refused(network)
    if refusal:
        return {"size": size, "verdict": "refused", "reason": refusal}
    names, some = list(network.layers), some_layers(network)
    result = check(network, some, places=_PLACES)
    findings = [layer.finding for layer in result.layers]
    verdict = next((name for name in ("wrong", "refused", "approximated") if name in findings), "exact")
    reasons = {layer.reason for layer in result.layers if layer.finding == verdict}
    return {
        "size": size,
        "layers": len(names),
        "checked": {name: findings.count(name) for name in sorted(set(findings))},
        "ways": sorted({layer.way for layer in result.layers if layer.way}),
        "difference": max((layer.difference or 0.0 for layer in result.layers), default=0.0),
        "verdict": "wrong" if result.findings else "refused" if result.refusal else verdict,
        "reason": "; ".join([*result.findings, result.refusal, *sorted(reasons)]).strip("; "),
        "warnings": list(result.warnings),
        "dtype": result.dtype,
        "seconds": round(time.monotonic() - start, 1),
    }


def page(results: dict[str, Any]) -> str:
    """The page of the documentation that lists the results."""
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    lines = [
        "# Networks that were checked",
        "",
        "What [`deconvnet check`](commands/check.md) found in torchvision's catalogue, and in families of timm and",
        "transformers. Weights are random, and so are the scales and statistics of batch normalisation; inputs are as small",
        "as the architecture takes; of deep networks ten layers are checked, evenly spaced, with three activations each, in",
        "float64. Written by `benchmarks/check_catalogue.py`, which needs timm and transformers.",
        f"Versions: {versions}.",
        "",
        "What the findings mean: [Will it work on my network?](your-network.md)",
    ]
    for library, (names, _) in LIBRARIES.items():
        lines += [
            "",
            f"## {library}",
            "",
            "| network | input | layers | finding | largest difference | |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
        for name in names:
            found = results["networks"].get(f"{library}:{name}")
            if found is not None:
                difference = f"{found['difference']:.0e}" if found.get("difference") else ""
                size, layers, counts = found["size"], found.get("layers", ""), found.get("checked", {})
                mixed = ", ".join(f"{count} {finding}" for finding, count in counts.items())
                finding = mixed if len(counts) > 1 and found["verdict"] in counts else found["verdict"]
                reason = shorten(found["reason"].replace(f"{library}:{name}", "it").replace("|", "\\|"), 200)
                lines.append(f"| {name} | {size}×{size} | {layers} | {finding} | {difference} | {reason} |")
    return "\n".join(lines) + "\n"


def main(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]…", help="Like timm:resnet18.")] = None,
    as_page: Annotated[bool, typer.Option("--page", help="Print the page of the documentation.")] = False,
) -> None:
    """Check networks of torchvision, timm and transformers."""
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {"networks": {}}
    if as_page:
        print(page(results), end="")
        return
    import timm
    import transformers

    results["versions"] = {module.__name__: module.__version__ for module in (torch, torchvision, timm, transformers)}
    for address in names or [name for name in NAMES if name not in results["networks"]]:
        print(address, end=" ", file=sys.stderr, flush=True)
        try:
            found = checked(address)
        except Exception as error:  # a finding as well
            found = {"size": 0, "verdict": "wrong", "reason": f"raises {type(error).__name__}: {str(error)[:200]}"}
        print({key: value for key, value in found.items() if key != "warnings"}, file=sys.stderr, flush=True)
        if RESULTS.is_file():  # another process may have checked others meanwhile
            results["networks"] = json.loads(RESULTS.read_text(encoding="utf-8"))["networks"]
        results["networks"][address] = found
        RESULTS.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        gc.collect()


if __name__ == "__main__":
    typer.run(main)
