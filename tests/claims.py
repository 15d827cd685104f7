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
from labkit.core.spec import Spec

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


def says(words):
    return Range(f"says {words!r}", lambda sentence: words in sentence)


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
    yield "accuracy with layers of 2 units", r["median_by_width"][2], below(0.8)
    yield "accuracy with layers of 16 units", r["median_by_width"][16], above(0.95)
    yield "accuracy of SGD at Adam's learning rate", r["median_by_optimizer"]["sgd"], below(0.8)
    by_loss = r["median_by_loss"]
    yield "losses tried", sorted(by_loss), ["cross_entropy", "huber", "mse"]
    yield "the losses differ by", max(by_loss.values()) - min(by_loss.values()), below(0.05)
    yield "accuracy of SGD at its best learning rate", max(r["median_of_sgd_by_lr"].values()), between(0.95, 1)
    yield "the live lab and `train` give the same numbers", r["live_equals_plain"], True


def networks(r: dict, full: bool) -> Claims:
    yield "parameters of the article's network", r["parameters"], 699_905
    yield "of them weights, biases", [r["weights"], r["biases"]], [698_896, 1_009]
    yield "megabytes in float32, bfloat16, int8", list(r["megabytes"].values()), [2.8, 1.4, 0.7]
    stored = {"float32": 4 * 699_905, "bfloat16": 2 * 699_905}
    yield "bytes that PyTorch stores", r["stored"], stored
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
    yield "the live lab and `train` give the same numbers", r["live_equals_plain"], True
    yield "nothing diverged", r["diverged"], None


def losses(r: dict, full: bool) -> Claims:
    yield "'husker' is refused with the hint", "Did you mean 'huber'?" in r["hint"], True
    yield "our Huber loss and the lab's: apart by", r["huber_off"], below(1e-6)
    farther = [mse / huber for mse, huber in zip(r["off"]["mse"], r["off"]["huber"], strict=True)]
    yield "network on outliers: distance from the truth, mse over Huber, median", statistics.median(farther), above(3)
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
    yield "the live lab and `train` give the same numbers", r["live_equals_plain"], True
    yield "nothing diverged", r["diverged"], None


