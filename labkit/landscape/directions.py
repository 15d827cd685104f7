"""Directions through weight space: random, along training paths, towards other networks.

A direction is a dict with an entry for every named parameter of a module, of its shape, dtype and device.
"""

from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from labkit.core import devices
from labkit.core.rules import option
from labkit.core.runs import WeightPath
from labkit.core.spec import RULES

Direction = dict[str, Tensor]
NORMALIZATIONS: dict[str, Callable[[Tensor], Tensor] | None] = {  # name → what is scaled together, a row each
    "filter": lambda part: part.flatten(1) if part.ndim > 1 else part.reshape(1, -1),
    "layer": lambda part: part.reshape(1, -1),
    "none": None,
}


class Drawn(dict[str, Tensor]):
    """A direction drawn at random, with what it was `made` from: plain values, which a plane keeps."""

    def __init__(self, parts: Direction, made: dict[str, object]) -> None:
        super().__init__(parts)
        self.made = made


class Principal(NamedTuple):
    """The plane that lies closest to the points of some paths.

    Attributes:
        u, v: The two directions in which the points spread most, of length 1; the first path runs along u.
        explained: Which share of the points' variance each of the principal components holds, falling.  # (K,)
        centre: A copy of the model at the mean of the points, which is on that plane.
    """

    u: Direction
    v: Direction
    explained: np.ndarray
    centre: nn.Module


def weights_of(model: nn.Module) -> Direction:
    """Return a model's parameters by name, detached: the place in weight space where it stands.

    Raises:
        ValueError: if it is no module, has none, or they are on several devices, or of several dtypes.
    """
    if not isinstance(model, nn.Module):
        raise ValueError(f"the model is a {type(model).__name__}; give a torch.nn.Module, such as run.model().")
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
    if not weights:
        raise ValueError("the model has no parameters, so there is no weight space. Give one with layers that learn.")
    for what in ("device", "dtype"):
        found = sorted({str(getattr(weight, what)) for weight in weights.values()})
        if len(found) > 1:
            raise ValueError(f"the model's parameters are of several {what}s: {', '.join(found)}. Move them to one.")
    if not next(iter(weights.values())).is_floating_point():
        raise ValueError("the model's parameters are not floating-point numbers. Use model.float().")
    return weights


def flat(direction: Direction) -> Tensor:
    """Return a direction as one vector, in the order of its entries."""  # (P,)
    return torch.cat([part.reshape(-1) for part in direction.values()])


def shaped(vector: Tensor, model: nn.Module) -> Direction:
    """Return a vector as a direction of a model: the inverse of `flat`."""  # (P,)
    weights = weights_of(model)
    sizes = [weight.numel() for weight in weights.values()]
    if vector.shape != (sum(sizes),):
        raise ValueError(f"the vector has shape {tuple(vector.shape)}; this model needs ({sum(sizes)},).")
    parts = zip(weights.items(), torch.split(vector, sizes), strict=True)
    return {name: part.view_as(weight).to(weight, copy=True) for (name, weight), part in parts}


def moved(model: nn.Module, vector: Tensor) -> nn.Module:
    """Return a copy of a model that stands at another place in weight space."""  # (P,)
    copy, weights = deepcopy(model), shaped(vector, model)
    with torch.no_grad():
        for name, parameter in copy.named_parameters():
            parameter.copy_(weights[name])
    return copy


def check(direction: Direction, model: nn.Module, name: str) -> Direction:
    """Return a direction in the order of a model's parameters, or raise `ValueError` where it does not fit them."""
    weights = weights_of(model)
    given = direction.keys() if isinstance(direction, dict) else ()
    if wrong := sorted(given ^ weights.keys()):
        raise ValueError(
            f"direction {name} and the model differ in {', '.join(wrong[:3])}: it needs an entry for each of the "
            "model's named parameters and no other. labkit.random_directions(model) makes such directions."
        )
    for key, weight in weights.items():
        part = direction[key]
        if not isinstance(part, Tensor):
            raise ValueError(f"direction {name} has a {type(part).__name__} at {key!r}; give torch tensors.")
        for what in ("shape", "device", "dtype"):
            has, needs = getattr(part, what), getattr(weight, what)
            if has != needs:
                has, needs = (tuple(each) if what == "shape" else each for each in (has, needs))
                raise ValueError(f"direction {name} has {what} {has} at {key!r}, where the model has {needs}.")
        if not part.isfinite().all():
            raise ValueError(f"direction {name} is not finite at {key!r}: make it of a model whose weights are finite.")
    return {key: direction[key].detach() for key in weights}


