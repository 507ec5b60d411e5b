"""The result of checking a network: what was found out about each of its layers, and a verdict."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from deconvnet.formatting import json_number

#: What was found out about the projections of a layer:
#:
#: - `exact`: both implementations agree, and all that the signals pass has a rule in the paper.
#: - `approximated`: both agree, and the gradient stands where the paper has no rule, of which a warning tells.
#: - `no signal`: no activation above zero, or nothing that arrives at the pixels, so nothing could be compared.
#: - `refused`: its activations cannot be projected, for a reason that is given.
#: - `wrong`: the implementations differ, or something is passed without a rule and without a warning.
Finding = Literal["exact", "approximated", "no signal", "refused", "wrong"]


@dataclass(frozen=True)
class LayerCheck:
    """What was found out about a layer."""

    layer: str
    units: int
    map_size: tuple[int, int]
    field: str
    """Height × width of its receptive field in pixels; in words if that is not exact."""
    finding: Finding
    way: str = ""
    """How its activations are projected: by switches alone or by autograd, of crops or of whole images."""
    activations: int = 0
    """How many were projected by both implementations."""
    difference: float | None = None
    """The largest distance of two projections, as a fraction of the size of one of them; None if nothing was compared."""
    reason: str = ""
    """What is approximated, refused or wrong."""

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "difference": None if self.difference is None else json_number(self.difference)}


@dataclass(frozen=True)
class NetworkCheck:
    """What was found out about a network. Printed, it is a table with a verdict."""

    network: str
    """Full name."""
    refusal: str = ""
    """Why nothing of the network can be looked at; empty if it can."""
    warnings: Sequence[str] = ()
    """What the network warns of, once each."""
    dtype: str = "float64"
    """The type in which projections were computed."""
    layers: Sequence[LayerCheck] = ()
    findings: Sequence[str] = field(default=())
    """What is wrong with the network as a whole, such as incremental passes that differ from whole ones."""

    @property
    def is_right(self) -> bool:
        """Is there nothing that is refused or wrong?"""
        return not (self.refusal or self.findings or self._named("refused", "wrong"))

    @property
    def verdict(self) -> str:
        """One sentence: what can be relied on."""
        if self.refusal:
            return f"{self.network} cannot be looked at. {self.refusal}"
        wrong, refused, approximated = (self._named(name) for name in ("wrong", "refused", "approximated"))
        if wrong or self.findings:
            what = "; ".join([*(f"{check.layer}: {check.reason}" for check in wrong[:3]), *self.findings])
            more = f" (and {len(wrong) - 3} more layers)" if len(wrong) > 3 else ""
            return f"Something is wrong with what is made of {self.network}: {what}{more}. Do not rely on it."
        if refused:
            return f"{len(refused)} of {len(self.layers)} layers cannot be projected: {refused[0].reason}"
        compared = self._named("exact", "approximated")
        if not compared:
            return "No signal arrived at the pixels from any layer, so nothing could be compared."
        silent = f"; {len(self.layers) - len(compared)} gave no signal" if len(compared) < len(self.layers) else ""
        largest = max(check.difference or 0.0 for check in compared)
        agree = f"the implementations agree to {largest:.0e}"
        if approximated:
            reasons = ", ".join(sorted({name for check in approximated for name in check.reason.split(", ")}))
            exact = len(compared) - len(approximated)
            return (
                f"Of {len(self.layers)} layers {exact} are projected by the paper's rules alone; for {len(approximated)} "
                f"the gradient stands in for {reasons}, for which the paper has no rule{silent}; {agree}."
            )
        return f"{_count(len(compared))} projected exactly by the paper's rules{silent}; {agree}."

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "network": self.network,
            "verdict": self.verdict,
            "right": self.is_right,
            "refusal": self.refusal,
            "warnings": list(self.warnings),
            "dtype": self.dtype,
            "findings": list(self.findings),
            "layers": [check.as_json() for check in self.layers],
        }

    def __str__(self) -> str:
        """The table and the verdict, as lines of text."""
        if self.refusal:
            return self.verdict
        head = ("layer", "units", "map", "field", "way down", "difference", "finding")
        rows = [head, *map(_row, self.layers)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join([*self.warnings, *lines, self.verdict])

    def _named(self, *findings: Finding) -> list[LayerCheck]:
        return [check for check in self.layers if check.finding in findings]


def _row(check: LayerCheck) -> tuple[str, ...]:
    return (
        check.layer,
        str(check.units),
        "×".join(map(str, check.map_size)),
        check.field,
        check.way,
        "" if check.difference is None else f"{check.difference:.0e}",
        check.finding + (f": {check.reason}" if check.reason else ""),
    )


def _count(layers: int) -> str:
    return "1 layer is" if layers == 1 else f"{layers} layers are"
