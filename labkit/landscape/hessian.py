"""The curvature of a loss: products with its Hessian, extreme eigenvalues, trace.

The Hessian is that of the loss as given, no factor in front, by all P named parameters. It is never built,
only multiplied with vectors (Pearlmutter 1994). In all functions here `model`, `loss_fn`, `x` and `y` are as
`LossEvaluator` takes them, but a loss must be a tensor that follows from the parameters, and every loss sees the
whole batch at once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from labkit.core import devices
from labkit.core.random_state import preserved
from labkit.core.rules import Whole, option
from labkit.core.runs import WeightPath, progress
from labkit.core.spec import RULES
from labkit.landscape.batched_mlp import LossFn, check_targets
from labkit.landscape.directions import Direction, flat, moved, shaped, weights_along, weights_of
from labkit.landscape.evaluator import check_data

ENDS = {"largest": (1, 8), "smallest": (-1, 40)}  # sign, and the vectors that Lanczos keeps: small ones lie close
SAMPLES = Whole("vectors of an estimate", 2, 1_000_000)
DENSE, DENSE_PER_PAIR = 30, 8  # parameters, and parameters per pair, up to which all columns are no more products
RESTARTS = 500  # of Lanczos, for one eigenvalue
FLOPS = 12  # of a product, for each parameter and sample


class NotFinite(ValueError):
    """A loss or a curvature that is not finite at these weights."""


class Trace(NamedTuple):
    """An estimate of the sum of the Hessian's eigenvalues, and its standard error."""

    mean: float
    error: float


@dataclass(frozen=True, repr=False, eq=False)
class Eigenpairs:
    """Extreme eigenvalues of a Hessian with their eigenvectors.

    Attributes:
        values: From the extreme inwards: the largest falling, or the smallest rising.  # (k,)
        vectors: Of length 1, the entry of largest size positive.  # (k, P)
        products: How many Hessian-vector products they took.
    """

    values: np.ndarray
    vectors: Tensor
    products: int

    def __repr__(self) -> str:
        values = ", ".join(f"{value:.4g}" for value in self.values)
        return f"Eigenpairs: {values} among {self.vectors.shape[1]:,}, by {self.products} products"


class _Hessian:
    """One Hessian as products: the graph of the gradient is kept, and each product is one pass back through it.

    Both derivatives are taken in reverse. Reverse over forward takes two to six times as long, lets no two threads
    at it, knows no attention, and torch 2.13 gets it wrong behind layer norm and batch norm (pytorch #196699, #196700).
    """

    def __init__(self, model: nn.Module, loss_fn: LossFn, x: Tensor, y: Tensor) -> None:
        start = flat(weights_of(model))
        check_data("", (x, y), start)
        self._threads = devices.threads_for(FLOPS * len(x) * len(start))
        self.products = 0
        with torch.inference_mode(False), devices.threads(self._threads):
            self.theta = start.clone().requires_grad_()  # (P,)
            self._gradient = _gradient(self.theta, model, loss_fn, x, y)

    def __call__(self, vector: Tensor) -> Tensor:
        """Return H·v."""  # (P,) → (P,)
        if vector.shape != self.theta.shape:
            raise ValueError(f"the vector has shape {tuple(vector.shape)}; this model needs ({len(self.theta)},).")
        self.products += 1
        if not self._gradient.requires_grad:  # constant, as of a mean of the answers of a linear model
            return torch.zeros_like(self.theta)
        with torch.inference_mode(False), devices.threads(self._threads):
            vector = vector.to(self.theta)
            (product,) = torch.autograd.grad(self._gradient, self.theta, vector, retain_graph=True)
        if not product.isfinite().all():
            raise NotFinite("the curvature is not finite at these weights. Take weights from before the divergence.")
        return product


def _gradient(theta: Tensor, model: nn.Module, loss_fn: LossFn, x: Tensor, y: Tensor) -> Tensor:
    """Return the gradient at `theta` with its graph; attention goes the way that can be differentiated twice."""
    with torch.enable_grad(), preserved(theta.device) as generators, sdpa_kernel(SDPBackend.MATH):
        for generator in generators:  # random layers draw the same every time
            generator.manual_seed(0)
        buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
        prediction = functional_call(model, shaped(theta, model) | buffers, (x,))
        loss = _checked_loss(loss_fn, prediction, y)
        return torch.autograd.grad(loss, theta, create_graph=True)[0]  # (P,)