def descent(r: dict, full: bool) -> Claims:
    for name, off in r["rules_off"].items():
        yield f"{name} by hand against torch.optim and labkit, 60 steps: apart by", off, below(1e-12)
    yield "Adam without memory, late, against RMSprop: apart by", r["adam_is_rmsprop"], below(1e-12)
    yield "Adam's mean against a tenth of momentum's sum: apart by", r["adam_is_momentum"], below(1e-12)
    yield "Adam's first step, in learning rates", [abs(part) for part in r["adam_first_step"]], near(1, 1e-3)
    yield "mean of single samples' gradients against the whole gradient: apart by", r["rows_off"], below(1e-4)
    yield "share of single samples' gradients that disagree with the whole", r["uphill"], between(1 / 3, 2 / 3)
    yield "arithmetic of a step on 400 samples, in steps on one", r["flops_ratio"], 400.0
    yield "time of a step on 400 samples, in steps on one", r["seconds_ratio"], below(400)
    steps, samples = r["after_1000_steps"], r["after_1000_samples"]
    what = "one at a time over all in a step"
    yield f"test loss after 1,000 samples: {what}", samples["1 sample"] / samples["all samples"], below(0.5)
    yield f"test loss after 1,000 steps: {what}", steps["1 sample"] / steps["all samples"], above(1)
    small = r["after_1000_small_steps"]
    for size in ("1 sample", "32 samples"):
        yield f"the same at a tenth of the rate: {size} over all", small[size] / small["all samples"], near(1, 0.15)
    slower = small["all samples"] / steps["all samples"]
    yield "the same, all in a step: at a tenth of the rate over at the rate", slower, above(1)
    yield "places along trainings where the noise scale is estimated", len(r["noise_errors"]), 18 if full else 4
    scales = [1 + error for error in r["noise_errors"]]
    yield "noise scale from batches of 16 and 256 over the one from all rows", scales, near(1, 0.1)
    yield "noise scale at its peak over the one at the start", r["noise_peak"], above(3)
    own = r["surface_steps"]
    yield "draws of the race on surfaces", len(own["ravine"]["sgd"]), 3 if full else 1
    for surface, (first, second) in {
        "ravine": ("momentum", "sgd"),
        "banana": ("momentum", "sgd"),
        "saddle": ("sgd", "momentum"),
        "four hollows": ("sgd", "adam"),
    }.items():
        shares = [a / b for a, b in zip(own[surface][first], own[surface][second], strict=True)]
        yield f"{surface}, own learning rates: steps of {first} over {second}'s", shares, below(0.6)
    winners = set(r["surface_winners"].values())
    yield "optimizers that are first on some surface", len(winners), between(2, 4)
    yield "networks in the race", len(r["networks"]), 4 if full else 2
    goal = labkit.train(Spec(steps=500, optimizer="momentum", lr=0.1, batch_size=128))
    yield "the goal of the live lab, by momentum at 0.1 on batches of 128", float(goal.score[-1]), above(0.95)
    yield "Adam at a learning rate of 0.1: its test loss in times its best", r["adam_spoiled"], above(5)
    for name, ratios in r["rates"].items():
        yield f"{name.replace(', ', ', κ = ')}: 1 − rate over theory's, three starts", ratios, near(1, 0.05)
    for name in ("sgd", "adam"):
        turned = [b / a for a, b in (each[name] for each in r["rotated"])]
        what = f"κ = 10⁴, 500 steps, three bowls: {name}'s height turned over along the axes"
        yield what, turned, near(1, 1e-9) if name == "sgd" else above(1e10)
    turned = [each["adam"][1] / each["sgd"][1] for each in r["rotated"]]
    yield "the same, turned: Adam's height over sgd's", turned, below(0.5)
    late = [last / each["sgd"][0] for last, each in zip(r["long_run_rate"], r["rotated"], strict=True)]
    yield "the same: sgd's height at 2/(L+m) over its best of nine rates, median", statistics.median(late), above(30)
    along, across = r["rotated_2d"]["1000, 0.3"]
    yield "2-D, κ = 1000: Adam's height at 45° over along the axes", across / along, above(1e10)
    shares = [r["rotated_2d"][f"1000, {rate}"][1] / r["rotated_2d_sgd"]["1000"][1] for rate in (0.1, 0.3)]
    yield "2-D, κ = 1000, at 45°: Adam's height at 0.1 over gradient descent's", shares[0], above(1)
    yield "2-D, κ = 1000, at 45°: Adam's height at 0.3 over gradient descent's", shares[1], between(0.1, 1)
    yield "2-D, κ = 100, a good learning rate: Adam's height at 45°", r["rotated_2d"]["100, 0.3"][1], below(1e-12)
    first, settled, spread = r["climb"]
    yield "gradient descent: sharpness × lr / 2 at the start, by seed", first, below(0.9)
    yield "the same over the second half, by seed (the edge of stability)", settled, between(0.97, 1.03)
    yield "its lowest and highest look", spread, between(0.9, 1.1)
    yield "Adam's edge: networks", len(r["edge_late"]), 9 if full else 1
    yield "Adam's edge: sharpness of P⁻¹H × lr / 38 after 100 steps", r["edge_first"], below(0.5)
    yield "Adam's edge: sharpness of P⁻¹H × lr / 38, mean of the last quarter", r["edge_late"], near(1, 0.15)
    yield "Adam's edge: lowest and highest look of the last quarter", r["edge_range"], near(1, 0.15)
    yield "the live lab and `train` give the same numbers", r["live_equals_plain"], True
    yield "parameters", r["parameters"], labkit.cost(Spec()).parameters
    yield "nothing diverged", r["diverged"], None


