"""Pinned runs for the screen: their names, curves and last numbers."""

import math
from typing import Any

import numpy as np

from labkit.core.runs import Run
from labkit.core.spec import RULES
from labkit.lab.choices import shown


def pins_of(runs: list[Run]) -> list[dict[str, Any]]:
    """Return pinned runs for the browser, named by what sets them apart."""
    return [
        {
            "name": name, "test": run.test_loss.astype("<f4").tobytes(), "step": run.test_step.astype("<f4").tobytes(),
            "score": _last(run.score), "loss": _last(run.test_loss), "steps": run.steps, "seconds": run.seconds,
            "parameters": sum(weight.numel() for weight in run.model().parameters()),
        }
        for name, run in named(runs).items()
    ]  # fmt: skip


def named(runs: list[Run]) -> dict[str, Run]:
    """Name runs by a letter and by what sets them apart from each other."""
    names = {}
    for letter, run in zip("ABCDEF", runs, strict=False):
        apart = [n for n in RULES if any(getattr(other.spec, n) != getattr(run.spec, n) for other in runs)]
        words = ", ".join(f"{n} {shown(n, getattr(run.spec, n))}" for n in apart)
        names[f"{letter}: {words or 'as it stands'}"] = run
    return names


def _last(values: np.ndarray) -> float | None:
    return float(values[-1]) if len(values) and math.isfinite(values[-1]) else None
