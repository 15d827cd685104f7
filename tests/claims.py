"""What each notebook claims: the tests hold it against a quick run, `make evidence` against a full one.

A claim is a sentence, what was measured, and what is expected: a value, or one of the ranges below. A list of
numbers (one for each seed) is held one by one.
"""

import math
import statistics
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


def losses(r: dict, full: bool) -> Claims:
    yield "'husker' is refused with the hint", "Did you mean 'huber'?" in r["hint"], True
    yield "network on outliers, mse: distance from the truth, by seed", r["off"]["mse"], above(0.4)
    yield "the same, Huber, by seed", r["off"]["huber"], below(0.2)
    r2 = [statistics.median(r["r2"][name]) for name in ("huber", "mse")]
    yield "test R² of Huber's (truer) curve, of mse's (medians)", r2, RISING
    theory = r["predicted"]["huber"]
    for size in (5, 20, 100, 1000):
        least_squares, huber = [b / (0.1 * size) for b in r["bias"]["mse"][size]], r["bias"]["huber"][size]
        yield f"outliers of M = {size}: bias of least squares over ε·M, by seed", least_squares, near(1, 0.1)
        yield f"M = {size}: the same, mean of seeds", statistics.fmean(least_squares), near(1, 0.05)
        yield f"M = {size}: Huber's bias against theory, by seed", huber, near(theory, 0.2)
        yield f"M = {size}: the same, mean of seeds", statistics.fmean(huber), near(theory, 0.1)
    flat = [max(seed) / min(seed) - 1 for seed in zip(*r["bias"]["huber"].values(), strict=True)]
    yield "Huber's bias changes from M = 5 to 1,000 by, by seed", flat, below(1e-4)
    best = {"gaussian": "mse", "laplace": "L1-like", "contaminated": "huber"}
    yield "the loss that wins under each noise", r["winner"], best
    for noise, (low, _) in r["ahead"].items():
        yield f"{noise} noise: the winner is ahead, 95 % interval begins at", low, above(0)
    gaussian, laplace, contaminated = (r["missed"][noise] for noise in best)
    yield "Gaussian noise: Huber's squared error over that of mse", gaussian["huber"] / gaussian["mse"], between(1, 1.1)
    yield "Laplace noise: mse's squared error over L1's", laplace["mse"] / laplace["L1-like"], between(1.5, 2)
    yield "contaminated noise: mse's over Huber's", contaminated["mse"] / contaminated["huber"], above(5)
    for name, (overhead, _, far) in r["leverage"].items():
        yield f"outlier far out in x, {name}: distance from the truth, by seed", far, above(0.4)
        if name != "mse":
            yield f"outlier over the crowd, {name}: distance from the truth, by seed", overhead, below(0.2)
    p = 1 / (1 + math.exp(8))
    yield "gradient of mse over cross entropy at z = -8: 2 p (1 - p)", r["saturated"], near(2 * p * (1 - p), 1e-12)
    yield "the same of ½ (p - 1)²: p (1 - p)", r["saturated"] / 2, near(3.35e-4, 0.001)
    yield "autograd's ratio apart from 2 p (1 - p), z from -10 to 10", r["saturated_gap"], below(1e-9)
    steps = {name: counts[-1] for name, counts in r["steps_needed"].items()}
    yield "steps from z = -8 by SGD: mse over cross entropy", steps["sgd mse"] / steps["sgd cross_entropy"], above(100)
    yield "the same by Adam", steps["adam mse"] / steps["adam cross_entropy"], between(1, 2)
    for name, scores in r["accuracy"].items():
        ahead = statistics.fmean(scores["cross_entropy"]) - statistics.fmean(scores["mse"])
        yield f"{name}: accuracy, cross entropy minus mse, mean of seeds", ahead, between(-0.03, 0.03)
    slow = r["accuracy_by_rate"][0.001]
    ahead = [c - m for c, m in zip(slow["cross_entropy"], slow["mse"], strict=True)]
    yield "digits at learning rate 0.001: cross entropy minus mse, by seed", ahead, above(0.05)
    by_rate = r["accuracy_by_rate"].values()
    mse, ce = (max(statistics.fmean(t[name]) for t in by_rate) for name in ("mse", "cross_entropy"))
    yield "digits, each at its best rate: cross entropy minus mse", ce - mse, between(-0.03, 0.03)
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
    "03_loss_functions": losses,
    "05_loss_landscapes": landscapes,
}