def landscapes(r: dict, full: bool) -> Claims:
    yield "a cell against the model moved there by hand", r["cell_apart"], below(1e-5)
    yield "same function stretched: raw pictures differ by a factor of", r["apart_raw"], above(2)
    yield "same function stretched: filter-normalised pictures by", r["apart_filter"], below(1.0001)
    yield "basin of width 4, 16, 64", list(r["basin_by_width"].values()), RISING
    yield "basin of batch size 8, 32, all", list(r["basin_by_batch"].values()), FALLING
    yield "sharpness of width 4, 16, 64", list(r["sharpness_by_width"].values()), FALLING
    yield (
        "sharpness of batch size 8 over that of all samples",
        r["sharpness_by_batch"][8],
        above(r["sharpness_by_batch"][0]),
    )
    yield "its training loss", r["loss_by_batch"][8], above(100 * r["loss_by_batch"][0])
    yield "test accuracy with all samples in a step", r["score_by_batch"][0], above(r["score_by_batch"][8] - 0.005)
    yield "seeds of the next claims", (len(r["explained"]), len(r["left_on_the_curve"])), (3, 3) if full else (1, 1)
    yield "share of three paths' spread on their common plane, by seed", r["explained"], above(0.5)
    yield "edge of stability: sharpness × learning rate / 2", r["edge"], between(0.95, 1.05)
    yield "barrier of the trained curve over the straight line's, by seed", r["left_on_the_curve"], below(0.05)
    yield "the exercise's solution: test accuracy", r["solved"][0], above(0.95)
    yield "its basin over the one before", r["solved"][1], above(2)
    yield "the live lab and `train` give the same numbers", r["live_equals_plain"], True


def article(r: dict, full: bool) -> Claims:
    yield "parameters of the article's network", r["parameters"], 699_905
    yield "its bytes in float32 (2.80 MB)", r["bytes"], 2_799_620
    yield "FLOPs of its training step at batch 256, by formula", r["flops_step"], 805_068_800
    yield "the same, counted by PyTorch", r["flops_counted"], 805_068_800
    yield "the article's class against the lab's network: answers apart by", r["networks_apart"], below(1e-6)
    yield "the article's loop against the lab, ten steps: losses apart by", r["own_loop_apart"], below(0.01)
    yield "training mse of the article's loop, first and last step", r["article_loss"], FALLING
    yield "the same after its 100 steps", r["article_loss"][1], below(0.01)
    yield "steps until half of the loss is gone", r["standstill"], between(5, 20)
    yield "test R² of the article's own setting", r["article_r2"], below(0.4)
    default, he = r["first_answers"]["pytorch"], r["first_answers"]["he"]
    yield "first answers, PyTorch's default: std over samples, mean of 10 draws", default["std"], near(0.0015, 0.2)
    yield "first answers, PyTorch's default: |mean| over std", default["mean"] / default["std"], above(30)
    yield "the same without biases: |mean| over |mean| with them", r["without_biases"][1] / default["mean"], below(0.1)
    yield "first answers, He: std over samples", he["std"], above(0.3)
    yield "last hidden units off for every sample, PyTorch's default over He's", default["off"] / he["off"], above(3)
    yield "variance per layer, PyTorch's default", default["shrink"], between(0.1, 1 / 6)
    yield "variance per layer, He", he["shrink"], between(0.6, 1)
    yield "gradients of He's start over the default's, by layer, median of ten draws", r["gradients"], above(50)
    yield "seeds of the SGD experiment", len(r["mse"]["pytorch, sgd 0.01"]), 3 if full else 1
    for rate in (0.01, 0.03):
        values = r["mse"][f"pytorch, sgd {rate}"]
        yield f"SGD at {rate}, 300 steps, PyTorch's default: training mse by seed", values, between(0.9, 1.2)
    yield "SGD at 0.01, 300 steps, He: training mse by seed", r["mse"]["he, sgd 0.01"], below(0.1)
    began, ended = r["sgd_loss"]
    yield "SGD at 0.01, 300 steps, default start: share of the loss gone", 1 - ended / began, below(0.05)
    yield "the same: what is left over the cost of the mean alone", ended / r["mean_alone"], near(1, 0.02)
    yield "learning rate that the default start bears (2 / sharpness)", r["limits"]["pytorch"][0], between(0.3, 1.2)
    limits = [r["limits"][start][0] for start in ("he", "pytorch")]
    yield "learning rate that He's start bears, as a share of that", limits[0] / limits[1], below(0.1)
    yield "the same after 300 steps of SGD 0.01: the edge of stability", r["limits"]["he"][1], near(0.01, 0.3)
    yield "mended by SGD at 0.2: training mse by seed", r["mse"]["pytorch, sgd 0.2"], below(0.3)
    yield "its test R², by seed", r["r2"]["pytorch, sgd 0.2"], above(0.3)
    yield "mended by Adam 0.001: training mse by seed", r["mse"]["pytorch, adam 0.001"], below(0.3)
    yield "mended by shortcuts, SGD 0.01: training mse by seed", r["mse"]["pytorch, sgd 0.01, residual"], below(0.5)
    yield "He and shortcuts, SGD 0.01: seeds that do not diverge", r["r2"]["he, sgd 0.01, residual"], []
    yield "test R² of SGD 0.01 from He's start, by seed", r["r2"]["he, sgd 0.01"], below(0.1)
    ahead = [a - b for a, b in zip(r["r2"]["pytorch, adam 0.001"], r["r2"]["he, adam 0.001"], strict=True)]
    yield "Adam: test R² from the default start over that from He's, by seed", ahead, above(0.1)
    yield "He, SGD 0.01: weights moved, as a share of their first length", r["moved"]["he, sgd 0.01"], below(0.1)
    yield "default start, Adam: the same", r["moved"]["pytorch, adam 0.001"], above(0.3)
    start = {init: first for init, (first, _) in r["lengths"].items()}
    yield "first length of He's weights over the default's", start["he"] / start["pytorch"], near(2.45, 0.1)
    way = {init: moved for init, (_, moved) in r["lengths"].items()}
    yield "Adam: way from the default start over the way from He's", way["pytorch"] / way["he"], between(1, 2.5)
    untrained, sgd, adam = (r["flat"][f"pytorch: {when}"] for when in ("at the start", "after sgd 0.01", "after adam"))
    yield "plane at the default start: highest over lowest loss", untrained, below(2)
    yield "the same after 300 steps of SGD 0.01", sgd, below(2)
    yield "the same after Adam, over the start's", adam / untrained, above(20)
    table, more = r["scale"], r["more_data"]
    yield "sizes in the table of scale, loss and cost", len(table), 7 if full else 4
    largest, linear = table["512 … 16"], table["linear"]
    costs = [largest["parameters"], largest["flops"]]
    yield "its last row: parameters, FLOPs at batch 128", costs, [699_905, 402_534_400]
    solved = r["least_squares"]
    yield "the same solved to its end, by seed", solved[1], between(0.3, 0.5)
    yield "four times the samples: test mse of least squares, by seed", solved[4], between(0.13, 0.19)
    funnels = [row["test"] for name, row in table.items() if name != "linear"]
    over = [a / b for tests in funnels for a, b in zip(tests, linear["test"], strict=False)]
    yield "300 steps: every funnel's test mse over the linear model's, seed by seed", over, above(1)
    yield "training mse of the article's size, by seed", largest["train"], below(0.01)
    worst = [max(tests) for tests in more.values()]
    yield "four times the data: worst seed of every size", worst, below(min(linear["test"]))
    yield "nothing diverged in the article's own setting", r["diverged"], None


