"""What each notebook claims: the tests hold it against a quick run, `make evidence` against a full one.

A claim is a sentence, what was measured, and what is expected: a value, or one of the ranges below. A list of
numbers (one for each seed) is held one by one.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import NamedTuple

import labkit
from labkit.spec import Spec

Claims = Iterator[tuple[str, object, object]]


class Range(NamedTuple):
    """What a measured number may be."""

    text: str
    allows: Callable[[object], bool]
    whole: bool = False  # judges a list as a whole

    def __str__(self):
        return self.text


def between(low, high):
    return Range(f"{low:.4g} to {high:.4g}", lambda value: low <= value <= high)


def near(value, relative):
    low, high = sorted((value * (1 - relative), value * (1 + relative)))
    return Range(f"{value:.4g} ± {relative:.3g} of it", lambda measured: low <= measured <= high)


def below(limit):
    return Range(f"below {limit:.4g}", lambda value: value < limit)


def above(limit):
    return Range(f"above {limit:.4g}", lambda value: value > limit)


RISING = Range("each above the last", lambda values: all(a < b for a, b in pairwise(values)), whole=True)
FALLING = Range("each below the last", lambda values: all(a > b for a, b in pairwise(values)), whole=True)


def holds(measured: object, expected: object) -> bool:
    """Whether what was measured is what is expected; an empty list shows nothing."""
    if not isinstance(expected, Range):
        return measured == expected
    if expected.whole or not isinstance(measured, list):
        return expected.allows(measured)
    return bool(measured) and all(expected.allows(value) for value in measured)


def start_here(r: dict, full: bool) -> Claims:
    yield "the live lab and `train` give the same numbers", r["live_equals_plain"], True
    yield "nothing diverged", r["diverged"], None
    yield "training lowers the test loss", [r["first_loss"], r["test_loss"]], FALLING
    yield "test accuracy after 200 steps", r["test_accuracy"], above(0.6)


def playground(r: dict, full: bool) -> Claims:
    yield "test accuracy on the spirals", r["score"], between(0.95, 1)
    yield "nothing diverged", r["diverged"], None
    yield "training lowers the test loss", [r["first_loss"], r["test_loss"]], FALLING
    yield "parameters", r["parameters"], labkit.cost(Spec()).parameters
    yield "accuracy without a hidden layer", r["median_by_depth"][0], below(0.75)
    yield "accuracy with three hidden layers", r["median_by_depth"][3], above(0.95)
    by_loss = r["median_by_loss"]
    yield "losses tried", sorted(by_loss), ["cross_entropy", "huber", "mse"]
    yield "the losses differ by", max(by_loss.values()) - min(by_loss.values()), below(0.05)
    yield "accuracy of SGD at its best learning rate", max(r["median_of_sgd_by_lr"].values()), between(0.95, 1)


def networks(r: dict, full: bool) -> Claims:
    yield "parameters of the article's network", r["parameters"], 699_905
    yield "of them weights, biases", [r["weights"], r["biases"]], [698_896, 1_009]
    yield "megabytes in float32, bfloat16, int8", list(r["megabytes"].values()), [2.8, 1.4, 0.7]
    yield "FLOPs of its training step at batch 256", r["flops_step"], 805_068_800
    yield "networks whose parameters and FLOPs PyTorch counts alike", r["networks_agreed"], 301 if full else 31
    kept = {"sgd": 0, "momentum": 1, "rmsprop": 1, "adam": 2, "adamw": 2}
    yield "numbers that torch.optim keeps for a parameter", r["kept_by_optimizer"], kept
    yield "first layer's share of the article's parameters", r["first_layer"], near(0.75, 0.01)
    yield "twice the width: times the parameters", r["growth"]["width"], between(3.5, 4)
    yield "a first-layer unit is a flat slope (R²)", r["straight"][0], above(0.9999)
    yield "units of deeper layers are not (median R²)", r["straight"][1:], below(0.9)
    discs = r["accuracy_by_units"]
    yield "disc in a ring, 2 hidden units: accuracy by seed", discs[2], below(0.9)
    yield "disc in a ring, 3 hidden units: accuracy by seed", discs[3], above(0.9)
    yield "straight cut after the last hidden layer, trained, by seed", [t[-1] for t in r["cut_trained"]], above(0.9)
    yield "the same, untrained, by seed", [t[-1] for t in r["cut_untrained"]], below(0.8)
    seven = r["by_hand"]["7 inputs, linear"]
    by_hand = seven["circle"] + seven["xor"] + seven["moons"]
    yield "linear with features by hand: circle, xor, moons, by seed", by_hand, above(0.95)
    yield "the same on the spirals, by seed", seven["spiral"], below(0.75)
    names = {"pytorch": (1 / 6, "PyTorch's default"), "xavier": (1 / 2, "Xavier"), "he": (1.0, "He")}
    for init, (rule, name) in names.items():
        yield f"near inputs: variance per layer, by seed: {name}", r["near"][init], near(rule, 0.1)
        if full:
            yield f"the same, layer by layer, mean of seeds: {name}", r["near_by_layer"][init], near(rule, 0.1)
        mean = sum(r["square_without_biases"][init]) / len(r["square_without_biases"][init])
        yield f"no biases: mean square per layer, mean of seeds: {name}", mean, near(rule, 0.1)
        yield f"far inputs: variance per layer, by seed: {name}", r["varies"][init], below(0.95 * rule)
    yield "PyTorch's default comes to rest at a mean square × n of", r["floor"], near(0.4, 0.1 if full else 0.2)
    share, theory = r["depends"]["he"][3], r["depends_by_theory"][3]
    yield "He: share of layer 4 that depends on the input, against theory", share, near(theory, 0.1)
    yield "the same in the last layer, PyTorch's default", r["depends"]["pytorch"][-1], below(1e-5)
    yield "nothing diverged", r["diverged"], None


def landscapes(r: dict, full: bool) -> Claims:
    yield "a cell against the model moved there by hand", r["cell_apart"], below(1e-5)
    yield "same function stretched: raw pictures apart by", r["apart_raw"], above(0.1)
    yield "same function stretched: filter-normalised pictures apart by", r["apart_filter"], below(1e-4)
    yield "basin of width 4, 16, 64", list(r["basin_by_width"].values()), RISING
    yield "basin of batch size 8, 32, all", list(r["basin_by_batch"].values()), FALLING
    yield "basin of Adam, of SGD", [r["basin_by_optimizer"][name] for name in ("adam", "sgd")], RISING
    yield "share of three paths' spread on their common plane", r["explained"], above(0.5)
    yield "Adam's end: the plane's loss over the true loss", r["misled"]["adam"], above(100)
    yield "edge of stability: sharpness × learning rate / 2", r["edge"], between(0.95, 1.05)
    barriers = r["barriers"]
    yield "barrier of the trained curve over the straight line's", barriers["curve"] / barriers["straight"], below(0.05)
    yield "barrier after matching units over before", barriers["matched"] / barriers["straight"], below(0.5)


CLAIMS = {
    "00_start_here": start_here,
    "01_playground": playground,
    "02_networks_and_parameters": networks,
    "05_loss_landscapes": landscapes,
}
