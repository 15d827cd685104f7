"""Forecast: time a few sizes and fit a few losses, then extrapolate to seconds and losses of others."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
from scipy.optimize import least_squares, nnls

from labkit.core.costs import cost
from labkit.core.spec import Spec
from labkit.core.trainer import Trainer

ROUNDS = 7  # in each of which every size is timed once, so that all see the same moments of the machine
ROUND_SECONDS = 0.03  # for each size: many looks at the machine, a moment each
DRAWS = 60  # of the bootstrap
STARTS = (0.3, 1.0)  # exponents that the fit of a law sets out from
STEEPEST = 10.0  # and the largest that it may come to: a cliff fits anything


@dataclass(frozen=True, repr=False)
class StepTimeModel:
    """Seconds of a training step as a straight line over its floating-point operations.

    Attributes:
        start: seconds until a training is under way: buffers, libraries, on a GPU the capture of a graph.
        overhead: seconds that a step takes however small it is.
        per_flop: seconds for a floating-point operation.
        ends: the widths of the data, where a spec does not know them.
    """

    start: float
    overhead: float
    per_flop: float
    ends: dict[str, Any]

    def seconds(self, spec: Spec) -> float:
        """Return the seconds that `spec.steps` steps will take, evaluations aside."""
        return self.start + spec.steps * self.pace(spec)

    def pace(self, spec: Spec) -> float:
        """Return the seconds that one step will take."""
        return self.overhead + self.per_flop * cost(spec, **self.ends).flops_step

    def __repr__(self) -> str:
        return f"StepTimeModel: {1e6 * self.overhead:.0f} µs a step and {1e-9 / self.per_flop:.3g} GFLOP/s beyond that"


def calibrate(specs: Sequence[Spec], data: tuple[Any, Any] | None = None) -> StepTimeModel:
    """Time a few trainings for a moment each, and fit the line that predicts others.

    The line is exact for none of them: small steps wait for memory or for launches, large ones for arithmetic. It
    serves between the sizes that were timed and a few times beyond.

    Args:
        specs: At least two that differ in size, the larger near the size of interest.
        data: Your own (x, y) in place of the specs' data set.

    Raises:
        ValueError: if fewer than two sizes are given.
    """
    trainers = [Trainer(spec, data=data) for spec in specs]
    split = trainers[0].split
    ends = {"inputs": split.inputs, "outputs": split.outputs}
    flops = [cost(spec, **ends, batch=t.batch).flops_step for spec, t in zip(specs, trainers, strict=True)]
    batch = None if specs[0].batch_size else trainers[0].batch  # of a training set that the spec may not know
    if len(set(flops)) < 2:
        raise ValueError(f"calibrate was given {len(set(flops))} sizes; a line needs two or better three widths.")
    first, paces = _paces(trainers)
    rows = np.stack([1 / paces, flops / paces * 1e-9], 1)  # errors count as shares of what was measured
    (overhead, per_gigaflop), _ = nnls(rows, np.ones(len(paces)))
    return StepTimeModel(first, float(overhead), float(max(per_gigaflop, 1e-9) * 1e-9), ends | {"batch": batch})


def _paces(trainers: Sequence[Trainer]) -> tuple[float, np.ndarray]:
    """Time every trainer in turns; return the seconds of a start and each size's seconds a step: medians."""
    firsts, spans = [], []
    for trainer in trainers:
        trainer.total = 2**31
        firsts.append(_timed(trainer, 2 * trainer.block))  # buffers are made, a graph is captured
        spans.append(trainer.block * max(1, round(ROUND_SECONDS / _timed(trainer, trainer.block))))
    rounds = [[_timed(*pair) / pair[1] for pair in zip(trainers, spans, strict=True)] for _ in range(ROUNDS)]
    paces = np.array([median(column) for column in zip(*rounds, strict=True)])  # (sizes,)
    blocks = np.array([2 * trainer.block for trainer in trainers])
    return max(0.0, float(np.median(np.array(firsts) - blocks * paces))), paces


def _timed(trainer: Trainer, steps: int) -> float:
    """Advance `steps` steps; return the seconds of training, evaluations aside."""
    before = trainer.seconds
    trainer.advance(steps)
    return trainer.seconds - before