def bigger(r: dict, full: bool) -> Claims:
    yield "sizes", len(r["parameters"]), 8 if full else 7
    yield "the largest over the smallest", r["parameters"][-1] / r["parameters"][0], above(100 if full else 50)
    yield "seeds of each size", r["seeds"], 5 if full else 2
    yield "exponent of size: 95 % interval begins at", r["alpha"][0], above(0.5)
    yield "exponent of steps: 95 % interval begins at", r["beta"][0], above(0.5)
    beside = [measured / law for *_, law, measured in r["foretold"].values()]
    yield "largest size: excess over the one foretold from smaller ones, by length", beside, between(0.4, 2.8)
    held = [low < measured < high for low, high, _, measured in r["foretold"].values()]
    yield "the same: lengths outside the 95 % band", held.count(False), between(0, 1)
    patient = [loss for _, loss in r["at_convergence"].values()]
    yield "test mse at convergence over the next smaller size's", [b / a for a, b in pairwise(patient)], below(1.1)
    yield "smallest size's test mse over the largest's, at convergence", patient[0] / patient[-1], above(3)
    bests = [best for best, *_ in r["best_size"]]
    yield (
        "best size at the largest budget over the one at the smallest",
        bests[-1] / bests[0],
        above(1 if full else 0.9),
    )
    yield "equal compute: the largest network's excess over the best's", r["lost"], above(3)
    yield "networks whose FLOPs PyTorch counts as the formula does", *r["flops_agree"]
    shallow, *deeper = r["by_depth"].values()
    others = [row[-1] / shallow[-1] for row in deeper]
    yield "widest of the map: excess with more layers over one layer's", others, above(1)
    yield "ridgeless regression: risk off theory by", list(r["risk_off"].values()), below(0.15 if full else 0.3)
    yield "random features: highest test mse at (samples: 400)", r["peak"], 400
    trough, highest, end = r["descent"]
    yield "the same: highest over the trough before it", highest / trough, above(10)
    yield "the same: end over the trough", end / trough, below(1)
    trough, highest, end = r["second"]
    yield "trained network: parameters at its peak (targets: 4,000)", r["second_peak"], between(2000, 8000)
    yield "the same: peak over the trough before it", highest / trough, above(1.5 if full else 1.2)
    yield "coordinate check, usual: growth with width", list(r["slopes"]["usual"].values()), above(0.5)
    yield "coordinate check, μP: growth with width", list(r["slopes"]["μP"].values()), between(-0.15, 0.15)
    yield "rate tuned at 32: loss over the best, usual over μP", r["carried"]["usual"] / r["carried"]["μP"], above(3)
    ratio = r["plan"]["seconds"][1] / r["plan"]["seconds"][0]
    yield "planner: seconds measured over foretold", ratio, near(1, 0.3) if full else between(0.25, 4)
    low, high, measured = r["plan_loss"]
    yield "planner: loss measured within the band foretold", measured, between(0.8 * low, 1.25 * high)
    yield "memory held over the formula", r["memory"]["plain"] / r["memory"]["formula"], near(1, 0.02)
    for switch in ("bf16", "checkpoint"):
        yield f"memory held with {switch} over without", r["memory"][switch] / r["memory"]["plain"], below(0.95)
    if full:
        yield "two ranks: losses apart from one process's by", r["ranks_apart"], below(1e-4)
        yield "reports of the sweep that feed a fit", r["swept"], 9
    yield "nothing diverged", r["diverged"], None


