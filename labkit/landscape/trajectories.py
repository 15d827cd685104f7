"""Training paths seen on a plane, and how far off it they are."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from labkit.core import devices
from labkit.core.runs import WeightPath
from labkit.landscape.batched_mlp import LossFn
from labkit.landscape.directions import Direction, check, flat, weights_along, weights_of
from labkit.landscape.evaluator import LossEvaluator
from labkit.landscape.planes import Window


@dataclass(frozen=True, repr=False, eq=False)
class Trajectory:
    """A run's weights along the way, seen on a plane.

    Attributes:
        steps: When the weights were kept.  # (S,)
        alpha, beta: Where they stand on the plane, each at the plane's nearest point.  # (S,)
        distance: How far off the plane they are, as a distance in weight space.  # (S,)
        loss: The true loss of the weights.  # (S,)
        plane_loss: The loss at their nearest point on the plane: what the picture shows there.  # (S,)
    """

    steps: np.ndarray
    alpha: np.ndarray
    beta: np.ndarray
    distance: np.ndarray
    loss: np.ndarray
    plane_loss: np.ndarray

    def __repr__(self) -> str:
        losses = f"loss {self.loss[0]:.4g} → {self.loss[-1]:.4g}"
        return f"Trajectory: {len(self.steps)} points, {losses}, up to {self.distance.max():.3g} off the plane"


def project(path: WeightPath, model: nn.Module, u: Direction, v: Direction) -> tuple[np.ndarray, np.ndarray]:
    """Return where a path's weights stand on a plane, each at the plane's nearest point, and how far off it.

    Args:
        path: `run.path`.
        model: The network at the plane's centre.
        u, v: The plane's directions; they need not be perpendicular.

    Returns:
        Steps along u and v (S, 2), and distances in weight space (S,).

    Raises:
        ValueError: if the path or the directions do not fit the model, or u and v point the same way.
    """
    u, v = check(u, model, "u"), check(v, model, "v")
    (points,) = weights_along(model, (path,))
    with devices.threads(devices.threads_for(8 * points.numel())):
        return _nearest(points, model, u, v)


def _nearest(points: Tensor, model: nn.Module, u: Direction, v: Direction) -> tuple[np.ndarray, np.ndarray]:
    """The nearest points on a plane, and the distances to them."""  # (S, P) → (S, 2), (S,)
    axes = torch.stack([flat(u), flat(v)]).cpu().double()  # (2, P)
    gram = axes @ axes.T
    if gram.det() <= 1e-12 * gram[0, 0] * gram[1, 1]:
        raise ValueError("u and v point the same way, or one of them is 0: they span no plane. Choose another pair.")
    away = points.double() - flat(weights_of(model)).cpu().double()  # (S, P)
    steps = torch.linalg.solve(gram, axes @ away.T).T  # (S, 2)
    return steps.numpy(), (away - steps @ axes).norm(dim=1).numpy()


def trail(
    path: WeightPath, model: nn.Module, loss_fn: LossFn, x: Tensor, y: Tensor, u: Direction, v: Direction
) -> Trajectory:
    """Return a run's path on a plane, with what a picture of the plane cannot show: the distance off it, the true loss.

    Args:
        path: `run.path`, from `train(spec, snapshots=50)`.
        model, loss_fn, x, y: The network at the plane's centre, its loss and data, as `LossEvaluator` takes them.
        u, v: The plane's directions.

    Raises:
        ValueError: if the path, the data or the directions do not fit the model.
    """
    steps, distance = project(path, model, u, v)
    evaluator = LossEvaluator(model, loss_fn, x, y, (u, v))
    losses, on_plane = evaluator.at_weights(path.weights)["loss"], evaluator.at(steps)["loss"]
    return Trajectory(path.steps, steps[:, 0], steps[:, 1], distance, losses, on_plane)


def window_around(model: nn.Module, u: Direction, v: Direction, *paths: WeightPath, margin: float = 0.2) -> Window:
    """Return the window of `plane` that shows paths whole, with some room around them.

    Args:
        model: The network at the plane's centre; it is in the window too.
        u, v: The plane's directions.
        *paths: `run.path` of one run or of several.
        margin: Room on each side, as a share of the extent.

    Raises:
        ValueError: if no path is given, or one does not fit the model.
    """
    if not paths:
        raise ValueError("a path is missing: give run.path, of a run of train(spec, snapshots=50).")
    steps = np.concatenate([np.zeros((1, 2)), *(project(path, model, u, v)[0] for path in paths)])
    low, high = steps.min(0), steps.max(0)
    pad = margin * np.maximum(high - low, 1e-3 * max((high - low).max(), 1e-12))
    (left, bottom), (right, top) = (low - pad).tolist(), (high + pad).tolist()
    return (left, right), (bottom, top)
