"""Tables that several verbs print."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from p3m_edge.records import ParityRecord, VerifiedRecord
    from p3m_edge.targets import Limits

_FIGURES = (
    "logits_mean", "local_mean", "local_share", "flips", "alpha_mean", "alpha_max", "sad", "mse", "grad", "grad_mean",
    "conn",
)  # fmt: skip


def table(title: str, *columns: str, right: tuple[str, ...] = (), header: bool = True) -> Table:
    """An empty table. The columns named in ``right`` hold figures; long text is folded, never cut."""
    from rich import box
    from rich.table import Table

    result = Table(title=title, title_justify="left", caption_justify="left", box=box.SIMPLE_HEAD, show_header=header)
    for column in columns:
        result.add_column(column, overflow="fold", justify="right" if column in right else "left")
    return result


def number(value: float | None) -> str:
    """A figure for a table; ``-`` where there is none."""
    return "-" if value is None else f"{value:.3g}"


def megabytes(size: float) -> str:
    """Bytes as MB (10^6)."""
    return f"{size / 1e6:.1f} MB"


def proved(verified: VerifiedRecord) -> str:
    """What a manifest says has been proved: level, machine and units."""
    machine = verified.machine
    where = ", ".join(str(machine[name]) for name in ("cpu", "architecture", "system") if machine.get(name))
    units = ", ".join(unit.unit for unit in verified.units)
    return verified.level + (f" on {where}" if where else "") + (f"; units: {units}" if units else "")


def limits_text(limits: Limits) -> str:
    """Parity limits in words."""
    logits = f"logits mean <= {limits.logits_mean:g} of their range; " if limits.logits_mean is not None else ""
    alpha = "".join(
        f"; {what} <= {limit:g}"
        for what, limit in (
            ("alpha mean", limits.alpha_mean), ("mse", limits.mse), ("grad mean", limits.grad_mean),
        ) if limit is not None
    )  # fmt: skip
    return (
        f"{logits}local alpha mean <= {limits.local_mean:g}; "
        f"off by more than {limits.pixel_tolerance:g}: <= {limits.pixel_share:.3%} of the pixels; "
        f"class flips <= {limits.flips:.3%}{alpha}"
    )


def parity_table(title: str, parity: ParityRecord) -> Table:
    """One row per picture: how far the artefact's outputs are from the reference."""
    right = tuple(name.replace("_", " ") for name in _FIGURES)
    result = table(title, "picture", *right, right=right)
    for item in parity.items:
        result.add_row(item.image, *(number(getattr(item, name)) for name in _FIGURES))
    lines = [f"limits: {limits_text(parity.limits)}", *(f"loosened: {line}" for line in parity.loosened)]
    result.caption = "\n".join(lines)
    return result
