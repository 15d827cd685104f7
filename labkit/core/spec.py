"""`Spec`: all choices that make an experiment, with the menus and bounds that controls and reports show too."""

import base64
import binascii
import dataclasses
import json
import os
import reprlib
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from labkit.core.rules import Flag, Menu, Number, Several, Whole, Widths, nearest, refusal


@dataclass(frozen=True)
class Dataset:
    """What is known of a data set before it is made."""

    about: str
    classes: int = 0  # 0 is a regression
    inputs: int = 2  # 0: as the spec says
    size: int = 0  # 0: as the spec says
    all_for_training: bool = False


DATASETS = {
    "circle": Dataset("a disc of one class inside a ring of the other; 2 inputs", classes=2),
    "xor": Dataset("two classes on opposite quadrants; 2 inputs", classes=2),
    "gauss": Dataset("two round clouds, one per class; 2 inputs", classes=2),
    "spiral": Dataset("two spirals wound around each other; 2 inputs", classes=2),
    "moons": Dataset("two half moons, one hooked into the other; 2 inputs", classes=2),
    "plane": Dataset("a tilted plane, regression; 2 inputs", classes=0),
    "bumps": Dataset("hills and hollows, regression; 2 inputs", classes=0),
    "chebyshev": Dataset(
        "20 fixed points of the polynomial T4 on [-1, 1], all trained on, regression; ignores samples, inputs, noise",
        inputs=1,
        size=20,
        all_for_training=True,
    ),
    "digits": Dataset(
        "1,797 real handwritten digits of 8 x 8 pixels; ignores samples and inputs; noise is added to pixels",
        classes=10,
        inputs=64,
        size=1797,
    ),
    "teacher": Dataset(
        "answers of a small fixed random network, noise of known size, regression; any inputs", inputs=0
    ),
}
FEATURES = {  # what the network is given of a point with two coordinates
    "x1": "the first input",
    "x2": "the second input",
    "x1^2": "its square",
    "x2^2": "its square",
    "x1*x2": "their product",
    "sin(x1)": "its sine",
    "sin(x2)": "its sine",
}
PLAIN = ("x1", "x2")
CSV = "csv:"  # dataset="csv:PATH" is a user-supplied table


@dataclass(frozen=True)
class LossOption:
    """What is known of a loss before it is computed."""

    about: str
    classes_only: bool = False  # it compares class probabilities
    options: tuple[str, ...] = ()  # the fields of `Spec` that shape it


@dataclass(frozen=True)
class OptimizerOption:
    """What is known of an optimizer before it is made."""

    about: str
    states: int = 0  # numbers kept for every parameter
    options: tuple[str, ...] = ()  # the fields of `Spec` that shape it


SHAPES = {"constant": "every hidden layer has the same width", "funnel": "the width halves at every layer"}
ACTIVATIONS = {
    "relu": "max(0, z)",
    "tanh": "between -1 and 1, smooth",
    "sigmoid": "between 0 and 1, saturates on both sides",
    "gelu": "a smooth relu",
    "linear": "no activation: the whole network is one linear map",
}
INITS = {
    "he": "normal, variance 2 / fan_in, biases 0 (He et al., 2015)",
    "xavier": "normal, variance 2 / (fan_in + fan_out), biases 0 (Glorot and Bengio, 2010)",
    "pytorch": "PyTorch's default: uniform within 1 / sqrt(fan_in), biases too",
}
LOSSES = {
    "mse": LossOption("mean squared error"),
    "cross_entropy": LossOption("cross entropy of the predicted class probabilities; classes only", classes_only=True),
    "huber": LossOption("squared near 0, absolute beyond huber_delta", options=("huber_delta",)),
}
OPTIMIZERS = {
    "sgd": OptimizerOption("plain gradient descent on a batch"),
    "momentum": OptimizerOption("gradient descent that keeps a share of its last step", 1, ("momentum",)),
    "rmsprop": OptimizerOption("each gradient divided by its recent size", 1),
    "adam": OptimizerOption("momentum and rmsprop together, corrected for their start", 2, ("momentum",)),
    "adamw": OptimizerOption("adam with l2 taken off the weights directly", 2, ("momentum",)),
}
DEVICES = {
    "auto": "CUDA, then MPS, then CPU",
    "cpu": "the processor",
    "cuda": "an NVIDIA GPU",
    "mps": "an Apple GPU",
}


def check_table(name: str, value: str) -> None:
    """Raise `ValueError` when csv:PATH names no file."""
    if not os.path.isfile(value.removeprefix(CSV)):
        raise refusal(name, value, "csv:PATH where PATH is a file that exists", f" Looked in {os.getcwd()}.")


@dataclass(frozen=True)
class DatasetMenu(Menu):
    """The data sets, and a user-supplied table."""

    @property
    def allowed(self) -> str:
        """What it takes, in words."""
        return f"{super().allowed}, or csv:PATH"

    def check(self, name: str, value: object) -> str:
        """Return `value` if it is on the menu, or names a csv file that is there."""
        if not (isinstance(value, str) and value.startswith(CSV)):
            return super().check(name, value)
        check_table(name, value)
        return str(value)