def serving(r: dict, full: bool) -> Claims:
    yield "test accuracy of the network that is served", r["accuracy"], above(0.93)
    yield "ceilings: operations a second, bytes a second", r["ceilings"], above(1e8)
    yield "256 questions at once over one by one: times as fast", r["batch_gain"], above(1.3)
    tails = [p99 / p50 for p50, p99 in r["latency"].values()]
    yield "p99 over p50, for every batch, precision and device", tails, above(0.999)
    for found, rule in r["decibels"]:
        yield f"quantisation: one bit less, by formula {rule:.2f} dB", found - rule, between(-0.1, 0.1)
    yield "onnxruntime's answers apart from PyTorch's by", r["onnx_apart"], below(1e-5)
    sizes = r["kilobytes"]
    small = [sizes["torch float32"] / size for name, size in sizes.items() if "int8" in name]
    yield "float32 over int8: times the size", small, between(3, 4.2)
    for name, (lost, low, high) in r["lost"].items():
        yield f"{name}: accuracy lost, a share of 360 images", lost, below(0.02)
        yield f"{name}: its 95 % interval begins at, ends at", [low, high], between(-0.04, 0.04)
    tickets = {float(kept): ticket - twin for kept, (ticket, twin) in r["tickets"].items()}
    yield (
        "more than a fifth of the weights: ticket ahead of its twin by",
        [gap for kept, gap in tickets.items() if kept > 0.2],
        between(-0.03, 0.03),
    )
    yield "smallest share of weights kept", r["kept_smallest"], below(0.03)
    yield "there the ticket is ahead by", r["gap_smallest"], above(0.1 if full else 0.05)
    queue = r["queue"]
    yield (
        "three times the capacity: median wait one by one over batched",
        queue["3.0 1"][0] / queue["3.0 64"][0],
        above(3),
    )
    ratio = r["foretold"][1] / r["foretold"][0]
    yield "a fourth training: seconds over foretold", ratio, near(1, 0.3) if full else between(0.25, 4)
    yield "nothing diverged", r["diverged"], None


