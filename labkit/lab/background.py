"""The landscape around a network in training, computed bit by bit in the time that is left. It knows no plots.

It keeps the weights along the way, and looks around where training stands, or around a place where it stood.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from labkit.core import devices
from labkit.core.network import to_module, torch_order
from labkit.core.runs import WeightPath
from labkit.core.trainer import Trainer
from labkit.landscape.batched_mlp import Part
from labkit.landscape.directions import (
    Direction,
    flat,
    moved,
    principal_directions,
    random_directions,
    shaped,
    weights_of,
)
from labkit.landscape.evaluator import InPlace, LossEvaluator
from labkit.landscape.hessian import Eigenpairs, eigenpairs
from labkit.landscape.planes import Plane, Window, refine
from labkit.landscape.trajectories import Trajectory, project, window_around

KEPT, KEPT_BYTES = 60, 64 << 20  # places along the way at most, and what they may take
SPARE = 4  # times as many are looked at as are kept
PLACES = 4  # whose work says how many threads the rest deserves
POINTS, POINTS_RUNNING = 65, 33  # to a side, at rest and while training
PATIENCE = 0.3  # seconds that a search for eigenvectors may take while training
FRESH = 17  # points to a side from which on a new picture replaces the last one while training
DIRECTIONS = {  # name → axes and units, for people
    "random": ("random direction", "1 = every filter moved by its own length"),
    "raw": ("random direction", "1 = every weight moved by about 1"),
    "path": ("principal direction of the path", "distance in weight space"),
    "Hessian": ("top Hessian eigenvector", "distance in weight space"),
}


class Interrupted(Exception):
    """Somebody asked for something else meanwhile."""


@dataclass(frozen=True)
class Options:
    """What to look at.

    Attributes:
        directions: A key of `DIRECTIONS`.
        seed: Of random directions.
        span: How far to look, as a multiple of what each kind of directions starts with.
        at: Which kept place to look around; None is where training stands.
    """

    directions: str = "random"
    seed: int = 0
    span: float = 1.0
    at: int | None = None


@dataclass(frozen=True)
class LandscapeView:
    """One picture: a plane, the path on it, and around which step it is.

    Attributes:
        plane: The ground, a nested grid that is whole.
        trail: The path so far.
        step: The step whose weights are at the centre.
        note: What there is to say of the choice of directions.
    """

    plane: Plane
    trail: Trajectory
    step: int
    note: str


class LandscapeWorker:
    """Looks around a trainer's network, a chunk of places at a time.

    Args:
        trainer: What trains; its first member is looked at.
        interrupted: Says whether somebody waits, so that a long product stops.

    Attributes:
        steps: When the weights were kept.
    """

    def __init__(self, trainer: Trainer, interrupted: Callable[[], bool]) -> None:
        self.trainer, self._interrupted = trainer, interrupted
        spec, split, self._place = trainer.spec, trainer.split, trainer.device.device
        widths = (split.inputs, *spec.hidden, split.outputs)
        self._order = torch_order(widths).to(self._place)
        module = to_module(widths, spec.activation, trainer.theta_of(), residual=spec.residual)
        self._template = module.eval().to(self._place)
        self._most = int(min(KEPT, max(8, KEPT_BYTES // (4 * len(self._order)))))
        self._x, self._y = split.x_train.to(self._place), split.y_train.to(self._place)
        self._threads = devices.threads_for(PLACES * 2 * len(self._order) * len(self._x))
        self.steps: list[int] = []
        self._weights: list[Tensor] = []
        self._losses: dict[int, float] = {}
        self._gaps: list[float] = []  # of every kept place but the first and the last: how far apart its neighbours are
        self._top: Eigenpairs | None = None  # the last ones, where the next search starts
        self._searched = 0, 0.0  # at which step they were found, and in how many seconds
        self.options = Options()
        self._sights: Iterator[LandscapeView | None] | None = None
        self._seen: tuple | None = None  # what the last whole picture was of
        self._glimpsed: tuple | None = None  # and what the last picture was of, whole or coarse
        self._shown = False
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
        """How far apart the neighbours of a kept place are."""
        return float((self._weights[k + 1] - self._weights[k - 1]).norm())

    def _forget(self, k: int) -> None:
        del self.steps[k], self._weights[k], self._gaps[k - 1]
        for near in (k - 1, k):
            if 0 < near < len(self.steps) - 1:
                self._gaps[near - 1] = self._gap(near)

    def look(self, options: Options) -> bool:
        """Look at something else from now on; return whether it is something else."""
        if options == self.options:
            return False
        if options.directions != self.options.directions:
            self._shown = False
        self.options, self._sights, self._seen, self._glimpsed = options, None, None, None
        return True

    @property
    def busy(self) -> bool:
        """Whether a picture is half-made."""
        return self._sights is not None

    def due(self, at_rest: bool) -> bool:
        """Whether there is anything to compute."""
        return self._seen != self._now(at_rest)

    def blank(self, at_rest: bool) -> bool:
        """Whether there is no picture yet of what stands now, not even a coarse one."""
        return self._glimpsed != self._now(at_rest)

    def advance(self, at_rest: bool) -> LandscapeView | None:
        """Compute some more; return a picture when there is a better one than before."""
        now = self._now(at_rest)
        if self._sights is None or (at_rest and now != self._subject):
            self._subject, self._sights = now, self._look_around(at_rest)
        try:
            with devices.threads(self._threads):
                sight = next(self._sights)
            self._glimpsed = self._subject if sight else self._glimpsed
            return sight
        except StopIteration:
            self._sights, self._seen = None, self._subject
        except Interrupted:
            self._sights = None
        return None

    def _now(self, at_rest: bool) -> tuple:
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
        u, v, window, name, note = self._directions(model, path, at_rest)
        yield None
        yield from self._true_losses(path, model)
        trail = self._trail(path, model, u, v)
        yield None
        what, unit = DIRECTIONS[name]
        notes = {"axes": {"u": f"{what} u", "v": f"{what} v"}, "units": {"u": unit, "v": unit}, "step": step}
        shown = FRESH - 1 if self._shown else 1  # a picture is never replaced by a much coarser one
        more = {"points": POINTS if at_rest else POINTS_RUNNING, "window": window, "notes": notes}
        for plane in refine(model, self.trainer.loss, self._x, self._y, u, v, **more):
            seen = plane.coarse()
            if len(seen.alpha) <= shown:
                yield None
                continue
            shown, self._shown = len(seen.alpha), True
            yield LandscapeView(seen, trail, step, note)

    def _path(self, step: int, weights: Tensor) -> WeightPath:
        """The way up to a step."""
        before = [k for k, kept in enumerate(self.steps) if kept < step]
        rows = [*(self._weights[k] for k in before), weights]
        return WeightPath(np.array([*(self.steps[k] for k in before), step]), torch.stack(rows))

    def _directions(
        self, model: nn.Module, path: WeightPath, at_rest: bool
    ) -> tuple[Direction, Direction, Window, str, str]:
        """The two directions, how far to look along them, what they are, and a word about them."""
        options = self.options
        note = ""
        if options.directions == "Hessian":
            try:
                if not at_rest and self._searched[1] > PATIENCE:
                    step, seconds = self._searched
                    note = f"The eigenvectors are those of step {step:,}: to find them takes {seconds:.1f} s."
                else:
                    self._search(model, int(path.steps[-1]))
                return *self._curved(model), "Hessian", note
            except (ValueError, RuntimeError) as refusal:  # not finite here, or eigenvalues too close together
                note = f"No eigenvectors: {refusal} So the directions are random."
        if options.directions == "path":
            every = WeightPath(np.array(self.steps), torch.stack(self._weights))
            try:
                u, v, explained, _ = principal_directions(model, every)
                window = window_around(model, u, v, every)
                note = f"These two directions hold {explained[:2].sum():.0%} of the path's spread."
                return u, v, _scaled(window, options.span), "path", note
            except ValueError:
                note = "There is no path to speak of yet, so the directions are random: press Train."
        window = ((-options.span, options.span),) * 2
        u, v = random_directions(model, options.seed)
        try:
            project(path, model, u, v)
        except ValueError:  # with one weight and a bias of 0, all that filters move is one way
            return *random_directions(model, options.seed, "none"), window, "raw", note
        return u, v, window, "random", note

    def _search(self, model: nn.Module, step: int) -> None:
        """Find the eigenvectors of the two greatest eigenvalues."""
        began = time.perf_counter()

        def give_way(slope: Tensor) -> None:  # called in every product
            if self._interrupted():
                raise Interrupted

        def patient(prediction: Tensor, target: Tensor) -> Tensor:
            prediction.register_hook(give_way)
            return self.trainer.loss(prediction, target)

        self._top = eigenpairs(model, patient, self._x, self._y, 2, start=self._top)
        self._searched = step, time.perf_counter() - began

    def _curved(self, model: nn.Module) -> tuple[Direction, Direction, Window]:
        """The two directions of greatest curvature, and a window in which the steeper rises by about 2."""
        reach = 2 / max(float(self._top.values[0]), 1e-12) ** 0.5
        reach = self.options.span * min(reach, float(flat(weights_of(model)).norm()))
        u, v = (shaped(vector, model) for vector in self._top.vectors)
        return u, v, ((-reach, reach),) * 2

    def _true_losses(self, path: WeightPath, model: nn.Module) -> Iterator[None]:
        """Measure every kept place once, and the last one anew: a divergence takes a step's weights back."""
        copy = InPlace(model, (), (Part(self._x, self._y, (self.trainer.loss,)),))
        for k, step in enumerate(path.steps.tolist()):
            if step not in self._losses or k == len(path.steps) - 1:
                self._losses[step] = copy.measure_weights(path.weights[k : k + 1].to(self._place)).item()
                yield None

    def _trail(self, path: WeightPath, model: nn.Module, u: Direction, v: Direction) -> Trajectory:
        """The path on the plane."""
        places, off = project(path, model, u, v)
        on_plane = LossEvaluator(model, self.trainer.loss, self._x, self._y, (u, v)).at(places)["loss"]
        true = np.array([self._losses[step] for step in path.steps.tolist()])
        return Trajectory(path.steps, places[:, 0], places[:, 1], off, true, on_plane)


def _scaled(window: Window, span: float) -> Window:
    """A window made wider or narrower around its middle."""
    middles, halves = ([(high + sign * low) / 2 for low, high in window] for sign in (1, -1))
    return tuple((m - span * h, m + span * h) for m, h in zip(middles, halves, strict=True))