def _checked_loss(loss_fn: LossFn, prediction: Tensor, y: Tensor) -> Tensor:
    """Return the loss, or say why it has no Hessian."""
    check_targets(loss_fn, prediction, y)
    loss = loss_fn(prediction, y)
    if not isinstance(loss, Tensor) or loss.ndim:
        given = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else f"a {type(loss).__name__}"
        raise ValueError(f"loss_fn answers with {given}; it must return one number as a tensor, such as a mean.")
    if not loss.requires_grad:
        raise ValueError("the loss does not follow from the parameters; leave .detach() and .item() out of loss_fn.")
    if not loss.isfinite():
        raise NotFinite(f"the loss is {loss.item()} at these weights. Take weights from before the divergence.")
    return loss


def _signs(rng: torch.Generator, like: Tensor) -> Tensor:
    """Draw a vector of +1 and −1 (Rademacher)."""  # (P,)
    return (2 * torch.randint(2, like.shape, generator=rng) - 1).to(like)


def hessian_product(model: nn.Module, loss_fn: LossFn, x: Tensor, y: Tensor) -> Callable[[Tensor], Tensor]:
    """Return what multiplies a vector with the Hessian of the loss (Pearlmutter 1994).

    The graph of the gradient lives as long as what is returned. Not for `weight_norm`: torch 2.13 gets its second
    derivative wrong.

    Returns:
        A callable v ↦ H·v for vectors in the order of `directions.flat`.  # (P,) → (P,)

    Raises:
        ValueError: as `eigenpairs` does.
    """
    return _Hessian(model, loss_fn, x, y)


def eigenpairs(
    model: nn.Module,
    loss_fn: LossFn,
    x: Tensor,
    y: Tensor,
    k: int = 1,
    *,
    which: str = "largest",
    start: Tensor | Eigenpairs | None = None,
) -> Eigenpairs:
    """Return the k largest or smallest eigenvalues of the Hessian, with eigenvectors.

    Implicitly restarted Lanczos (ARPACK; Lehoucq, Sorensen and Yang 1998), one pair at a time: what is found is
    taken out of the Hessian, so that an eigenvalue which occurs several times is found as often.

    Args:
        model, loss_fn, x, y: As `LossEvaluator` takes them.
        k: How many.
        which: "largest", with sign, or "smallest".
        start: An eigenvector to begin with, or the pairs of weights nearby: saves products.  # (P,)

    Raises:
        NotFinite: a `ValueError`, if the loss or the Hessian is not finite.
        ValueError: if the model, the data and the loss do not fit each other, or a choice is not allowed.
        RuntimeError: if the eigenvalues lie too close together to be told apart.
    """
    size = sum(weight.numel() for weight in weights_of(model).values())
    (sign, _), k = option("which", which, ENDS), Whole("", 1, size).check("k", k)
    starts = _starts(start, k, size)
    hessian = _Hessian(model, loss_fn, x, y)
    if size <= max(DENSE, DENSE_PER_PAIR * k):
        values, vectors = _dense(hessian, k, sign)
    else:
        values, vectors = _lanczos(hessian, starts, which)
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(1, keepdims=True), 1)  # (k, 1)
    return Eigenpairs(values, torch.from_numpy(vectors * np.sign(largest)).to(hessian.theta.detach()), hessian.products)


def _starts(start: Tensor | Eigenpairs | None, k: int, size: int) -> np.ndarray:
    """Return a vector to begin each search with: those given, then random ones."""  # (k, P)
    starts = np.random.default_rng(0).standard_normal((k, size))
    if start is not None:
        rows = start.vectors if isinstance(start, Eigenpairs) else torch.as_tensor(start).unsqueeze(0)
        if rows.shape[1:] != (size,):
            raise ValueError(f"start has shape {tuple(rows.shape[1:])}; this model needs ({size},).")
        given = rows[:k].detach().cpu().double().numpy()
        if not np.isfinite(given).all() or not given.any(1).all():
            raise ValueError("start is zero or not finite. Give a direction, or leave it out.")
        starts[: len(given)] = given
    return starts


def _dense(hessian: _Hessian, k: int, sign: int) -> tuple[np.ndarray, np.ndarray]:
    """Build a small Hessian column by column."""  # (k,), (k, P)
    columns = torch.stack([hessian(unit) for unit in torch.eye(len(hessian.theta))]).cpu().double().numpy()
    values, vectors = np.linalg.eigh(-sign / 2 * (columns + columns.T))
    return -sign * values[:k], vectors[:, :k].T


