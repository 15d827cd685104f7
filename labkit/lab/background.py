"""The landscape around a network in training, computed bit by bit in the time that is left.

It keeps the weights along the way, and shows the loss around where training stands, or around an earlier place.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from labkit.core import devices
from labkit.core.network import to_module, torch_order
from labkit.core.rules import option
from labkit.core.runs import WeightPath
from labkit.core.trainer import Trainer
from labkit.landscape.directions import (
    Direction,
    flat,
    moved,
    principal_directions,
    random_directions,
    shaped,
    weights_of,
)
from labkit.landscape.evaluator import LossEvaluator
from labkit.landscape.hessian import Eigenpairs, eigenpairs
from labkit.landscape.planes import Plane, Window, refine
from labkit.landscape.trajectories import Trajectory, project, window_around

PATH_POINTS, PATH_BYTES = 60, 64 << 20  # of the path that are kept at most, and what they may take
SPARE = 4  # points of the path that are considered for each that is kept
PLACES = 4  # whose work says how many threads the rest deserves
POINTS, POINTS_RUNNING = 65, 33  # to a side, at rest and while training
SEARCH_SECONDS = 0.3  # that a search for eigenvectors may take while training
FRESH = 17  # points to a side from which on a new picture replaces the last one while training


class Interrupted(Exception):
    """Somebody asked for something else meanwhile."""


@dataclass(frozen=True)
class Options:
    """What to show.

    Attributes:
        directions: A key of `DIRECTIONS`.
        seed: Of random directions.
        span: How far to go, as a multiple of what each kind of directions starts with.
        at: Which kept point of the path to show the surroundings of; None is where training stands.
    """

    directions: str = "random"
    seed: int = 0
    span: float = 1.0
    at: int | None = None

    def __post_init__(self) -> None:
        option("directions", self.directions, DIRECTIONS)


@dataclass(frozen=True)
class LandscapeView:
    """One picture: a plane, the path on it, and around which step it is.

    Attributes:
        plane: A nested grid whose every cell is computed.
        trail: The path so far.
        step: The step whose weights are at the centre.
        note: What there is to say of the choice of directions.
    """

    plane: Plane
    trail: Trajectory
    step: int
    note: str


class Axes(NamedTuple):
    """Two directions, how far to go along them, what charts call them and their unit, and a remark."""

    u: Direction
    v: Direction
    window: Window
    name: str
    unit: str
    note: str = ""


@dataclass
class Picture:
    """A picture in the making: of what, the rest of its work, and how far it is."""

    subject: tuple[Options, int, bool]
    views: Iterator[LandscapeView | None]
    stage: Literal["begun", "coarse", "whole"] = "begun"


class LandscapeWorker:
    """Computes the landscape around a trainer's network, a chunk of places at a time.

    Args:
        trainer: What trains; its first member is shown.
        interrupted: Says whether somebody waits, so that a long search stops.

    Attributes:
        steps: When the weights were kept.
    """

    def __init__(self, trainer: Trainer, interrupted: Callable[[], bool]) -> None:
        self.trainer, self._interrupted = trainer, interrupted
        spec, split, device = trainer.spec, trainer.split, trainer.device.device
        widths = (split.inputs, *spec.hidden, split.outputs)
        self._order = torch_order(widths).to(device)
        module = to_module(widths, spec.activation, trainer.theta_of(), residual=spec.residual)
        self._template = module.eval().to(device)
        self._most = int(min(PATH_POINTS, max(8, PATH_BYTES // (4 * len(self._order)))))
        self._x, self._y = split.x_train.to(device), split.y_train.to(device)
        self._threads = devices.threads_for(PLACES * 2 * len(self._order) * len(self._x))
        self.steps: list[int] = []
        self._weights: list[Tensor] = []
        self._losses: dict[int, float] = {}
        self._gaps: list[float] = []  # of every kept point but the first and the last: how far apart its neighbours are
        self._top: Eigenpairs | None = None  # the last ones, where the next search starts
        self._searched = 0, 0.0  # at which step they were found, and in how many seconds
        self.options = Options()
        self._picture: Picture | None = None  # the one in the making, or the last one
        self._drawn = ""  # the directions of the last view, which a much coarser one never replaces
        self.keep()

    def keep(self) -> None:
        """Keep the weights as they are now; of too many, forget those that the path bends least without."""
        step = self.trainer.step
        if self.steps and step < self.steps[-1] + max(1, step // (SPARE * self._most)):
            return
        self.steps.append(step)
        self._weights.append(self._current())
        if len(self.steps) > 2:
            self._gaps.append(self._gap(len(self.steps) - 2))
        if len(self.steps) > self._most:
            self._forget(int(np.argmin(self._gaps)) + 1)

    def _gap(self, k: int) -> float:
        """How far apart the neighbours of a kept point are."""
        return float((self._weights[k + 1] - self._weights[k - 1]).norm())

    def _forget(self, k: int) -> None:
        del self.steps[k], self._weights[k], self._gaps[k - 1]
        for near in (k - 1, k):
            if 0 < near < len(self.steps) - 1:
                self._gaps[near - 1] = self._gap(near)

    def look(self, options: Options) -> bool:
        """Show something else from now on; return whether it is something else."""
        if options == self.options:
            return False
        self.options, self._picture = options, None
        return True

    @property
    def busy(self) -> bool:
        """Whether a picture is half-made."""
        return self._picture is not None and self._picture.stage != "whole"

    def due(self, at_rest: bool) -> bool:
        """Whether there is anything to compute."""
        return self._stage(at_rest) != "whole"

    def blank(self, at_rest: bool) -> bool:
        """Whether there is no picture yet of what stands now, not even a coarse one."""
        return self._stage(at_rest) == "begun"

    def _stage(self, at_rest: bool) -> str:
        """How far the picture of what stands now is."""
        return self._picture.stage if self._picture and self._picture.subject == self._now(at_rest) else "begun"

    def advance(self, at_rest: bool) -> LandscapeView | None:
        """Compute some more; return a picture when there is a better one than before."""
        now, picture = self._now(at_rest), self._picture
        if picture is None or picture.stage == "whole" or (at_rest and now != picture.subject):
            picture = self._picture = Picture(now, self._look_around(at_rest))
        try:
            with devices.threads(self._threads):
                view = next(picture.views)
            picture.stage = "coarse" if view else picture.stage
            return view
        except StopIteration:
            picture.stage = "whole"
        except Interrupted:
            self._picture = None
        return None

    def _now(self, at_rest: bool) -> tuple[Options, int, bool]:
        at = self.options.at
        return self.options, self.trainer.step if at is None else self.steps[at], at_rest

    def _current(self) -> Tensor:
        """The weights where training stands, in the order of a module's parameters."""  # (P,)
        return self.trainer.theta_of()[self._order].cpu()

    def _look_around(self, at_rest: bool) -> Iterator[LandscapeView | None]:
        """Yield pictures from coarse to fine; None where nothing is new."""
        at = self.options.at
        step, weights = (self.trainer.step, self._current()) if at is None else (self.steps[at], self._weights[at])
        model = moved(self._template, weights)
        path = self._path(step, weights)
        axes = self._axes(model, path, at_rest)
        yield None
        evaluator = LossEvaluator(model, self.trainer.loss, self._x, self._y, axes[:2])
        yield from self._true_losses(path, evaluator)
        trail = self._trail(path, model, axes, evaluator)
        yield None
        names, units = {way: f"{axes.name} {way}" for way in "uv"}, dict.fromkeys("uv", axes.unit)
        notes = {"axes": names, "units": units, "step": step}
        points, data = POINTS if at_rest else POINTS_RUNNING, (self.trainer.loss, self._x, self._y)
        shown = FRESH - 1 if self._drawn == self.options.directions else 1
        for plane in refine(model, *data, axes.u, axes.v, points=points, window=axes.window, notes=notes):
            seen = plane.coarse()
            if len(seen.alpha) <= shown:
                yield None
                continue
            shown, self._drawn = len(seen.alpha), self.options.directions
            yield LandscapeView(seen, trail, step, axes.note)

    def _path(self, step: int, weights: Tensor) -> WeightPath:
        """The path up to a step."""
        before = [k for k, kept in enumerate(self.steps) if kept < step]
        rows = [*(self._weights[k] for k in before), weights]
        return WeightPath(np.array([*(self.steps[k] for k in before), step]), torch.stack(rows))

    def _axes(self, model: nn.Module, path: WeightPath, at_rest: bool) -> Axes:
        """The two directions that are asked for, or random ones with the reason."""
        try:
            return DIRECTIONS[self.options.directions](self, model, path, at_rest)
        except ValueError as refusal:
            return self._random(model, path, at_rest)._replace(note=f"{refusal} So the directions are random.")

    def _random(self, model: nn.Module, path: WeightPath, at_rest: bool) -> Axes:
        name, window = "random direction", ((-self.options.span, self.options.span),) * 2
        u, v = random_directions(model, self.options.seed)
        try:
            project(path, model, u, v)
        except ValueError:  # with one weight and a bias of 0, all that filters move is one way
            u, v = random_directions(model, self.options.seed, "none")
            return Axes(u, v, window, name, "1 = every weight moved by about 1")
        return Axes(u, v, window, name, "1 = every filter moved by its own length")

    def _principal(self, model: nn.Module, path: WeightPath, at_rest: bool) -> Axes:
        every = WeightPath(np.array(self.steps), torch.stack(self._weights))
        try:
            u, v, explained, _ = principal_directions(model, every)
            window = _scaled(window_around(model, u, v, every), self.options.span)
        except ValueError:
            raise ValueError("There is no path yet: press Train.") from None
        note = f"These two directions hold {explained[:2].sum():.0%} of the path's spread."
        return Axes(u, v, window, "principal direction of the path", "distance in weight space", note)

    def _curved(self, model: nn.Module, path: WeightPath, at_rest: bool) -> Axes:
        """The two directions of greatest curvature, and a window in which the steeper rises by about 2."""
        step, seconds = self._searched
        note = f"The eigenvectors are those of step {step:,}: to find them takes {seconds:.1f} s."
        if self._top is None or at_rest or seconds <= SEARCH_SECONDS:
            self._top, note = self._search(model, int(path.steps[-1])), ""
        reach = 2 / max(float(self._top.values[0]), 1e-12) ** 0.5
        reach = self.options.span * min(reach, float(flat(weights_of(model)).norm()))
        u, v = (shaped(vector, model) for vector in self._top.vectors)
        return Axes(u, v, ((-reach, reach),) * 2, "top Hessian eigenvector", "distance in weight space", note)

    def _search(self, model: nn.Module, step: int) -> Eigenpairs:
        """Find the eigenvectors of the two greatest eigenvalues, or stop for somebody who waits."""
        began = time.perf_counter()

        def give_way(slope: Tensor) -> None:  # called in every product
            if self._interrupted():
                raise Interrupted

        def loss_fn(prediction: Tensor, target: Tensor) -> Tensor:
            prediction.register_hook(give_way)
            return self.trainer.loss(prediction, target)

        try:
            found = eigenpairs(model, loss_fn, self._x, self._y, 2, start=self._top)
        except (ValueError, RuntimeError) as refusal:  # not finite here, or eigenvalues too close together
            raise ValueError(f"No eigenvectors: {refusal}") from refusal
        self._searched = step, time.perf_counter() - began
        return found

    def _true_losses(self, path: WeightPath, evaluator: LossEvaluator) -> Iterator[None]:
        """Measure every kept point once, and the last one anew: a divergence takes a step's weights back."""
        for k, step in enumerate(path.steps.tolist()):
            if step not in self._losses or k == len(path.steps) - 1:
                self._losses[step] = evaluator.at_weights(path.weights[k : k + 1])["loss"].item()
                yield None

    def _trail(self, path: WeightPath, model: nn.Module, axes: Axes, evaluator: LossEvaluator) -> Trajectory:
        """The path on the plane."""
        steps, distance = project(path, model, axes.u, axes.v)
        losses = np.array([self._losses[step] for step in path.steps.tolist()])
        return Trajectory(path.steps, steps[:, 0], steps[:, 1], distance, losses, evaluator.at(steps)["loss"])


SEEDED = ("random",)  # kinds of directions that a seed draws
DIRECTIONS = {"random": LandscapeWorker._random, "path": LandscapeWorker._principal, "Hessian": LandscapeWorker._curved}


def _scaled(window: Window, span: float) -> Window:
    """A window made wider or narrower around its middle."""
    (left, right), (low, high) = ((low + high) / 2 + np.array([-span, span]) * (high - low) / 2 for low, high in window)
    return (float(left), float(right)), (float(low), float(high))