def _choice(default: object, rule: object) -> Any:
    return field(default=default, metadata={"rule": rule})


@dataclass(frozen=True, repr=False)
class Spec:
    """One experiment, complete and repeatable. Every field has a check and a one-line meaning (`RULES`).

    Raises:
        ValueError: naming the field, the value, what is allowed and the nearest match.
    """

    dataset: str = _choice("spiral", DatasetMenu("what the network learns from", DATASETS))
    samples: int = _choice(500, Whole("points in the data set, training and test together", 10, 1_000_000))
    noise: float = _choice(0.1, Number("how far points are jittered, as a share of the pattern's scale", 0, 10))
    train_share: float = _choice(0.8, Number("share of the points used for training", 0.1, 1))
    inputs: int = _choice(2, Whole("number of inputs, for the teacher data set", 1, 100_000))
    features: tuple[str, ...] = _choice(PLAIN, Several("what the network is given of two inputs", FEATURES))
    depth: int = _choice(3, Whole("hidden layers; 0 is a linear model", 0, 100))
    width: int | tuple[int, ...] = _choice(
        16, Widths("units in a hidden layer, or in each of them (in the first one of a funnel)", 1, 100_000)
    )
    shape: str = _choice("constant", Menu("how the width changes from layer to layer", SHAPES))
    activation: str = _choice("tanh", Menu("what each hidden unit does to its sum", ACTIVATIONS))
    init: str = _choice("he", Menu("how the first weights are drawn", INITS))
    residual: bool = _choice(False, Flag("add each hidden layer's input to its output"))
    loss: str = _choice("cross_entropy", Menu("what training makes small", LOSSES))
    huber_delta: float = _choice(1.0, Number("where Huber turns from squared to absolute", 0, 1e6, open_low=True))
    l1: float = _choice(0.0, Number("penalty on the weights' absolute values: adds l1·sign(w) to the gradient", 0, 10))
    l2: float = _choice(0.0, Number("penalty on the weights' squares: adds l2·w to the gradient", 0, 10))
    optimizer: str = _choice("adam", Menu("how a gradient becomes a step", OPTIMIZERS))
    lr: float = _choice(0.01, Number("learning rate: the size of a step; changes on the way", 0, 1e20, open_low=True))
    momentum: float = _choice(0.9, Number("share of the last step that is kept; Adam's beta1", 0, 1, open_high=True))
    batch_size: int = _choice(32, Whole("training samples per step; 0 is all of them", 0, 1_000_000))
    steps: int = _choice(2000, Whole("updates of the weights; stop here", 1, 10_000_000))
    seed: int = _choice(0, Whole("drives the data, the first weights and the batch order", 0, 2**32 - 1))
    device: str = _choice("auto", Menu("where it is computed", DEVICES))

    def __post_init__(self) -> None:
        for name, rule in RULES.items():
            object.__setattr__(self, name, rule.check(name, getattr(self, name)))
        check_widths(self.width, self.depth, self.shape)
        if self.known:
            check_features(self.features, self.known.inputs)
        if LOSSES[self.loss].classes_only and self.known and not self.known.classes:
            raise ValueError(
                f"loss={self.loss!r} is not allowed on dataset={self.dataset!r}: {self.loss.replace('_', ' ')} "
                f"compares class probabilities and this is a regression. {FOR_REGRESSION}"
            )
        if self.known:
            check_batch(self.batch_size, self.training_samples, " For data of your own, set samples to their number.")

    @property
    def known(self) -> Dataset | None:
        """What is known of the data set before it is read; nothing of a csv."""
        return DATASETS.get(self.dataset)

    @property
    def training_samples(self) -> int:
        """How many samples are trained on; for a csv, only its reading tells."""
        known = DATASETS[self.dataset]
        return known.size if known.all_for_training else share_of(known.size or self.samples, self.train_share)

    @property
    def hidden(self) -> tuple[int, ...]:
        """Units in each hidden layer."""
        if isinstance(self.width, tuple):
            return self.width
        if self.shape == "constant":
            return (self.width,) * self.depth
        return tuple(max(1, self.width >> layer) for layer in range(self.depth))

    def but(self, **changes: object) -> "Spec":
        """Return a copy with some choices changed.

        Raises:
            ValueError: if a value is not allowed, or a name is not a field.
        """
        for name in changes.keys() - RULES.keys():
            raise ValueError(f"{name!r} is not a choice of Spec: {', '.join(RULES)}.{nearest(name, list(RULES))}")
        choices = {name: getattr(self, name) for name in RULES} | changes
        return Spec(**choices) if "dataset" in changes else Spec.remembered(choices)  # a csv may have moved since

    @property
    def changed(self) -> dict[str, object]:
        """The choices that differ from the defaults."""
        return {name: getattr(self, name) for name in RULES if getattr(self, name) != getattr(Spec, name)}

    def share(self) -> str:
        """Return a short, versioned, URL-safe string that `from_share` turns back into this spec."""
        packed = json.dumps(self.changed, separators=(",", ":")).encode()
        guarded = packed + zlib.crc32(packed).to_bytes(4, "big")
        return VERSION + base64.urlsafe_b64encode(guarded).decode().rstrip("=")

    @classmethod
    def from_share(cls, text: str) -> "Spec":
        """Return the spec that `share` wrote.

        Raises:
            ValueError: if the text is not a share string, is damaged, or holds a value that is not allowed.
        """
        if not isinstance(text, str) or not text.strip().startswith(VERSION):
            shown = reprlib.repr(text)
            raise ValueError(f"{shown} is not a share string of this lab: those begin with {VERSION!r}. Copy it whole.")
        try:
            body = text.strip().removeprefix(VERSION)
            guarded = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
            packed, check = guarded[:-4], guarded[-4:]
            choices = json.loads(packed)
            whole = zlib.crc32(packed).to_bytes(4, "big") == check and isinstance(choices, dict)
            if not whole or base64.urlsafe_b64encode(guarded).decode().rstrip("=") != body:
                raise binascii.Error  # the last test: one string for a spec, although base64 has spare bits
        except (ValueError, RecursionError):  # not base64, not ASCII, not JSON, or not what share wrote
            raise ValueError(f"the share string {reprlib.repr(text)} is damaged. Copy it again, whole.") from None
        return cls().but(**choices)

    @classmethod
    def remembered(cls, choices: Mapping[str, Any]) -> "Spec":
        """Return the spec of a run of the past, whose csv may have moved since.

        Raises:
            ValueError: if a value is not allowed.
        """
        if not str(choices["dataset"]).startswith(CSV):
            return cls(**choices)
        spec = object.__new__(cls)
        for name, rule in RULES.items():
            value = choices.get(name, getattr(cls, name))  # a run of the past does not have the newest fields
            object.__setattr__(spec, name, value if name == "dataset" else rule.check(name, value))
        check_widths(spec.width, spec.depth, spec.shape)
        return spec

    @classmethod
    def article(cls) -> "Spec":
        """The article's network and training loop: 1024-512-256-128-64-32-16-1, all its data in every step."""
        return cls(
            dataset="teacher", inputs=1024, samples=320, depth=6, width=512, shape="funnel", activation="relu",
            init="pytorch", loss="mse", optimizer="adam", lr=0.001, batch_size=0, steps=100,
        )  # fmt: skip

    def code(self) -> str:
        """Return the Python that makes this spec."""
        return f"labkit.Spec({', '.join(f'{name}={value!r}' for name, value in self.changed.items())})"

    def __repr__(self) -> str:
        units = "-".join(map(str, self.width)) if isinstance(self.width, tuple) else self.width
        hidden = f"{self.depth} hidden layer{'s' * (self.depth > 1)} of {units} {self.activation}"
        layers = hidden if self.depth else "a linear model"
        layers += ", a funnel" if self.shape == "funnel" and self.depth else ""
        batch = f"batches of {self.batch_size}" if self.batch_size else "all samples in every step"
        return (
            f"Spec: {self.dataset}, {layers}, {self.loss} by {self.optimizer} at lr {self.lr:g}, {batch}, "
            f"{self.steps:,} steps, seed {self.seed}, on {self.device}"
        )