def data(r: dict, full: bool) -> Claims:
    yield "digits: the exponent's 95 % interval begins at, ends at", r["exponent_interval"], between(0.45, 0.85)
    foretold, measured = r["foretold"]
    yield "the largest size: error measured over foretold", measured / foretold, between(0.75, 1.35)
    yield "digits: error by the number of images", r["curves"]["digits"][1], FALLING
    yield "wines: error with most of them, below that of the digits", r["curves"]["wine"][1][-1], below(0.05)
    diabetes = r["curves"]["diabetes"][1]
    yield "diabetes: share of the variance left unexplained, all rows", diabetes[-1], between(0.5, 0.8)
    yield "the same with the fewest rows", diabetes[0], above(0.9)
    for share, rows in r["cleaning"].items():
        yield f"{share} wrong labels: AUROC of the doubt, by seed", rows["auroc"], above(0.9)
        yield f"{share}: wrong ones that are suspected, by seed", rows["found"], above(0.9)
        lost = [t - g for t, g in zip(rows["true labels"], rows["given labels"], strict=True)]
        yield f"{share}: accuracy lost over that share, by seed", [each / float(share) for each in lost], below(0.75)
        won = [c - g for c, g in zip(rows["suspicious ones out"], rows["given labels"], strict=True)]
        yield f"{share}: cleaning wins back, mean of seeds", statistics.fmean(won), above(0)
    kappas = r["condition"]
    for table in ("wine", "diabetes"):
        cut = kappas[f"{table} as it is"] / kappas[f"{table} standardised"]
        yield f"{table}: standardising divides the condition number by", cut, above(1e4)
    for what, ratio in r["walked"].items():
        yield f"{what}: steps made over foretold", ratio, between(0.95, 1.02)
    sizes = (f" {r['curves']['digits'][0][k]}" for k in (1, 3))
    over = [r["worth"]["shift" + size][0] / r["worth"]["mirror" + size][0] for size in sizes]
    yield "half a pixel's shift over mirror images: worth in images, two sizes", over, above(1.2)
    for leak, (leaky, honest) in r["leaks"].items():
        yield f"coin tosses, {leak}: foretold, mean of seeds", statistics.fmean(leaky), above(0.58)
        yield f"coin tosses, {leak}: done properly", statistics.fmean(honest), between(0.4, 0.6)
    yield (
        "a text in a column of numbers",
        r["refusals"]["text"],
        says("column 2 holds 'tall', which is not a finite number"),
    )
    yield "a table of one row", r["refusals"]["one row"], says("has 1 row of data; at least 10 are needed")
    yield "a class too rare", r["refusals"]["a class too rare"], says("has no training sample")
    yield "the live lab and `train` give the same numbers", r["live_equals_plain"], True
    yield "nothing diverged", r["diverged"], None


def interpretability(r: dict, full: bool) -> Claims:
    yield "integrated gradients by hand apart from captum's", r["hand_apart"], below(1e-6)
    gaps = r["gaps"]
    yield "integrated gradients: shares miss the sum by (completeness)", gaps["integrated gradients"], below(1e-3)
    yield "feature ablation on xor: the same", gaps["feature ablation"], above(0.5)
    yield "test accuracy of the network that is looked at", r["score"], above(0.95)
    yield "planted data: test R², by seed", r["r2"], above(0.7)
    for method, values in r["auroc"]["all"].items():
        yield f"planted inputs found by {method}: AUROC, by seed", values, above(0.9)
        single, untrained = (statistics.fmean(r["auroc"][kind][method]) for kind in ("single", "untrained"))
        yield f"{method}: untrained, single sample, all samples", [untrained, single, min(values)], RISING
        yield f"{method}: untrained networks, mean of seeds", untrained, between(0.3, 0.7)
    yield (
        "test accuracy on images of their own kind, by seed",
        [*r["own_score"]["honest"], *r["own_score"]["clever"]],
        above(0.93),
    )
    yield "clever network: says 7 to another digit with the mark, by seed", r["fooled"]["clever"], above(0.4)
    yield "honest network: the same", r["fooled"]["honest"], below(0.05)
    yield "clever network: reads a 7 without the mark, by seed", r["unmarked"]["clever"], below(0.5)
    for method in ("integrated gradients", "feature ablation", "occlusion"):
        found = statistics.fmean(r["betrayed"][method]["clever"])
        yield f"{method}: AUROC of the mark in the clever network, mean of seeds", found, above(0.9)
    for method in ("integrated gradients", "feature ablation"):
        found = statistics.fmean(r["betrayed"][method]["honest"])
        yield f"{method}: the same in the honest network, which has no use for the mark", found, between(0.6, 0.9)
    for method, (signed, sizes) in r["sanity"].items():
        yield f"all weights random, {method}: rank correlation, mean", statistics.fmean(signed), between(-0.2, 0.2)
        if method in ("integrated gradients", "feature ablation"):
            yield f"the same of the sizes alone, by seed: {method}", sizes, above(0.3)
    for method, shares in r["same_first"].items():
        if method != "integrated gradients":
            yield f"{method}: same first pixel as integrated gradients, by seed", shares, below(0.75)
    yield "saliency's signs: rank correlation with each kind of share", r["agree"]["saliency"][1:], between(-0.3, 0.3)
    yield "slope × way and ablation: rank correlation", r["agree"]["slope × way"][3], above(0.8)
    for method, pairs in r["twins"].items():
        yield f"{method}: rank correlation with another seed, by pair", pairs, between(0.2, 0.9)
    yield "permutation: columns that go together one by one, together", [r["singly"], r["together"]], RISING
    copies = {noise: statistics.fmean(parts) for noise, parts in r["copied"].items()}
    yield "a nearly perfect copy gets of what cause and copy get", copies["0.01"], between(0.3, 0.7)
    yield "copies, from good to bad", list(copies.values()), FALLING
    yield "nothing diverged", r["diverged"], None


