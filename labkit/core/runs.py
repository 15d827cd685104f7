"""A `Run` and how to make one: `train` for one spec, a list, a module; saving and loading."""

import math
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import asdict, dataclass, fields
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm  # in text: the bars of tqdm.auto leave their widgets in the notebook

from labkit.core.checkpoints import checkpointing
from labkit.core.data import Split
from labkit.core.losses import Loss
from labkit.core.memory import ensembles
from labkit.core.network import count, to_module, torch_order
from labkit.core.predictions import Picture, Points, for_plot, points_of
from labkit.core.recipes import Change, planned, recipe
from labkit.core.spec import PLAIN, Spec
from labkit.core.trainer import Trainer, divergence
from labkit.storage import tensor_folder

UPDATES = 100  # of the progress bar, in a blocking call


@dataclass(frozen=True, repr=False)
class WeightPath:
    """Weights along the way.

    Attributes:
        steps: when they were kept.  # (S,)
        weights: in the order of `nn.utils.parameters_to_vector(run.model().parameters())`, of a
            user-supplied module the parameters that were trained.  # (S, P)
    """

    steps: np.ndarray
    weights: Tensor

    def __repr__(self) -> str:
        return f"WeightPath: {len(self.steps)} points in a space of {self.weights.shape[1]:,} weights"