def _lanczos(hessian: _Hessian, starts: np.ndarray, which: str) -> tuple[np.ndarray, np.ndarray]:
    """Find one pair after another."""  # (k,), (k, P)
    from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

    (sign, room), size = ENDS[which], len(hessian.theta)
    # ARPACK's tolerance is relative. So all eigenvalues are lifted by about the root of the sum of their squares,
    # which leaves none near 0, and every pair that is found is set to 0, which is then below all others.
    lift = float(hessian(_signs(torch.Generator().manual_seed(0), hessian.theta)).norm()) or 1.0
    tolerance = max(1e-6, 100 * torch.finfo(hessian.theta.dtype).eps)  # an eigenvalue's error is about its square
    lifted, vectors = np.empty(0), np.empty((0, size))

    def product(vector: np.ndarray) -> np.ndarray:
        vector = vector.ravel()
        turned = sign * hessian(torch.from_numpy(vector)).cpu().double().numpy()
        lowered: np.ndarray = turned + lift * vector - (lifted * (vectors @ vector)) @ vectors
        return lowered

    operator = LinearOperator((size, size), product, dtype=np.float64)
    for start in starts:
        try:
            more = {"ncv": min(size, room), "maxiter": RESTARTS, "tol": tolerance}
            value, vector = eigsh(operator, 1, which="LA", v0=start, **more)
        except ArpackNoConvergence:
            raise RuntimeError(
                f"the {which} eigenvalues were not found in {hessian.products:,} products: many lie too close "
                "together. Use a float64 model, or ask for fewer."
            ) from None
        lifted, vectors = np.append(lifted, value), np.vstack([vectors, vector.T])
    order = np.argsort(-lifted)
    return sign * (lifted - lift)[order], vectors[order]


def sharpness(model: nn.Module, loss_fn: LossFn, x: Tensor, y: Tensor, k: int = 1) -> np.ndarray:
    """Return the k largest eigenvalues of the Hessian, falling.

    Gradient descent with learning rate lr is stable only where the first is below 2 / lr (Cohen et al. 2021).

    Args:
        model, loss_fn, x, y: As `LossEvaluator` takes them.
        k: How many.

    Raises:
        ValueError: as `eigenpairs` does.
    """  # (k,)
    return eigenpairs(model, loss_fn, x, y, k).values


def hessian_directions(model: nn.Module, loss_fn: LossFn, x: Tensor, y: Tensor) -> tuple[Direction, Direction]:
    """Return the eigenvectors of the two largest eigenvalues: of length 1, as any scaling would turn them away.

    Raises:
        ValueError: as `eigenpairs` does.
    """
    u, v = eigenpairs(model, loss_fn, x, y, 2).vectors
    return shaped(u, model), shaped(v, model)


def trace(model: nn.Module, loss_fn: LossFn, x: Tensor, y: Tensor, *, samples: int = 64, seed: int = 0) -> Trace:
    """Estimate the sum of the Hessian's eigenvalues as the mean of vᵀHv over random signs v (Hutchinson 1990).

    It is exact where the Hessian is diagonal. Yao et al. 2020 (PyHessian), section 3, use it for networks.

    Args:
        model, loss_fn, x, y: As `LossEvaluator` takes them.
        samples: How many vectors, two at least.
        seed: What they are drawn from.

    Raises:
        ValueError: as `eigenpairs` does.
    """
    samples, seed = SAMPLES.check("samples", samples), RULES["seed"].check("seed", seed)
    hessian, rng = _Hessian(model, loss_fn, x, y), torch.Generator().manual_seed(seed)
    draws = (_signs(rng, hessian.theta) for _ in range(samples))
    each = np.array([float((v * hessian(v)).cpu().double().sum()) for v in draws])
    return Trace(float(each.mean()), float(each.std(ddof=1) / samples**0.5))


def sharpness_along(path: WeightPath, model: nn.Module, loss_fn: LossFn, x: Tensor, y: Tensor) -> np.ndarray:
    """Return the largest eigenvalue at each point of a path; each search begins where the last one ended.

    Args:
        path: `run.path` of a run with snapshots.
        model, loss_fn, x, y: As `LossEvaluator` takes them; the model's mode and buffers hold for every point.

    Returns:
        The eigenvalues; nan where the loss or the Hessian is not finite.  # (S,)

    Raises:
        ValueError: if the path does not fit the model, or as `eigenpairs` does.
    """
    (points,) = weights_along(model, (path,))
    values, pairs = np.full(len(points), np.nan), None
    for k, point in enumerate(progress(points, unit="point")):
        try:
            pairs = eigenpairs(moved(model, point), loss_fn, x, y, start=pairs)
        except NotFinite:
            continue
        values[k] = pairs.values[0]
    return values