def privacy(r: dict, full: bool) -> Claims:
    by_chance = {"zh": 1 / 11, "en": 1 / 10}  # a number of the right length whose check digit fits
    for language, chance in by_chance.items():
        pattern, checked, spaced = (
            r["masking"][f"{language} {way}"] for way in ("pattern", "pattern and check", "spaces too, and check")
        )
        yield f"{language}: secrets that the pattern hides, nine in ten", pattern["recall"], between(0.85, 0.95)
        yield f"{language}: the same, spaces too", spaced["recall"], 1.0
        yield f"{language}: order numbers that the pattern spoils", pattern["spoiled"], 1.0
        yield f"{language}: the same with the check digit", checked["spoiled"], between(chance - 0.035, chance + 0.035)
        yield f"{language}: names left", spaced["names left"], 1.0
    for what, (kept, hits, _) in r["linkage"].items():
        if kept:
            k = int(what.split("; ")[1])
            yield f"linkage, {what}: found again, over 1/k", hits * k, between(0, 1)
    kept, hits, _ = r["linkage"]["district, day; 1"]
    yield "district and day: people who are found again", hits, above(0.98)
    kept, _, known = r["linkage"]["province, year; 5"]
    yield "5-anonymous rows whose illness is known all the same", known, above(0.05)
    thefts = {int(d): error for d, error in r["thefts"].items()}
    yield "stolen weights: tenfold error for each decimal less, slope", r["theft_slope"], between(-1.1, -0.9)
    yield "error with 8, 4, 1 decimals", [thefts[d] for d in (8, 4, 1)], RISING
    yield "copy from 700 labels agrees, by seed", r["copies"][-1], above(0.9)
    yield "a network that learnt from true labels agrees as well, by seed", r["learnt"][-1], above(0.9)
    copies = {answer: statistics.fmean(shares) for answer, shares in r["by_answer"].items()}
    yield (
        "copy from 100 answers agrees: label only, probabilities",
        [copies[a] for a in ("label only", "probabilities")],
        RISING,
    )
    yield "the three largest instead of all ten", copies["top three"] - copies["probabilities"], between(-0.02, 0.02)
    aucs = {int(steps): row for steps, row in r["membership"].items()}
    gaps = {int(steps): statistics.fmean(gap for gap, _ in row) for steps, row in r["gaps"].items()}
    yield "gap between training and test, by steps", [gaps[steps] for steps in (50, 200, 2000)], RISING
    opened = [statistics.fmean(aucs[steps]["probabilities"]) for steps in (50, 200, 2000)]
    yield "AUC of the membership attack, the same steps", opened, RISING
    yield "learnt by heart: AUC, by seed", aucs[2000]["probabilities"], above(0.8)
    yield "the same from the label only", aucs[2000]["label only"], between(0.65, 0.85)
    yield "label only: AUC apart from ½ + gap / 2", r["identity"], below(1e-9)
    for steps, row in aucs.items():
        whole, part = (statistics.fmean(row[answer]) - 0.5 for answer in ("probabilities", "label only"))
        three = statistics.fmean(row["top three"]) - 0.5
        yield f"{steps} steps: the three largest take away of what is above ½", 1 - three / whole, between(-0.05, 0.1)
        yield f"{steps} steps: label only takes away of what is above ½", 1 - part / whole, between(0.15, 0.55)
    lock = r["lock"]
    yield "locked and back, bit by bit", lock["same"], True
    yield "bytes more: cost, salt, nonce, tag", lock["more_bytes"], 1 + 16 + 12 + 16
    yield "single bits flipped", lock["flips"], above(1000)
    yield "of them caught", lock["caught"], 1.0
    yield "wrong passphrases that opened it", lock["guessed"], 0.0
    yield "a wrong passphrase", r["refusals"]["wrong"], says("wrong passphrase, or the file was changed")
    yield "a file without its last byte", r["refusals"]["cut"], says("the file was changed")
    yield "a file cut short", r["refusals"]["stub"], says("has 20 bytes, and a locked model has 45 at least")
    yield "AES-GCM, gigabytes a second", r["gigabytes_per_second"], above(0.05)
    yield "plain in memory, plain in the locked file", r["plaintext"], [True, False]
    few, many = r["luck"]
    yield "coin tosses: advantage with 300 and 600, with 2,000 and 2,000", [few, many], FALLING
    yield "the latter", many, between(0.01, 0.03)
    for budget, rows in r["private"].items():
        yield (
            f"ε = {budget}: spent, by seed",
            [row["spent"] for row in rows],
            between(0.9 * float(budget), float(budget)),
        )
        over = [row["advantage"] - r["bounds"][budget] for row in rows]
        yield f"ε = {budget}: advantage above the bound, by seed", over, below(2 * many)
    e = math.exp(2)
    yield "the bound at ε = 2", r["bounds"]["2"], near((e - 1 + 2e-5) / (e + 1), 1e-9)
    yield "ε = 2: AUC of the attack, by seed", [row["auc"] for row in r["private"]["2"]], between(0.45, 0.56)
    same, heart = (r["not_private"][kind] for kind in ("same training", "by heart"))
    yield "by heart and without privacy: AUC, by seed", [row["auc"] for row in heart], above(0.65)
    advantages = [statistics.fmean(row["advantage"] for row in rows) for rows in (heart, same, r["private"]["2"])]
    yield "advantage: by heart, the same training without privacy, ε = 2", advantages, FALLING
    accuracy = {budget: statistics.fmean(row["accuracy"] for row in rows) for budget, rows in r["private"].items()}
    yield "test accuracy at ε = 0.3, at ε = 2", [accuracy["0.3"], accuracy["2"]], RISING
    opened = [statistics.fmean(row["accuracy"] for row in rows) for rows in (heart, same)]
    yield "on true labels: by heart, the same training without privacy, ε = 2", [*opened, accuracy["2"]], RISING
    for row in r["homomorphic"]:
        yield "computing on encrypted numbers: error", row["error"], below(1e-5)
        yield "times the time", row["times"], above(1000)
        yield "times the bytes", row["size"], between(200, 2000)
    yield "nothing diverged", r["diverged"], None