@dataclass(frozen=True, repr=False, eq=False)
class Run:
    """What a training left: its numbers, its data and its networks.

    Attributes:
        spec: The choices.
        data: The data as the network saw them, on the CPU.
        loss: Training loss before each update, without penalties, up to a divergence.  # (steps,)
        test_step: The steps of the evaluations.  # (evaluations,)
        test_loss: Loss on the test set; nan where there is none.  # (evaluations,)
        score: Its accuracy or R²; the training set's where there is no test set.  # (evaluations,)
        seconds: Time spent training alone; of a member of a list, its whole ensemble's.
        diverged: None, or the step at which the loss was no longer finite.
        where: The kind of device: cpu, cuda or mps.
        way: "kernel" for the compiled loop, whose bits are the same on every machine, or "torch".
        lr_changes: (step, learning rate) for every change on the way.
        edits: (step, {"w1.2.3": value}) for every edited weight (layer, from, to) or bias ("b1.3"), from 1.
        path: Weights along the way, when asked for.
        own: Which of "data" and "model" were user-supplied.
    """

    spec: Spec
    data: Split
    loss: np.ndarray
    test_step: np.ndarray
    test_loss: np.ndarray
    score: np.ndarray
    seconds: float
    diverged: int | None
    where: str
    way: str
    lr_changes: tuple[tuple[int, float], ...]
    edits: tuple[tuple[int, dict[str, float]], ...]
    path: WeightPath | None
    own: tuple[str, ...]
    _final: Callable[[], nn.Module]  # makes a copy: of a list of runs, few are asked for their networks
    _initial: Callable[[], nn.Module]

    def model(self) -> nn.Module:
        """Return a copy of the trained network, on the CPU: a plain `nn.Sequential` where there is no residual.

        It reads scaled inputs (`run.data.scale(x)`) and answers scaled targets; `predict` does both for you.
        """
        return self._final()

    def initial_model(self) -> nn.Module:
        """Return a copy of the network before its first step."""
        return self._initial()

    @property
    def loss_fn(self) -> Loss:
        """The loss as a callable (prediction, target) → scalar."""
        return Loss.of(self.spec)

    @cached_property
    def steps(self) -> int:
        """How many updates were made with a finite loss."""
        return len(self.loss)

    @property
    def score_name(self) -> str:
        """What `score` is, and of which part of the data."""
        return score_name(self.data)

    def predict(self, x: object) -> np.ndarray:
        """Return the network's answers to raw inputs, scaling included, for a regression in raw units.

        Args:
            x: Raw inputs.  # (N, inputs)

        Returns:
            Values of a regression (N, 1), or logits of classes (N, outputs).

        Raises:
            ValueError: if the inputs have another width than the data.
        """
        x = torch.as_tensor(np.asarray(x, dtype=np.float64))  # a timestamp has more digits than a float32
        if x.ndim != 2 or x.shape[1] != self.data.raw_inputs:
            raise ValueError(f"x has shape {tuple(x.shape)}; this run takes (N, {self.data.raw_inputs}).")
        with torch.no_grad():
            answer = self.model().eval()(self.data.scale(x))
        if self.data.classes:
            return np.asarray(answer)
        return np.asarray(answer.double() * self.data.y_scale + self.data.y_mean)

    def classify(self, x: object) -> np.ndarray:
        """Return the class number that each raw input is given; labels as in a user-supplied table."""  # (N,)
        if not self.data.classes:
            raise ValueError(f"{self.spec.dataset} is a regression and has no classes; use run.predict(x).")
        answer = self.predict(x)
        number = (answer[:, 0] > 0).astype(int) if answer.shape[1] == 1 else answer.argmax(1)
        labels = np.asarray(self.data.labels or range(self.data.classes))
        return np.asarray((labels.astype(int) if (labels == labels.round()).all() else labels)[number])

    def picture(self, points: int = 80) -> Picture:
        """Return predictions, ready to plot: a map, a curve, a confusion matrix or a scatter."""
        with torch.no_grad():
            return for_plot(self.data, self.model().eval(), points)

    def points(self) -> Points:
        """Return the data as a map or a curve shows them."""
        return points_of(self.data)

    def divergence(self) -> str:
        """Say how the run diverged, or nothing if it did not."""
        return divergence(self.diverged, self.loss)

    def code(self) -> str:
        """Return the Python that makes this run again."""
        return recipe(self.spec.but(steps=max(1, self.steps)), self.lr_changes, self.own, self.edits)

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write the run to a folder as safetensors and JSON; an earlier one there goes only once this one is whole.

        Raises:
            FileExistsError: if the folder is there and holds something else than a run.
        """
        return tensor_folder.write(folder, "run", self._tensors(), self._facts())

    def _tensors(self) -> dict[str, Tensor]:
        """Every array of the run under a name of its own."""
        arrays = {f"history.{name}": torch.as_tensor(getattr(self, name)) for name in HISTORY}
        tensors = {f"data.{name}": getattr(self.data, name) for name in TENSORS}
        for name, copy in (("final", self._final), ("initial", self._initial)):
            tensors |= {f"{name}.{key}": value for key, value in copy().state_dict().items()}
        if self.path:
            arrays |= {"path.steps": torch.as_tensor(self.path.steps), "path.weights": self.path.weights}
        return {**arrays, **tensors}

    def _facts(self) -> dict[str, Any]:
        """Everything of the run that is no array."""
        data = {name: getattr(self.data, name) for name in ("classes", "y_mean", "y_scale", "labels", "features")}
        kept = ("seconds", "diverged", "where", "way", "lr_changes", "edits", "own")
        own = {name: getattr(self, name) for name in kept}
        made = {"torch": torch.__version__, "model": repr(self.model()), "spec": asdict(self.spec)}
        return {**made, "data": data, **own}

    def __repr__(self) -> str:
        made_of = repr(self.spec)
        if "data" in self.own:
            made_of = made_of.replace(f"Spec: {self.spec.dataset},", "Spec: own data,")
        if self.diverged is not None:
            return f"Run: {self.divergence()} ({made_of})"
        end = f"test loss {self.test_loss[-1]:.4g}, " if np.isfinite(self.test_loss[-1]) else ""
        return (
            f"Run: {end}{self.score_name} {self.score[-1]:.3f} after {self.steps:,} steps "
            f"in {self.seconds:.2f} s on {self.where}{WAYS[self.way]} ({made_of})"
        )


def score_name(split: Split) -> str:
    """Say what the score of a training is: without a test set it is the training set's."""
    return ("test " if len(split.x_test) else "training ") + ("accuracy" if split.classes else "R²")


WAYS = {"kernel": " by the compiled loop", "torch": ""}
HISTORY = ("loss", "test_step", "test_loss", "score")
TENSORS = tuple(f.name for f in fields(Split) if f.type is Tensor)


