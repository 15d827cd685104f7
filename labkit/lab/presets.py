"""Experiments that show something, for the menu of the screen."""

from typing import Any, NamedTuple

from labkit.core.spec import Spec


class Preset(NamedTuple):
    """One experiment: its name on the menu, what to look at, and what differs from the defaults."""

    label: str
    about: str
    changes: dict[str, Any]

    @property
    def spec(self) -> Spec:
        """The experiment."""
        return Spec(**self.changes)


PRESETS = {
    "few_weights": Preset(
        "spirals with few weights", "74 parameters are enough, if they are patient",
        {"depth": 2, "width": (8, 4), "lr": 0.02, "steps": 4000},
    ),
    "linear": Preset(
        "no activation", "however deep, a linear network draws one straight line",
        {"activation": "linear", "dataset": "circle", "depth": 4, "width": 8},
    ),
    "squares": Preset(
        "the right inputs", "with x1² and x2² a circle needs no hidden layer",
        {"dataset": "circle", "depth": 0, "features": ("x1^2", "x2^2")},
    ),
    "dead_relu": Preset(
        "dead ReLUs", "too large a step: units answer 0 everywhere and never come back",
        {"activation": "relu", "optimizer": "sgd", "lr": 3.0, "dataset": "moons", "depth": 2, "width": 8},
    ),
    "edge": Preset(
        "a learning rate at the edge", "the loss jumps and falls again: lower the rate while it runs",
        {"optimizer": "momentum", "lr": 0.3, "dataset": "circle", "depth": 2, "width": 8},
    ),
    "blow_up": Preset(
        "a learning rate too large", "the loss leaves every bound within a few steps",
        {"dataset": "bumps", "loss": "mse", "optimizer": "sgd", "lr": 30.0},
    ),
    "overfit": Preset(
        "overfitting 30 points", "the training loss goes to 0 and the test loss rises",
        {"samples": 60, "train_share": 0.5, "noise": 0.4, "dataset": "moons", "depth": 3, "width": 32, "batch_size": 0},
    ),
    "decay": Preset(
        "the same, held back", "l2 keeps the weights small and the border simple",
        {
            "samples": 60, "train_share": 0.5, "noise": 0.4, "dataset": "moons", "depth": 3, "width": 32,
            "batch_size": 0, "l2": 0.03,
        },
    ),
    "one_sample": Preset(
        "one point at a time", "batches of one: quick and noisy, the article's SGD",
        {"batch_size": 1, "optimizer": "sgd", "lr": 0.05, "dataset": "moons", "depth": 2, "width": 8},
    ),
    "saturated": Preset(
        "many sigmoids", "deep stacks of them hardly pass a gradient on",
        {"activation": "sigmoid", "depth": 6, "width": 8, "optimizer": "sgd", "lr": 0.1},
    ),
    "shortcuts": Preset(
        "twelve layers with shortcuts", "a residual network of depth 12 trains as easily as one of 3",
        {"depth": 12, "width": 8, "residual": True, "steps": 1500},
    ),
    "digits": Preset(
        "handwritten digits", "64 pixels, ten classes: which ones are mistaken for which?",
        {"dataset": "digits", "depth": 1, "width": 16, "activation": "relu", "steps": 1500},
    ),
    "article": Preset(
        "the article's curve", "20 points of a polynomial by mean squared error",
        {"dataset": "chebyshev", "loss": "mse", "batch_size": 0, "depth": 2, "width": 16, "lr": 0.01},
    ),
}  # fmt: skip
