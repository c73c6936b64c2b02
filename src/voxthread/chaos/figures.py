"""Many measurements as few numbers. Pure."""

from collections.abc import Sequence
from typing import Any

import numpy as np


def spread(values: Sequence[float]) -> dict[str, float | None]:
    """Median, 95th percentile (interpolated) and maximum; None where nothing was measured."""
    if not values:
        return {"median": None, "p95": None, "max": None}
    return {
        "median": round(float(np.median(values)), 1),
        "p95": round(float(np.percentile(values, 95)), 1),
        "max": round(max(values), 1),
    }


def share(flags: Sequence[bool]) -> float | None:
    """How many of these are so, 0 to 1."""
    return round(sum(flags) / len(flags), 4) if flags else None


def text_of(figure: dict[str, Any]) -> str:
    """A spread for a person: `120 / 240 / 260`, a dash where nothing was measured."""
    parts = (figure[name] for name in ("median", "p95", "max"))
    return " / ".join("-" if part is None else f"{part:.0f}" for part in parts)