RULES: dict[str, Any] = {each.name: each.metadata["rule"] for each in dataclasses.fields(Spec)}  # name → its check
FOR_REGRESSION = "Take " + " or ".join(f"loss={name!r}" for name in LOSSES if not LOSSES[name].classes_only) + "."
LATER: tuple[str, ...] = (
    "features",
)  # fields that version 0.1 did not have: a checkpoint is found where these are at default
VERSION = "lab1."  # a share string leaves out the defaults: change a default and this must change too


def share_of(size: int, share: float) -> int:
    """How many of `size` samples a share takes: at least one."""
    return max(1, round(size * share))


def check_features(features: tuple[str, ...], inputs: int) -> None:
    """Raise `ValueError` when features are asked for of data that have no two inputs."""
    if features != PLAIN and inputs != 2:
        raise ValueError(
            f"features={features} is not allowed: they are made of two inputs and these data have {inputs or 'more'}. "
            f"Leave features at {PLAIN}, or take data with two inputs."
        )


def check_widths(width: int | tuple[int, ...], depth: int, shape: str) -> None:
    """Raise `ValueError` when widths of single layers do not suit the other choices."""
    if isinstance(width, int):
        return
    if len(width) != depth:
        raise ValueError(
            f"width={width} is not allowed with depth={depth}: it names {len(width)} layers. Give one number for all "
            f"layers, or {depth} numbers."
        )
    if shape != "constant":
        raise ValueError(
            f"width={width} is not allowed with shape={shape!r}: that narrows one width by itself. Take "
            "shape='constant', or one number."
        )


def check_batch(batch_size: int, training_samples: int, hint: str = "") -> None:
    """Raise `ValueError` when a batch asks for more samples than there are to train on."""
    if batch_size > training_samples:
        raise ValueError(
            f"batch_size={batch_size} is not allowed: there are {training_samples:,} training samples. "
            f"Take 1 to {training_samples:,}, or 0 for all of them.{hint}"
        )
