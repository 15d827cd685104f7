"""Matched units and curves between two networks, held against exact facts."""

import copy
import itertools

import numpy as np
import pytest
import torch
from torch import nn

import labkit
from labkit.core import devices
from labkit.core.losses import Loss
from labkit.core.network import Residual
from labkit.landscape.directions import between, flat, weights_of
from labkit.landscape.mode_connectivity import PLACES, align_units, fit_bezier, mean_loss

ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU, "gelu": nn.GELU, "linear": nn.Identity}


def seeded(make, seed):
    """What `make` draws from torch's generator at this seed; the generator is left as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make()


def network(*widths, activation="tanh", seed=0, bias=True, dtype=torch.float32):
    """A fully connected network with random weights and biases."""

    def make():
        pairs = [(nn.Linear(*pair, bias=bias), ACTIVATIONS[activation]()) for pair in itertools.pairwise(widths)]
        return nn.Sequential(*itertools.chain(*pairs))[:-1].to(dtype)

    return seeded(make, seed)


def data(inputs, outputs, samples=40, seed=9, dtype=torch.float32):
    return seeded(lambda: (torch.randn(samples, inputs, dtype=dtype), torch.randn(samples, outputs, dtype=dtype)), seed)


def shuffled(model, *, signs, seed=5):
    """The same function with its hidden units in another order, and some of them with the other sign."""
    copied, rng = copy.deepcopy(model), np.random.default_rng(seed)
    linears = [layer for layer in copied if isinstance(layer, nn.Linear)]
    with torch.no_grad():
        for layer, after in itertools.pairwise(linears):
            order = torch.from_numpy(rng.permutation(layer.out_features))
            sign = torch.from_numpy(rng.choice([-1, 1] if signs else [1], layer.out_features)).to(layer.weight)
            layer.weight.copy_(layer.weight[order] * sign[:, None])
            if layer.bias is not None:
                layer.bias.copy_(layer.bias[order] * sign)
            after.weight.copy_(after.weight[:, order] * sign)
    return copied


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def distance(one, other):
    return float(flat(between(one, other)[0]).double().norm())


@pytest.fixture(scope="module")
def pair():
    """Two runs on the same data, from other first weights."""
    spec = labkit.Spec(dataset="moons", depth=2, width=16, steps=1000, device="cpu")
    first = labkit.train(spec)
    return first, labkit.train(spec, model=labkit.train(spec.but(seed=1, steps=1)).initial_model())


@pytest.fixture(scope="module")
def ends(pair):
    """What `curve` and `line` take of the two runs."""
    first, second = pair
    return first.model(), second.model(), first.loss_fn, first.data.x_train, first.data.y_train


@pytest.fixture(scope="module")
def bent(ends):
    return fit_bezier(*ends)


# Matching


@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_matched_network_is_the_same_function(activation, dtype, error):
    model, like = (network(3, 12, 9, 7, 2, activation=activation, seed=seed, dtype=dtype) for seed in (0, 1))
    x, _ = data(3, 2, dtype=dtype)
    found = align_units(model, like)
    assert not same(found, model)
    assert (found(x) - model(x)).abs().max() <= error * model(x).abs().max()


@pytest.mark.parametrize(("activation", "signs"), [("relu", False), ("gelu", False), ("tanh", True), ("linear", True)])
@pytest.mark.parametrize("bias", [True, False])
def test_units_in_another_order_and_sign_are_found_again(activation, signs, bias):
    for seed in range(3):
        like = network(2, 16, 16, 8, 2, activation=activation, seed=seed, bias=bias)
        model = shuffled(like, signs=signs)
        assert not same(model, like)
        assert same(align_units(model, like), like)


def test_one_hidden_layer_comes_as_near_as_any_order_and_signs_can():
    model, like = (network(2, 4, 3, seed=seed, dtype=torch.float64) for seed in (0, 1))

    def moved(order, signs):
        other, (first, _, last) = copy.deepcopy(model), model
        order, signs = list(order), torch.tensor(signs, dtype=torch.float64)
        with torch.no_grad():
            other[0].weight.copy_(first.weight[order] * signs[:, None])
            other[0].bias.copy_(first.bias[order] * signs)
            other[2].weight.copy_(last.weight[:, order] * signs)
        return distance(other, like)

    every = itertools.product(itertools.permutations(range(4)), itertools.product([-1, 1], repeat=4))
    assert distance(align_units(model, like), like) == pytest.approx(min(itertools.starmap(moved, every)), rel=1e-12)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_the_distance_never_grows(activation):
    for seed in range(8):
        like = network(2, 8, 8, 8, 2, activation=activation, seed=seed)
        near = copy.deepcopy(like)
        with torch.no_grad():
            for k, parameter in enumerate(near.parameters()):
                parameter += 0.3 * seeded(lambda p=parameter: torch.randn(p.shape), 100 * seed + k)
        far = network(2, 8, 8, 8, 2, activation=activation, seed=100 + seed)
        assert distance(align_units(near, like), like) <= distance(near, like) * (1 + 1e-6)
        assert distance(align_units(far, like), like) < distance(far, like)


def test_what_is_matched_stays_as_it_is():
    for seed in range(8):
        like = network(2, 16, 16, 16, 2, seed=seed)
        found = align_units(network(2, 16, 16, 16, 2, seed=100 + seed), like)
        assert same(align_units(found, like), found)


def test_matching_leaves_both_models_as_they_are():
    model, like = network(2, 8, 8, 1).eval(), network(2, 8, 8, 1, seed=1)
    model[0].weight.requires_grad_(False)
    before = copy.deepcopy((model, like))
    found = align_units(model, like)
    assert same(model, before[0]) and same(like, before[1])
    assert not found.training and not found[0].weight.requires_grad and found[0].bias.requires_grad


def test_without_hidden_units_there_is_nothing_to_match():
    model = network(3, 2)
    assert same(align_units(model, network(3, 2, seed=1)), model)


def test_matching_lowers_the_straight_line_between_trained_networks(ends):
    a, b, *rest = ends
    assert labkit.line(a, align_units(b, a), *rest).barrier < 0.1 * labkit.line(a, b, *rest).barrier


def conv():
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 2))


def mish():
    return nn.Sequential(nn.Linear(2, 4), nn.Mish(), nn.Linear(4, 1))


def residual():
    return nn.Sequential(Residual(nn.Linear(4, 4), nn.ReLU()), nn.Linear(4, 1))


def broken():
    model = network(2, 4, 1)
    with torch.no_grad():
        model[0].bias[1] = torch.nan
    return model


@pytest.mark.parametrize(
    ("model", "like", "said"),
    [
        (network(2, 4, 1), network(2, 5, 1), "differ in architecture"),
        (network(2, 4, 1), network(2, 4, 1, activation="relu"), "differ in architecture"),
        (conv(), conv(), "only fully connected networks"),
        (mish(), mish(), "nn.Linear and ELU, GELU, Identity, LeakyReLU, ReLU, SiLU, Sigmoid, Softplus, Tanh"),
        (nn.BatchNorm1d(3), nn.BatchNorm1d(3), "only fully connected networks"),
        (residual(), residual(), "residual networks cannot"),
        (network(2, 4, 1), broken(), "not finite"),
        (broken(), network(2, 4, 1), "not finite"),
        (network(2, 4, 1), network(2, 4, 1, dtype=torch.float64), "dtype"),
        (nn.Sequential(nn.ReLU()), nn.Sequential(nn.ReLU()), "no parameters"),
    ],
)
def test_what_cannot_be_matched_is_refused(model, like, said):
    with pytest.raises(ValueError, match=said):
        align_units(model, like)


# The curve


def test_the_curve_ends_at_the_two_networks_exactly(ends, bent):
    assert same(bent.model(0), ends[0]) and same(bent.model(1), ends[1])
    assert same(bent.start, ends[0]) and same(bent.end, ends[1])


def test_a_point_of_the_curve_has_its_share_of_all_three(ends, bent):
    a, c, b = (flat(weights_of(model)).double() for model in (ends[0], bent.middle, ends[1]))
    found = flat(weights_of(bent.model(0.25))).double()
    torch.testing.assert_close(found, 0.5625 * a + 0.375 * c + 0.0625 * b, rtol=0, atol=1e-6)


def test_the_middle_point_finds_the_one_minimum_of_a_linear_network():
    """Of a quadratic loss: ∫ 2t(1 − t)·(φ(t) − w) dt = a/10 + 2c/15 + b/10 − w/3 = 0."""
    a, b = (network(2, 1, seed=seed, dtype=torch.float64) for seed in (0, 1))
    x, y = data(2, 1, dtype=torch.float64)
    bent = fit_bezier(a, b, Loss("mse"), x, y, steps=2000, lr=0.001)
    columns = torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], 1)
    best = torch.linalg.lstsq(columns, y).solution[:, 0]
    start, middle, end = (flat(weights_of(model)) for model in (a, bent.middle, b))
    expected = 2.5 * best - 0.75 * (start + end)
    assert (middle - expected).norm() < 0.015 * (expected - (start + end) / 2).norm()


@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_the_slope_by_the_middle_point_agrees_with_finite_differences(loss):
    model = network(2, 3, 2, dtype=torch.float64)
    start, middle, end = (flat(weights_of(network(2, 3, 2, seed=k, dtype=torch.float64))) for k in range(3))
    x, y = data(2, 2, dtype=torch.float64)
    y = y if loss == "mse" else y.argmax(1)
    t = torch.tensor([0.1, 0.45, 0.8], dtype=torch.float64)

    def at(point):
        return mean_loss(model, (start, point, end), t, Loss(loss), x, y)

    steps = 1e-5 * torch.eye(len(middle), dtype=torch.float64)
    with devices.threads(1):
        differences = [(at(middle + step)[0] - at(middle - step)[0]) / 2e-5 for step in steps]
    torch.testing.assert_close(at(middle)[1], torch.tensor(differences, dtype=torch.float64), rtol=1e-7, atol=1e-9)


def test_the_line_along_the_curve_is_the_loss_of_its_models():
    a, b = (network(2, 5, 4, 2, seed=seed, dtype=torch.float64) for seed in (0, 1))
    x, y = data(2, 2, dtype=torch.float64)
    other = data(2, 2, seed=3, dtype=torch.float64)
    bent = fit_bezier(a, b, Loss("mse"), x, y, steps=20)
    line = bent.line(Loss("mse"), x, y, points=7, also={"huber": Loss("huber")}, test=other)
    assert list(line.values) == ["loss", "huber", "test loss", "test huber"]
    np.testing.assert_array_equal(line.t, np.linspace(0, 1, 7))
    models = [bent.model(t) for t in line.t]
    with torch.no_grad():
        np.testing.assert_allclose(line.loss, [Loss("mse")(m(x), y) for m in models], rtol=1e-12)
        tested = [Loss("huber")(m(other[0]), other[1]) for m in models]
    np.testing.assert_allclose(line.values["test huber"], tested, rtol=1e-12)


def test_before_training_the_curve_is_the_straight_line(ends, bent):
    first, second, *data = ends
    drawn = torch.rand(PLACES, generator=torch.Generator().manual_seed(0))
    t = (torch.arange(PLACES) + drawn) / PLACES  # the places of the first step
    straight = labkit.LossEvaluator(first, *data, between(first, second)).at(t.numpy()[:, None])["loss"]
    assert bent.losses[0] == pytest.approx(straight.mean(), rel=1e-4)


def test_training_lowers_the_mean_loss_and_the_barrier(ends, bent):
    straight, curved = labkit.line(*ends), bent.line(*ends[2:])
    assert len(bent.losses) == 500 and np.isfinite(bent.losses).all()
    assert bent.losses[-50:].mean() < 0.05 * bent.losses[:5].mean()
    assert curved.loss.mean() < 0.05 * straight.loss.mean()
    assert curved.barrier < 0.05 * straight.barrier


def test_a_curve_says_what_it_is(bent):
    assert repr(bent).startswith("Curve: a quadratic Bezier in a space of 354 weights, mean loss ")


def test_the_models_and_the_random_state_are_left_as_they_are():
    def make():
        return nn.Sequential(nn.Linear(2, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.2), nn.Linear(6, 1)).train()

    a, b = seeded(make, 0), seeded(make, 1)
    a[0].weight.requires_grad_(False)
    before, state = copy.deepcopy((a, b)), torch.get_rng_state()
    x, y = data(2, 1)
    with torch.no_grad():
        one, two = (seeded(lambda: fit_bezier(a, b, Loss("mse"), x, y, steps=30, seed=4), k) for k in range(2))
        fit_bezier(a, b, Loss("mse"), x, y, steps=2)
    assert torch.equal(torch.get_rng_state(), state)
    assert same(a, before[0]) and same(b, before[1]) and a.training
    assert all(parameter.grad is None for parameter in a.parameters()) and not a[0].weight.requires_grad
    np.testing.assert_array_equal(one.losses, two.losses)
    assert same(one.middle, two.middle)
    assert not np.array_equal(fit_bezier(a, b, Loss("mse"), x, y, steps=30, seed=5).losses, one.losses)
    assert np.isfinite(one.line(Loss("mse"), x, y, points=5).loss).all()
    assert same(a, before[0]) and torch.equal(torch.get_rng_state(), state)


def test_a_residual_network_bends_too():
    a, b = seeded(residual, 0), seeded(residual, 1)
    x, y = data(4, 1)
    bent = fit_bezier(a, b, Loss("mse"), x, y, steps=100)
    assert bent.line(Loss("mse"), x, y).loss.mean() < labkit.line(a, b, Loss("mse"), x, y).loss.mean()


def test_a_divergence_says_so():
    a, b = network(2, 4, 1), network(2, 4, 1, seed=1)
    with pytest.raises(ValueError, match=r"the curve diverged at step 1, last finite loss .*; try a smaller lr\.$"):
        fit_bezier(a, b, Loss("mse"), *data(2, 1), lr=1e20)


@pytest.mark.parametrize(
    ("other", "changes", "said"),
    [
        (network(2, 5, 1), {}, "shape"),
        (network(2, 4, 4, 1), {}, "differ in"),
        (broken(), {}, "not finite"),
        (network(2, 4, 1), {"steps": 0}, "steps=0 is not allowed"),
        (network(2, 4, 1), {"lr": -1.0}, "lr=-1.0 is not allowed"),
        (network(2, 4, 1), {"seed": -1}, "seed=-1 is not allowed"),
    ],
)
def test_what_cannot_be_bent_is_refused(other, changes, said):
    with pytest.raises(ValueError, match=said):
        fit_bezier(network(2, 4, 1), other, Loss("mse"), *data(2, 1), **changes)


def test_points_off_the_curve_and_too_few_are_refused(ends, bent):
    with pytest.raises(ValueError, match=r"t=1.5 is not allowed: t takes a number from 0 and up to 1"):
        bent.model(1.5)
    with pytest.raises(ValueError, match="points=1 is not allowed"):
        bent.line(*ends[2:], points=1)