def load_run(folder: str | os.PathLike[str], model: nn.Module | None = None) -> Run:
    """Read a run that `Run.save` wrote.

    Args:
        folder: Where it is.
        model: For a run of a user-supplied module, one of the same architecture.

    Raises:
        ValueError: if the folder holds no run, or the run is damaged.
    """
    tensors, facts = tensor_folder.read(folder, "run")
    spec = Spec.remembered(facts["spec"])
    there = {name: tensors[f"data.{name}"] for name in TENSORS if f"data.{name}" in tensors}
    parts: dict[str, Any] = {"features": PLAIN} | facts["data"] | there  # version 0.1 knew no features
    data = Split(**parts | {name: tuple(parts[name]) for name in ("labels", "features")})
    path = WeightPath(tensors["path.steps"].numpy(), tensors["path.weights"]) if "path.steps" in tensors else None
    made: dict[str, Any] = {name: tensors[f"history.{name}"].numpy() for name in HISTORY}
    made |= {name: facts[name] for name in ("seconds", "diverged", "where")}
    for name in ("final", "initial"):
        state = {k.removeprefix(f"{name}."): v for k, v in tensors.items() if k.startswith(f"{name}.")}
        made[f"_{name}"] = partial(deepcopy, _rebuild(spec, data, deepcopy(model), state, facts["model"]))
    changes = tuple((step, lr) for step, lr in facts["lr_changes"])
    edits = tuple((step, edit) for step, edit in facts.get("edits", ()))
    made |= {"way": facts.get("way", "torch"), "edits": edits}  # which runs of version 0.1 do not say
    return Run(spec=spec, data=data, path=path, lr_changes=changes, own=tuple(facts["own"]), **made)


def _rebuild(spec: Spec, data: Split, model: nn.Module | None, state: dict[str, Tensor], saved: str) -> nn.Module:
    widths = (data.inputs, *spec.hidden, data.outputs)
    try:
        if model is None:
            model = to_module(widths, spec.activation, torch.empty(count(widths)), residual=spec.residual)
            if repr(model) != saved:  # the same names and shapes do not make the same model
                raise RuntimeError
        model.load_state_dict(state)
    except RuntimeError:
        raise ValueError("this run is of a model of its own: load_run(folder, model=…) needs one like it.") from None
    return model


def train(
    spec: Spec | Sequence[Spec],
    *,
    model: nn.Module | None = None,
    data: tuple[Any, Any] | None = None,
    snapshots: int = 0,
    lr_changes: Sequence[tuple[int, float | Sequence[float]]] = (),
    changes: Sequence[tuple[int, dict[str, float]]] = (),
    checkpoint: str | os.PathLike[str] | None = None,
) -> Run | list[Run]:
    """Train, and return the same numbers that the live lab shows.

    Args:
        spec: One spec, or a list: those that share a shape are trained together, as one ensemble.
        model: Any `nn.Module` in place of the spec's network; a deep copy is trained, by autograd.
        data: Your own `(x, y)`, split and scaled as the spec says.
        snapshots: How many times along the way the weights are kept, for `run.path`.
        lr_changes: (step, learning rate) for every change on the way; for a list of specs the learning rate may be
            a list as well, one for each spec: [(500, [each.lr / 10 for each in specs])].
        changes: (step, {"lr": 0.003, "w1.2.3": 0.5, "b2.1": 0}) for everything that a person did to a live run:
            learning rates, weights (layer, from, to) and biases (layer, unit), counted from 1.
        checkpoint: A folder. Where training stands is kept there now and then, and the same call goes on from there
            after whatever stopped it, to the same numbers; with a larger `steps` it trains on.

    Returns:
        A `Run`; for a list, a list in the same order.

    Raises:
        ValueError: if a choice, the data or the model cannot be used.
        DoesNotFit: if a run needs more memory than its device has free.
        OutputLocked: if another process trains the same with the same checkpoints.
    """
    specs = list(spec) if isinstance(spec, Iterable) else [spec]
    for each in specs:
        if not isinstance(each, Spec):
            raise ValueError(f"train takes a Spec or a list of them, not {each!r}. Write labkit.Spec(…).")
    steps = planned(lr_changes, changes, None if isinstance(spec, Spec) else len(specs))
    groups = ensembles(specs, own_data=data is not None, own_model=model is not None)
    runs: dict[int, Run] = {}
    total = sum(specs[group[0]].steps for group in groups)
    with progress(total=total, unit="step") as bar:
        for group in groups:
            trainer = Trainer([specs[place] for place in group], data=data, model=model, snapshots=snapshots)
            theirs = [(step, [it[place] for place in group] if isinstance(it, list) else it) for step, it in steps]
            with nullcontext() if checkpoint is None else checkpointing(checkpoint, trainer, theirs) as offer:
                _advance(trainer, theirs, bar, offer)
            for member, place in enumerate(group):
                runs[place] = run_of(trainer, member)
    return runs[0] if isinstance(spec, Spec) else [runs[place] for place in range(len(specs))]