@dataclass(frozen=True, repr=False)
class Law:
    """The loss as a sum of what size and what steps leave over: floor + a / N^alpha + b / S^beta.

    Attributes:
        values: floor, a, alpha, b, beta.  # (5,)
        draws: the same, of fits to runs drawn anew.  # (draws, 5)
        scatter: how far runs lie from the fit, as the standard deviation of the logarithm of loss over fit.
        reach: the largest size and the most steps among the runs.
        beyond: how far off the law is one size, and one count of steps, beyond the runs that it is fitted to: measured
            by leaving out the largest size, and the most steps, as the root mean square of the logarithm.
    """

    values: np.ndarray
    draws: np.ndarray
    scatter: float
    reach: tuple[float, float]
    beyond: tuple[float, float]

    def __call__(self, parameters: object, steps: object) -> np.ndarray:
        """Return the loss that the law expects."""
        return np.asarray(np.exp(_log_law(self.values, np.asarray(parameters, float), np.asarray(steps, float))))

    def band(self, parameters: float, steps: float) -> tuple[float, float]:
        """Return the range in which a new run should lie 19 times of 20, a size or a length beyond the known ones."""
        logs = [_log_law(values, np.asarray(parameters), np.asarray(steps)) for values in self.draws]
        farther = [miss for at, end, miss in zip((parameters, steps), self.reach, self.beyond, strict=True) if at > end]
        width = 2 * float(np.linalg.norm([np.std(logs), self.scatter, *farther]))
        middle = float(self(parameters, steps))
        return middle * float(np.exp(-width)), middle * float(np.exp(width))

    def interval(self, name: str) -> tuple[float, float]:
        """Return the 95 % interval of one of floor, a, alpha, b, beta."""
        low, high = np.percentile(self.draws[:, NAMES.index(name)], [2.5, 97.5])
        return float(low), float(high)

    def __repr__(self) -> str:
        floor, a, alpha, b, beta = self.values
        return f"Law: loss ≈ {floor:.3g} + {a:.3g} / parameters^{alpha:.2f} + {b:.3g} / steps^{beta:.2f}"


NAMES = ("floor", "a", "alpha", "b", "beta")


def fit_law(parameters: object, steps: object, losses: object, *, floor: float | None = None) -> Law:
    """Fit floor + a / N^alpha + b / S^beta to the losses of trained networks, by least squares of logarithms.

    The form is that of Hoffmann et al. 2022, arXiv:2203.15556, equation 2, with steps in place of samples seen. It
    can only fall: a network too large for its data is not in it.

    Args:
        parameters: Of each run.  # (runs,)
        steps: Of each run.  # (runs,)
        losses: What each run came to, above 0.  # (runs,)
        floor: What no network can go below, where that is known.

    Raises:
        ValueError: if there are fewer runs, sizes or steps than the law has numbers, or a loss is not above 0.
    """
    parameters, steps, losses = (np.asarray(each, float) for each in (parameters, steps, losses))
    if not (np.isfinite(losses).all() and (losses > 0).all()):
        raise ValueError("a law is fitted to finite losses above 0: leave out the runs that diverged.")
    if len(set(parameters)) < 3 or len(set(steps)) < 3:
        found = f"{len(set(parameters))} sizes and {len(set(steps))} counts of steps"
        raise ValueError(f"a law needs three sizes and three counts of steps at least; here are {found}.")
    values = _fit(parameters, steps, losses, floor)
    apart = np.log(losses) - _log_law(values, parameters, steps)
    scatter = float(np.sqrt((apart**2).sum() / max(1, len(losses) - len(values) + (floor is not None))))
    rng = np.random.default_rng(0)
    places = rng.integers(len(losses), size=(DRAWS, len(losses)))
    draws = [_fit(parameters[p], steps[p], losses[p], floor, values) for p in places]
    size, length = (_missed(parameters, steps, losses, floor, each == each.max()) for each in (parameters, steps))
    return Law(values, np.array(draws), scatter, (parameters.max(), steps.max()), (size, length))


def _missed(
    parameters: np.ndarray, steps: np.ndarray, losses: np.ndarray, floor: float | None, out: np.ndarray
) -> float:
    """How far off a law is for the runs that it was not fitted to."""
    law = _fit(parameters[~out], steps[~out], losses[~out], floor)
    return float(np.sqrt(np.mean((np.log(losses[out]) - _log_law(law, parameters[out], steps[out])) ** 2)))


def _log_law(values: np.ndarray, parameters: np.ndarray, steps: np.ndarray) -> np.ndarray:
    floor, a, alpha, b, beta = values
    return np.asarray(np.log(floor + a * parameters**-alpha + b * steps**-beta))


def _fit(
    parameters: np.ndarray, steps: np.ndarray, losses: np.ndarray, floor: float | None, start: np.ndarray | None = None
) -> np.ndarray:
    """Fit once, in logarithms of what must stay above 0; without a start from several."""  # (5,)
    known = [] if floor is None else [floor]

    def unpack(free: np.ndarray) -> np.ndarray:
        grown = np.exp(np.clip(free, -60, 60))
        grown[[-3, -1]] = np.minimum(grown[[-3, -1]], STEEPEST)
        return np.array([*known, *grown])

    def apart(free: np.ndarray) -> np.ndarray:
        return np.asarray(_log_law(unpack(free), parameters, steps) - np.log(losses))

    spread, half = losses.max() - min(known or [0.0]), np.log(2)
    low = [] if known else [np.log(losses.min()) - half]
    starts = [
        [*low, np.log(spread * parameters.min() ** p), np.log(p), np.log(spread * steps.min() ** s), np.log(s)]
        for p in STARTS
        for s in STARTS
    ]
    if start is not None:
        starts = [np.log(np.maximum(start[len(known) :], 1e-20))]
    fits = [least_squares(apart, each, method="trf", max_nfev=400) for each in starts]
    return unpack(np.asarray(min(fits, key=lambda fit: float(fit.cost)).x))