def random_directions(
    model: nn.Module, seed: int = 0, normalize: str = "filter", *, orthogonal: bool = False, biases: bool = True
) -> tuple[Direction, Direction]:
    """Draw two Gaussian directions, as long as the model's own weights (Li et al. 2018, section 4).

    "filter" scales the incoming weights of every unit (of a convolution: every filter) to the length of the
    model's own, "layer" every parameter as a whole, "none" leaves standard normal numbers. Biases and other
    parameters with one dimension are scaled as a whole, so where they are all zero, so is the direction.

    Args:
        model: Where the directions start; it is left as it is.
        seed: The same seed draws the same numbers for every model of the same shapes.
        normalize: A key of `NORMALIZATIONS`: "filter", "layer" or "none".
        orthogonal: Make the two perpendicular: within every filter or layer that is normalised, else as a
            whole. A filter of a single number leaves no room for that, and the second direction is 0 there.
        biases: Move parameters with one dimension too; Li et al. leave them where they are.

    Raises:
        ValueError: if the model has no parameters, or the seed or `normalize` is not allowed.
    """
    rows_of = option("normalize", normalize, NORMALIZATIONS)
    # Not torch's generator: it reads 32 bits of a seed, so these numbers would be some run's first weights too.
    rng = np.random.default_rng(RULES["seed"].check("seed", seed))
    weights = weights_of(model)
    u, v = ({name: _draw(weight, rng, biases) for name, weight in weights.items()} for _ in range(2))
    if rows_of is not None:
        for name, weight in weights.items():
            rows, one, two = (rows_of(part.cpu().double()) for part in (weight, u[name], v[name]))
            two = _across(one, two) if orthogonal else two
            u[name], v[name] = (_as_long(part, rows).view_as(weight) for part in (one, two))
    elif orthogonal:
        v = shaped(_across(flat(u)[None], flat(v)[None])[0], model)
    made = {"kind": "random", "seed": seed, "normalize": normalize, "orthogonal": orthogonal, "biases": biases}
    first, second = (Drawn({name: part.to(weights[name]) for name, part in each.items()}, made) for each in (u, v))
    return first, second


def _draw(weight: Tensor, rng: np.random.Generator, biases: bool) -> Tensor:
    """Standard normal numbers of a parameter's shape, on the CPU in float64."""
    drawn = torch.as_tensor(rng.standard_normal(tuple(weight.shape)), dtype=torch.float64)
    return drawn if biases or weight.ndim > 1 else torch.zeros_like(drawn)


def _across(one: Tensor, two: Tensor) -> Tensor:
    """Take off each row of `two` what lies along the same row of `one`."""  # (rows, numbers) each
    along = (one * two).sum(1, keepdim=True) / one.square().sum(1, keepdim=True).clamp_min(1e-300)
    return two - along * one if one.shape[1] > 1 else torch.zeros_like(two)


def _as_long(rows: Tensor, model: Tensor) -> Tensor:
    """Scale each row to the length of the model's own."""  # (rows, numbers) each
    lengths = rows.norm(dim=1, keepdim=True)
    return torch.where(lengths > 0, rows * (model.norm(dim=1, keepdim=True) / lengths.clamp_min(1e-300)), 0.0)


def between(model: nn.Module, *others: nn.Module) -> tuple[Direction, ...]:
    """Return the way from a model to each of the others: a step of 1 along it arrives there.

    Raises:
        ValueError: if another model has other parameters.
    """
    weights, ways = weights_of(model), []
    for k, other in enumerate(others, 2):
        way = weights_of(other)
        check(way, model, f"towards model {k}")
        ways.append({name: way[name] - weight for name, weight in weights.items()})
    return tuple(ways)


def principal_directions(model: nn.Module, *paths: WeightPath) -> Principal:
    """Fit one plane to the points of one path or of several together, by principal components (Li et al. 2018, 7).

    Args:
        model: Any model of the paths' shapes.
        *paths: `run.path` of one run or of several.

    Raises:
        ValueError: if the paths do not fit the model, or all their points lie on a line.
    """
    kept = torch.cat([*weights_along(model, paths)])  # (S, P)
    with devices.threads(devices.threads_for(2 * len(kept) * kept.numel())):
        mean, axes, explained = _components(kept, len(paths[0].steps) - 1)
    u, v = (shaped(axis, model) for axis in axes)
    return Principal(u, v, explained.numpy(), moved(model, mean))


def _components(kept: Tensor, end: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the mean of points, their first two components, and what share of the variance each of all holds.

    The first component points from the first point to the one at `end`, the second to the side of the point
    that is furthest along it: a path that is fitted anew, longer, is not mirrored.
    """  # (S, P) → (P,), (2, P), (S,)
    points = kept.double()
    rounding = (torch.finfo(kept.dtype).eps * points.norm()) ** 2  # what a straight path spreads across itself
    mean = points.mean(0)
    away = points - mean
    variances, mixes = torch.linalg.eigh(away @ away.T)  # of S × S numbers, where P × P would not fit
    variances, mixes = variances.flip(0).clamp_min(0), mixes.flip(1)
    if len(points) < 3 or variances[1] <= max(1e-12 * variances[0], rounding):
        raise ValueError(f"{len(points)} points that span no plane: keep more with train(spec, snapshots=50).")
    axes = mixes[:, :2].T @ away
    places = away @ axes.T  # (S, 2)
    ways = torch.stack([places[end, 0] - places[0, 0], places[places[:, 1].abs().argmax(), 1]])
    signs = torch.where(ways < 0, -1.0, 1.0)
    return mean, axes * (signs / axes.norm(dim=1)).unsqueeze(1), variances / variances.sum()


def weights_along(model: nn.Module, paths: tuple[WeightPath, ...]) -> Iterator[Tensor]:
    """Yield the weights of each path, once they are known to fit the model."""  # (S, P) each
    numbers = sum(weight.numel() for weight in weights_of(model).values())
    if not paths or not all(isinstance(path, WeightPath) for path in paths):
        raise ValueError("a path is missing: give run.path, of a run of train(spec, snapshots=50).")
    for path in paths:
        if path.weights.shape[1] != numbers:
            raise ValueError(f"the path is of {path.weights.shape[1]:,} weights and the model has {numbers:,}.")
        yield path.weights