def own_experiment(r: dict, full: bool) -> Claims:
    yield "the example's samples", (r["example"], r["samples"]), (True, 442)
    yield "seeds", len(r["scores"]["0"]), 20 if full else 10
    yield "test R² of the linear model, mean of seeds", statistics.mean(r["scores"]["0"]), between(0.42, 0.54)
    yield "two hidden layers over it, same cut", r["gains"]["2"], between(-0.7, -0.3)
    yield "the same in standard errors of the mean", r["gains"]["2"] / r["errors"]["2"], below(-4)
    yield "one hidden layer, in standard errors", r["gains"]["1"] / r["errors"]["1"], below(-3)
    yield "the solution's test R² below the linear model's", r["solution_short"], between(-0.03, 0.03)
    yield "live and plain are the same numbers", r["live_equals_plain"], True
    yield "the report made from Python", r["report"], "done"
    yield "runs of the sweep that are done", r["swept"], 4
    yield "runs that the second call executed", r["again"], 0


CLAIMS = {
    "00_start_here": start_here,
    "01_playground": playground,
    "02_networks_and_parameters": networks,
    "03_loss_functions": losses,
    "04_gradient_descent_to_adam": descent,
    "05_loss_landscapes": landscapes,
    "06_the_article_network": article,
    "07_bigger_models": bigger,
    "08_hardware_and_serving": serving,
    "09_data": data,
    "10_interpretability": interpretability,
    "11_privacy": privacy,
    "12_your_own_experiment": own_experiment,
}
