"""What the screen draws from: a trainer's data and network once, and its weights and curves as often as they change."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from labkit.core.data import Split
from labkit.core.predictions import for_plot, kind_of, labels_of, values_of
from labkit.core.runs import score_name
from labkit.core.trainer import Trainer

KINDS = {"map": "plane", "curve": "line", "confusion": "table", "scatter": "table"}  # of a picture → of the screen
PIXELS = 64  # inputs that are drawn as an image
MOST_POINTS = 1500  # of a data set that are drawn
MOST_WEIGHTS = 30_000  # that travel with a frame; a larger network has no picture (TOO_LARGE of the browser)
CURVE_POINTS = 120
MARGIN = 0.08  # around the data, of their extent


def scene_of(trainer: Trainer, number: int) -> dict[str, Any]:
    """Return the data and the network of a run, under a number that its frames carry."""
    spec, split = trainer.spec, trainer.split
    kind = "image" if split.inputs == PIXELS and split.classes else KINDS[kind_of(split)]
    scene: dict[str, Any] = {
        "id": number, "kind": kind, "widths": list(trainer.widths), "activation": spec.activation, "loss": spec.loss,
        "huber_delta": spec.huber_delta, "residual": spec.residual, "classes": split.classes,
        "labels": list(labels_of(split)), "features": list(split.features) if kind == "plane" else [],
        "mean": split.x_mean.flatten().tolist(), "scale": split.x_scale.flatten().tolist(),
        "y_mean": float(split.y_mean), "y_scale": float(split.y_scale), "bounds": [0, 1, 0, 1],
        "score_name": score_name(split), "dataset": "own" if "data" in trainer.own else spec.dataset,
        "steps": spec.steps, "epoch_steps": len(split.x_train) / trainer.batch,
    }  # fmt: skip
    return scene | (_points(split) if kind in ("plane", "line") else {})


def _points(split: Split) -> dict[str, Any]:
    """The points of a data set in raw units, and the extent of the picture around them."""
    found: dict[str, Any] = {}
    for part in ("train", "test"):
        raw, y = split.points(part).numpy(), values_of(split, getattr(split, f"y_{part}"))
        found |= {f"x_{part}": _bytes(raw[:MOST_POINTS]), f"y_{part}": _bytes(y[:MOST_POINTS])}
    raw = np.concatenate([split.points(part).numpy() for part in ("train", "test")])
    centre = (raw.max(0) + raw.min(0)) / 2
    reach = (raw.max(0) - raw.min(0)).max() / 2 * (1 + 2 * MARGIN) or 1.0
    bounds = [(float(c - reach), float(c + reach)) for c in centre]
    return found | {"bounds": [*bounds[0], *bounds[-1]]}


def frame_of(trainer: Trainer, number: int, others: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    """Return the weights and the curves as they are now.

    Args:
        trainer: Whose first member is shown.
        number: Of the scene.
        others: The same with other seeds: their curves and scores.
    """
    losses, latest = trainer.loss_of(), trainer.evaluations[-1] if trainer.evaluations else None
    theta = trainer.theta[0].cpu().numpy() if trainer.theta.shape[1] <= MOST_WEIGHTS else np.empty(0)
    frame: dict[str, Any] = {
        "id": number, "step": trainer.step, "theta": _bytes(theta), "curve": curve_of(trainer),
        "loss": _number(losses[-1] if len(losses) else None),
        "test_loss": _number(latest and latest.loss[0]), "score": _number(latest and latest.score[0]),
        "confusion": None, "scatter": None, "others": list(others),
    }  # fmt: skip
    return frame | _answers(trainer)


def curve_of(trainer: Trainer) -> dict[str, bytes]:
    """Return losses and scores at the evaluations, some of them where there are many."""
    steps = np.array([each.step for each in trainer.evaluations])
    keep = np.unique(np.linspace(0, len(steps) - 1, min(CURVE_POINTS, len(steps))).astype(int))
    losses = trainer.loss_of().numpy()
    near = [losses[max(0, step - 4) : step + 5] for step in steps[keep]]  # of batches, so averaged a little
    return {
        "step": _bytes(steps[keep]),
        "train": _bytes([part.mean() if len(part) else np.nan for part in near]),
        "test": _bytes([float(trainer.evaluations[k].loss[0]) for k in keep]),
        "score": _bytes([float(trainer.evaluations[k].score[0]) for k in keep]),
    }


def other_of(trainer: Trainer, member: int) -> dict[str, Any]:
    """Return how the same went with another seed."""
    evaluations = trainer.evaluations
    keep = np.unique(np.linspace(0, len(evaluations) - 1, min(CURVE_POINTS, len(evaluations))).astype(int))
    return {
        "step": _bytes([evaluations[k].step for k in keep]),
        "test": _bytes([float(evaluations[k].loss[member]) for k in keep]),
        "score": _number(evaluations[-1].score[member]), "seed": trainer.specs[member].seed,
    }  # fmt: skip


def _answers(trainer: Trainer) -> dict[str, Any]:
    """What is drawn in place of a map: which classes are taken for which, or answers against targets."""
    if kind_of(trainer.split) not in ("confusion", "scatter"):
        return {}
    picture = for_plot(trainer.split, lambda x: trainer.predict(x[None])[0].cpu())
    if picture.kind == "confusion":
        return {"confusion": picture.z.tolist()}
    return {"scatter": {"truth": _bytes(picture.x[:MOST_POINTS]), "answer": _bytes(picture.y[:MOST_POINTS])}}


def _bytes(values: Any) -> bytes:
    return np.asarray(values, "<f4").tobytes()


def _number(value: Tensor | None) -> float | None:
    """A number for JSON, which has no nan."""
    return float(value) if value is not None and np.isfinite(float(value)) else None