def progress(steps: Iterable[Any] | None = None, **options: object) -> tqdm:
    """Return a bar of tqdm's that comes up after two seconds and goes once all is done.

    Args:
        steps: What it counts, if it is not moved by hand.
        options: As tqdm has them: unit, total, initial.
    """
    return tqdm(steps, delay=2, leave=False, file=bar_place(), **options)


def bar_place() -> TextIO:
    """Where a bar goes; a notebook would leave an empty box of errors behind one on stderr."""
    return sys.stdout if "ipykernel" in sys.modules else sys.stderr


def _advance(trainer: Trainer, changes: list[Change], bar: tqdm, offer: Callable[[], None] | None) -> None:
    """Train to the end, pausing to move the bar, to change the learning rate and to offer a checkpoint."""
    for edit in (change for _, change in changes if isinstance(change, dict)):
        trainer.check_edit(edit)  # now, and not once hours are spent
    changes = [change for change in changes if change[0] >= trainer.step]  # earlier ones are made
    bar.update(trainer.step)
    blocks = 1 if offer else max(1, trainer.total // (UPDATES * trainer.block))
    stride = trainer.block * blocks  # a CUDA graph replays whole blocks
    while not trainer.done:
        while changes and changes[0][0] <= trainer.step:
            _, change = changes.pop(0)
            if isinstance(change, dict):
                trainer.edit(change)
            else:
                trainer.set_lr(change)
        before = trainer.step
        steps = stride - before % stride
        trainer.advance(min(steps, changes[0][0] - before) if changes else steps)
        bar.update(trainer.step - before)
        if offer:
            offer()


def run_of(trainer: Trainer, member: int = 0) -> Run:
    """Return where a trainer stands as a `Run`; the trainer can go on."""
    trainer.finish()
    spec, split, diverged = trainer.specs[member], trainer.splits[member], trainer.diverged[member]
    end = math.inf if diverged is None else max(1, diverged)
    evaluations = [each for each in trainer.evaluations if each.step < end]
    path = None
    if trainer.history.snapshots:
        order = slice(None) if "model" in trainer.own else torch_order(trainer.widths)
        kept = [(step, theta[member, order]) for step, theta in trainer.history.snapshots if step < end]
        path = WeightPath(np.array([step for step, _ in kept]), torch.stack([theta for _, theta in kept]))
    return Run(
        spec=spec if spec.steps == trainer.total else spec.but(steps=trainer.total),
        data=split,
        loss=trainer.loss_of(member).numpy().copy(),
        test_step=np.array([each.step for each in evaluations]),
        test_loss=np.array([float(each.loss[member]) for each in evaluations]),
        score=np.array([float(each.score[member]) for each in evaluations]),
        seconds=trainer.seconds,
        diverged=diverged,
        where=trainer.device.device.type,
        way=trainer.stepper.way,
        edits=tuple(trainer.edits),
        lr_changes=tuple((step, lr[member] if isinstance(lr, list) else lr) for step, lr in trainer.lr_changes),
        path=path,
        own=trainer.own,
        _final=trainer.copies_of(member),
        _initial=trainer.copies_of(member, initial=True),
    )
