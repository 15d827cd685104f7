"""Planes and lines: exact landscapes, a float64 loop over every cell, and a network that is left as it was."""

import copy
import dataclasses
import itertools
import json
import threading
import time

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations, vector_to_parameters

import labkit
from labkit.core import devices
from labkit.core.losses import Loss
from labkit.core.network import ACTIVATIONS as REGISTRY
from labkit.core.network import Residual
from labkit.landscape import evaluator, planes
from labkit.landscape.batched_mlp import ELEMENTWISE, IN_PLACE, BatchedMLP, Part
from labkit.landscape.directions import flat, shaped, weights_of
from labkit.landscape.evaluator import InPlace, LossEvaluator, _Vmapped
from labkit.landscape.mode_connectivity import ODD

SPEC = labkit.Spec(samples=80, width=8, depth=3, steps=60, lr=0.02)
CORNERS = ((-1.0, 0.5), (0.0, 2.0))


class Wrapped(nn.Module):
    """A network inside a module that the lab does not know."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x)


def wrapped(model, *directions):
    """The same network and directions, as a module that goes the general way."""
    return Wrapped(model), *({f"inner.{name}": part for name, part in each.items()} for each in directions)


both_ways = pytest.mark.parametrize("inside", [lambda *parts: parts, wrapped], ids=["stacked", "in place"])


def double(direction):
    return {name: part.double() for name, part in direction.items()}


def loop(model, loss_fn, x, y, u, v, alpha, beta, *, test=None):
    """The plane as a plain loop over its cells gives it."""
    model = copy.deepcopy(model)
    parts = [(p, p.detach().clone(), u[name], v[name]) for name, p in model.named_parameters()]
    losses = np.empty((len(beta), len(alpha)))
    with torch.no_grad():
        for i, j in np.ndindex(losses.shape):
            for weights, centre, one, two in parts:
                weights.copy_(centre + float(alpha[j]) * one + float(beta[i]) * two)
            losses[i, j] = loss_fn(model(x), y).item()
    return losses


def scene(seed=0, outputs=3, dtype=torch.float64):
    """A small network, data for it and two directions."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(4, 7), nn.Tanh(), nn.Linear(7, outputs)).to(dtype)
        x, y = torch.randn(30, 4, dtype=dtype), torch.randint(outputs, (30,))
    return model, functional.cross_entropy, x, y, *labkit.random_directions(model, seed)


def state_of(model):
    """Everything of a model that a plane must leave alone."""
    tensors = [*model.parameters(), *model.buffers()]
    places = [tensor.data_ptr() for tensor in tensors]
    grads = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    flags = [p.requires_grad for p in model.parameters()], [module.training for module in model.modules()]
    return [tensor.detach().clone() for tensor in tensors], places, grads, flags


def same(one, two):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, two)
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(same(*pair) for pair in zip(one, two, strict=True))
    return one == two


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Networks as small as these gain nothing from a second one."""
    with devices.threads(1):
        yield


@pytest.fixture
def untouched():
    """Check at the end that models, the random state and the thread count are what they were."""
    models, before, threads = [], torch.get_rng_state(), torch.get_num_threads()

    def watch(model):
        models.append((model, state_of(model)))
        return model

    yield watch
    assert models and all(same(state_of(model), state) for model, state in models)
    assert torch.equal(torch.get_rng_state(), before) and torch.get_num_threads() == threads


# Every cell against a loop in float64

SPECS = {
    "linear model": SPEC.but(depth=0),
    "1 hidden layer": SPEC.but(depth=1),
    "tanh": SPEC,
    "relu": SPEC.but(activation="relu"),
    "gelu": SPEC.but(activation="gelu"),
    "sigmoid": SPEC.but(activation="sigmoid"),
    "funnel": SPEC.but(shape="funnel", width=16),
    "residual": SPEC.but(residual=True),
    "residual funnel": SPEC.but(residual=True, shape="funnel", width=16),
    "residual, first layer too": SPEC.but(residual=True, width=2),
    "residual funnel, first layer too": SPEC.but(
        residual=True, shape="funnel", dataset="teacher", inputs=16, loss="mse", activation="gelu"
    ),
    "mse, 1 output": SPEC.but(loss="mse"),
    "huber, 1 output": SPEC.but(loss="huber", huber_delta=0.3),
    "regression": SPEC.but(dataset="bumps", loss="mse"),
    "10 classes": SPEC.but(dataset="digits"),
    "one-hot, mse": SPEC.but(dataset="digits", loss="mse"),
    "one-hot, huber": SPEC.but(dataset="digits", loss="huber"),
}


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_every_cell_is_that_of_a_loop_in_float64(spec):
    run = labkit.train(spec)
    model, exact = run.model(), run.model().double()
    x, y = run.data.x_train[:200], run.data.y_train[:200]
    long = y.double() if y.is_floating_point() else y
    ours, plain = [], []
    for seed in range(3):
        u, v = labkit.random_directions(model, seed)
        found = labkit.plane(model, run.loss_fn, x, y, u, v, points=7)
        assert found.facts["way"] == "stacked" and found.loss.dtype == np.float64
        axes = found.alpha, found.beta
        truth = loop(exact, run.loss_fn, x.double(), long, double(u), double(v), *axes)
        fine = labkit.plane(exact, run.loss_fn, x.double(), long, double(u), double(v), points=7)
        np.testing.assert_allclose(fine.loss, truth, rtol=1e-12)
        unit = np.maximum(truth, np.median(truth))
        ours.append(np.abs(found.loss - truth) / unit)
        plain.append(np.abs(loop(model, run.loss_fn, x, y, u, v, *axes) - truth) / unit)
    assert np.max(ours) <= 1e-6 and np.max(ours) <= 2 * np.max(plain)


@both_ways
def test_alpha_runs_along_u_and_beta_along_v(inside):
    model, loss_fn, x, y, u, v = scene()
    model, u, v = inside(model, u, v)
    found = labkit.plane(model, loss_fn, x, y, u, v, window=CORNERS, points=4)
    np.testing.assert_allclose(found.alpha, [-1, -0.5, 0, 0.5], atol=1e-15)
    np.testing.assert_allclose(found.beta, [0, 2 / 3, 4 / 3, 2], atol=1e-15)
    np.testing.assert_allclose(found.loss, loop(model, loss_fn, x, y, u, v, found.alpha, found.beta), rtol=1e-12)


def test_both_axes_reach_from_minus_span_to_span_through_0():
    found = labkit.plane(*scene(), span=0.3, points=7)
    for axis in (found.alpha, found.beta):
        assert axis[0] == -0.3 and axis[3] == 0 and axis[6] == 0.3
        np.testing.assert_allclose(axis, np.linspace(-0.3, 0.3, 7), atol=1e-16)
    again = labkit.plane(*scene(), span=np.float32(2), points=np.int64(3))  # numbers as numpy makes them
    assert again.alpha.tolist() == [-2, 0, 2]


# Landscapes that are known exactly


def polynomial(alpha, beta, degree):
    """Every monomial of two variables up to a total degree, a column each."""
    a, b = (axis.ravel() for axis in np.meshgrid(alpha / abs(alpha).max(), beta / abs(beta).max()))
    return np.stack([a**i * b**j for i in range(degree + 1) for j in range(degree + 1 - i)], 1)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_a_linear_network_under_mse_is_a_polynomial_of_degree_2_per_layer(layers):
    run = labkit.train(SPEC.but(dataset="bumps", loss="mse", activation="linear", depth=layers - 1, steps=10))
    model = run.model().double()
    data = run.data.x_train.double(), run.data.y_train.double()
    found = labkit.plane(model, run.loss_fn, *data, *labkit.random_directions(model), points=11)

    def misfit(degree):
        columns, losses = polynomial(found.alpha, found.beta, degree), found.loss.ravel()
        return np.abs(columns @ np.linalg.lstsq(columns, losses)[0] - losses).max() / losses.max()

    assert misfit(2 * layers) < 1e-13 and misfit(2 * layers - 1) > 1e-6


def test_linear_regression_along_the_hessians_eigenvectors_is_a_paraboloid():
    _, _, x, _, _, _ = scene()
    y = torch.randn(30, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    columns = torch.cat([x, torch.ones(30, 1)], 1)
    model = nn.Linear(4, 1).double()
    model.load_state_dict(shaped(torch.linalg.lstsq(columns, y).solution[:, 0], model))
    values, vectors = torch.linalg.eigh(2 / 30 * columns.T @ columns)
    for pair in ((4, 3), (4, 0), (1, 2)):
        u, v = (shaped(vectors[:, k], model) for k in pair)
        found = labkit.plane(nn.Sequential(model), functional.mse_loss, x, y, *(_numbered(d) for d in (u, v)), span=2)
        lowest = functional.mse_loss(model(x), y).item()
        one, two = (values[k].item() for k in pair)
        exact = lowest + 0.5 * (one * found.alpha**2 + two * found.beta[:, None] ** 2)
        np.testing.assert_allclose(found.loss, exact, rtol=1e-13)


def _numbered(direction):
    return {f"0.{name}": part for name, part in direction.items()}


def test_rescaling_relu_layers_leaves_the_filter_normalised_plane():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 9), nn.ReLU(), nn.Linear(9, 6), nn.ReLU(), nn.Linear(6, 3)).double()
    other = copy.deepcopy(model)
    with torch.no_grad():
        for part, factor in ((other[0], 10), (other[2], 0.3 / 10), (other[4], 1 / 0.3)):
            part.weight.mul_(factor)
        other[0].bias.mul_(10)
        other[2].bias.mul_(0.3)
    _, loss_fn, x, y, _, _ = scene()
    planes = {
        normalize: [
            labkit.plane(each, loss_fn, x, y, *labkit.random_directions(each, normalize=normalize), points=9).loss
            for each in (model, other)
        ]
        for normalize in ("filter", "none")
    }
    np.testing.assert_allclose(*planes["filter"], rtol=1e-12)
    assert np.abs(planes["none"][0] / planes["none"][1] - 1).max() > 0.1  # what Li et al. normalise filters for


def test_permuting_hidden_units_and_their_directions_leaves_the_plane():
    model, loss_fn, x, y, u, v = scene()
    order = torch.tensor([3, 1, 6, 0, 5, 2, 4])

    def permuted(weights):
        first, second = (
            {"0.weight": weights["0.weight"][order], "0.bias": weights["0.bias"][order]},
            weights["2.weight"],
        )
        return {**first, "2.weight": second[:, order], "2.bias": weights["2.bias"]}

    other = copy.deepcopy(model)
    other.load_state_dict(permuted(model.state_dict()))
    planes = [
        labkit.plane(model, loss_fn, x, y, u, v, points=9),
        labkit.plane(other, loss_fn, x, y, permuted(u), permuted(v), points=9),
    ]
    np.testing.assert_allclose(planes[0].loss, planes[1].loss, rtol=1e-13)


def test_turning_a_direction_round_flips_the_plane():
    model, loss_fn, x, y, u, v = scene()
    back = {name: -part for name, part in u.items()}
    one, other = (labkit.plane(model, loss_fn, x, y, along, v, points=9) for along in (u, back))
    np.testing.assert_allclose(one.loss, other.loss[:, ::-1], rtol=1e-14)
    swapped = labkit.plane(model, loss_fn, x, y, v, u, points=9)
    np.testing.assert_allclose(one.loss, swapped.loss.T, rtol=1e-14)
    assert np.abs(one.loss - one.loss[:, ::-1]).max() > 1e-3 and np.abs(one.loss - one.loss.T).max() > 1e-3


def test_the_centre_is_the_training_loss():
    run = labkit.train(SPEC.but(batch_size=0))
    for model, loss in ((run.initial_model(), run.loss[0]), (run.model(), None)):
        u, v = labkit.random_directions(model)
        data = run.loss_fn, run.data.x_train, run.data.y_train
        plain = run.loss_fn(model(data[1]), data[2]).item()
        centre = labkit.plane(model, *data, u, v, points=5).loss[2, 2]
        assert centre == pytest.approx(plain, rel=1e-6) and centre == pytest.approx(loss or plain, rel=1e-6)
        model, u, v = wrapped(model, u, v)
        assert labkit.plane(model, *data, u, v, points=5).loss[2, 2] == plain  # to the last bit


# The three ways


def ways(model, loss_fn, x, y, u, v, **more):
    """The same network stacked, in place and by vmap: what each measures at some places."""
    steps = torch.tensor(list(itertools.product((-1, 0, 0.3, 1), (-0.5, 0, 2))), dtype=torch.float64)
    inner = LossEvaluator(model, loss_fn, x, y, (u, v), **more)
    outer, *directions = wrapped(model, u, v)
    one = LossEvaluator(outer, loss_fn, x, y, directions, **more)
    parts = [Part(x, y, (loss_fn, *more.get("also", {}).values()))]
    parts += [Part(*more["test"], parts[0].measures)] if "test" in more else []
    many = _Vmapped(InPlace(outer, directions, parts), directions)
    assert (inner.way, one.way, many.way) == ("stacked", "in place", "vmap") and inner.names == one.names
    columns = many.measure(steps).T.double().numpy()
    return inner.at(steps), one.at(steps), dict(zip(one.names, columns, strict=True))


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-13), (torch.float32, 2e-6)])
@pytest.mark.parametrize("residual", [False, True])
def test_the_three_ways_agree(dtype, rtol, residual):
    run = labkit.train(SPEC.but(residual=residual, dataset="digits", steps=5))
    model = run.model().to(dtype)
    data = {name: getattr(run.data, name) for name in ("x_train", "y_train", "x_test", "y_test")}
    x, test = data["x_train"].to(dtype), (data["x_test"].to(dtype), data["y_test"])
    more = {"also": {"accuracy": labkit.accuracy, "log": lambda p, t: p.logsumexp(1).mean()}, "test": test}
    u, v = labkit.random_directions(model)
    stack, place, many = ways(model, run.loss_fn, x, data["y_train"], u, v, **more)
    assert list(stack) == ["loss", "accuracy", "log", "test loss", "test accuracy", "test log"]
    for name in stack:
        np.testing.assert_allclose(stack[name], place[name], rtol=rtol, err_msg=name)
        np.testing.assert_allclose(many[name], place[name], rtol=rtol, err_msg=name)


ACTIVATIONS = [nn.ReLU(), nn.Tanh(), nn.Sigmoid(), nn.GELU(), nn.GELU("tanh"), nn.Identity()]
ACTIVATIONS += [nn.LeakyReLU(0.3), nn.ELU(0.5), nn.SiLU(), nn.Softplus(2), nn.ReLU(inplace=True)]


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=repr)
@pytest.mark.parametrize("bias", [True, False])
def test_layers_that_are_stacked_agree_with_the_module(activation, bias):
    _, loss_fn, x, y, _, _ = scene()
    model = nn.Sequential(
        nn.Linear(4, 6, bias=bias), activation, Residual(nn.Linear(6, 6, bias=bias), nn.Tanh()), nn.Linear(6, 3)
    ).double()
    u, v = labkit.random_directions(model)
    stack, place, _ = ways(model, loss_fn, x, y, u, v)
    np.testing.assert_allclose(stack["loss"], place["loss"], rtol=1e-13)


def shared(kind):
    layer = kind()
    return nn.Sequential(nn.Linear(4, 5), layer, nn.Linear(5, 5), layer, nn.Linear(5, 3))


def tied():
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))
    model[2].weight = model[0].weight
    return model


def hooked():
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    model[0].register_forward_hook(lambda module, inputs, answer: 2 * answer)
    model[2].register_forward_pre_hook(lambda module, inputs: (inputs[0] + 1,))
    return model


class Shifted(nn.Module):
    """Parameters beside buffers, and a count that every call changes in eval mode too."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3)
        self.register_buffer("shift", torch.arange(3.0))
        self.register_buffer("calls", torch.zeros(()), persistent=False)

    def forward(self, x):
        self.calls += 1
        return self.linear(x) + self.shift


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.memory, self.head = nn.GRU(1, 5, batch_first=True), nn.Linear(5, 3)

    def forward(self, x):
        return self.head(self.memory(x.unsqueeze(2))[0][:, -1])


def attention():
    layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)
    return nn.Sequential(nn.Unflatten(1, (1, 4)), layer, nn.Flatten(), nn.Linear(4, 3))


def pictures():
    parts = [nn.Unflatten(1, (1, 2, 2)), nn.Conv2d(1, 4, 2, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*parts, nn.Flatten(), nn.Linear(4, 3))


def weight_normed():
    return nn.Sequential(parametrizations.weight_norm(nn.Linear(4, 5)), nn.Tanh(), nn.Linear(5, 3))


MODULES = {
    "convolutions": pictures,
    "layer norm": lambda: nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.ReLU(), nn.Linear(6, 3)),
    "batch norm": lambda: nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3)),
    "softmax inside": lambda: nn.Sequential(nn.Linear(4, 6), nn.Softmax(1), nn.Linear(6, 3)),
    "activation first": lambda: nn.Sequential(nn.Tanh(), nn.Linear(4, 3)),
    "two activations": lambda: nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Tanh(), nn.Linear(5, 3)),
    "nested": lambda: nn.Sequential(nn.Sequential(nn.Linear(4, 5), nn.Tanh()), nn.Linear(5, 3)),
    "one activation twice": lambda: shared(nn.Tanh),
    "PReLU twice": lambda: shared(nn.PReLU),
    "tied weights": tied,
    "hooks": hooked,
    "weight norm": weight_normed,
    "residual weight norm": lambda: nn.Sequential(
        Residual(parametrizations.weight_norm(nn.Linear(4, 4)), nn.Tanh()), nn.Linear(4, 3)
    ),
    "buffers": Shifted,
    "recurrent": Recurrent,
    "attention": attention,
    "a bare layer": lambda: nn.Linear(4, 3),
}


NOT_BY_VMAP = (
    "recurrent",
    "attention",
    "weight norm",
    "residual weight norm",
)  # torch refuses, or warns that it only loops


def made(name):
    """A module of the list, or a new one, in float64 and eval mode, with statistics that are no longer 0 and 1."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = MODULES.get(name, name)().double()
        with torch.no_grad():
            for _ in range(3):
                model(torch.randn(30, 4, dtype=torch.float64))
    return model.eval()


@pytest.mark.parametrize("name", MODULES)
def test_any_module_agrees_with_a_loop(name, untouched):
    model = untouched(made(name))
    _, loss_fn, x, y, _, _ = scene()
    u, v = labkit.random_directions(model, 1)
    found = labkit.plane(model, loss_fn, x, y, u, v, points=3)
    assert found.facts["way"] == "in place"
    truth = loop(model, loss_fn, x, y, u, v, found.alpha, found.beta)
    np.testing.assert_allclose(found.loss, truth, rtol=1e-12)
    assert np.ptp(truth) > 1e-3


@pytest.mark.parametrize("name", [name for name in MODULES if name not in NOT_BY_VMAP])
def test_vmap_agrees_with_a_loop_and_leaves_the_module(name, untouched):
    model = untouched(made(name))
    _, loss_fn, x, y, _, _ = scene()
    u, v = labkit.random_directions(model, 1)
    parts = [Part(x, y, (loss_fn,))]
    many = _Vmapped(InPlace(model, (u, v), parts), (u, v))
    axis = np.array([-1.0, 0.0, 0.5])
    steps = torch.tensor([(a, b) for b in axis for a in axis])
    found = many.measure(steps)[:, 0].reshape(3, 3).numpy()
    np.testing.assert_allclose(found, loop(model, loss_fn, x, y, u, v, axis, axis), rtol=1e-12)


def test_vmap_holds_the_weights_as_they_were():
    model, loss_fn, x, y, u, v = scene()
    parts = [Part(x, y, (loss_fn,))]
    many = _Vmapped(InPlace(model, (u, v), parts), (u, v))
    steps = torch.tensor([[0.0, 0.5]])
    before = many.measure(steps)
    with torch.no_grad():
        model[0].weight.zero_()
    assert torch.equal(many.measure(steps), before)


@pytest.mark.parametrize("layer", [nn.Dropout(0.5), nn.BatchNorm1d(3)], ids=repr)
def test_vmap_refuses_what_it_would_compute_otherwise(layer, untouched):
    model = untouched(made(lambda: nn.Sequential(nn.Linear(4, 3), layer)).train())
    _, loss_fn, x, y, _, _ = scene()
    u, v = labkit.random_directions(model)
    parts = [Part(x, y, (loss_fn,))]
    many = _Vmapped(InPlace(model, (u, v), parts), (u, v))
    with pytest.raises(RuntimeError):
        many.measure(torch.zeros(2, 2))


def test_the_general_way_in_float32_rounds_like_the_plain_loop():
    model = made("layer norm").float()
    _, loss_fn, x, y, _, _ = scene()
    u, v = labkit.random_directions(model)
    found = labkit.plane(model, loss_fn, x.float(), y, u, v, points=7)
    axes = found.alpha, found.beta
    truth = loop(copy.deepcopy(model).double(), loss_fn, x, y, double(u), double(v), *axes)
    ours, plain = (np.abs(each - truth).max() for each in (found.loss, loop(model, loss_fn, x.float(), y, u, v, *axes)))
    assert ours <= 2 * plain and ours <= 1e-6 * np.median(truth)


def test_inputs_may_be_whole_numbers():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Embedding(11, 4), nn.Flatten(), nn.Linear(12, 3)).double()
        x, y = torch.randint(11, (30, 3)), torch.randint(3, (30,))
    u, v = labkit.random_directions(model)
    found = labkit.plane(model, functional.cross_entropy, x, y, u, v, points=3)
    np.testing.assert_allclose(found.loss, loop(model, functional.cross_entropy, x, y, u, v, found.alpha, found.beta))


def test_a_model_may_answer_with_more_than_a_tensor():
    class Two(Wrapped):
        def forward(self, x):
            return self.inner(x), x

    model, loss_fn, x, y, u, v = scene()
    _, u, v = wrapped(model, u, v)
    found = labkit.plane(Two(model), lambda answer, y: loss_fn(answer[0], y), x, y, u, v, points=3)
    np.testing.assert_allclose(found.loss, labkit.plane(*scene(), points=3).loss, rtol=1e-13)
    with pytest.raises(ValueError, match="answers with a tuple"):
        labkit.plane(Two(model), loss_fn, x, y, u, v)


def test_half_precision_works():
    model, loss_fn, x, y, u, v = scene(dtype=torch.bfloat16)
    found = labkit.plane(model, loss_fn, x, y, u, v, points=3)
    exact = labkit.plane(model.double(), loss_fn, x.double(), y, double(u), double(v), points=3)
    np.testing.assert_allclose(found.loss, exact.loss, rtol=0.03)


def test_directions_may_be_in_any_order_and_hold_gradients():
    model, u, v = wrapped(scene()[0], *scene()[4:])
    loss_fn, x, y = scene()[1:4]
    expected = labkit.plane(model, loss_fn, x, y, u, v, points=3)
    backwards = {name: nn.Parameter(part) for name, part in reversed(u.items())}
    found = labkit.plane(model, loss_fn, x, y, backwards, v, points=3)
    assert np.array_equal(found.loss, expected.loss)


def test_it_works_in_inference_mode():
    for inside in (lambda *parts: parts, wrapped):
        model, loss_fn, x, y, u, v = scene()
        model, u, v = inside(model, u, v)
        expected = labkit.plane(model, loss_fn, x, y, u, v, points=3)
        with torch.inference_mode():
            assert np.array_equal(labkit.plane(model, loss_fn, x, y, u, v, points=3).loss, expected.loss)


# Batch norm and dropout


def normed():
    model = made("batch norm")
    _, loss_fn, x, y, _, _ = scene()
    return model, loss_fn, x, y, *labkit.random_directions(model)


def looped(model, loss_fn, x, y, u, v, axis, prepare):
    """A loop in which every cell starts from a fresh copy."""
    losses = np.empty((len(axis), len(axis)))
    for i, j in np.ndindex(losses.shape):
        here = copy.deepcopy(model)
        with torch.no_grad():
            for name, parameter in here.named_parameters():
                parameter += float(axis[j]) * u[name] + float(axis[i]) * v[name]
            prepare(here)
            losses[i, j] = loss_fn(here(x), y)
    return losses


def test_batch_norm_uses_the_stored_statistics_in_eval_mode(untouched):
    model, *rest = normed()
    found = labkit.plane(untouched(model), *rest, points=3)
    assert found.facts["batch_norm"] == "stored"
    np.testing.assert_allclose(found.loss, looped(model, *rest, found.alpha, lambda here: None), rtol=1e-12)


def test_batch_norm_uses_the_batch_in_train_mode(untouched):
    model, loss_fn, x, y, u, v = normed()
    found = labkit.plane(untouched(model.train()), loss_fn, x, y, u, v, points=3, test=(x[:10], y[:10]))
    assert found.facts["batch_norm"] == "of the batch"
    args = u, v, found.alpha, lambda here: None
    np.testing.assert_allclose(found.loss, looped(model, loss_fn, x, y, *args), rtol=1e-12)
    np.testing.assert_allclose(found.values["test loss"], looped(model, loss_fn, x[:10], y[:10], *args), rtol=1e-12)


def test_batch_norm_is_recomputed_on_request(untouched):
    model, loss_fn, x, y, u, v = normed()
    more = {"recompute": True, "test": (x[:10], y[:10])}
    found = labkit.plane(untouched(model), loss_fn, x, y, u, v, points=3, **more)
    assert found.facts["batch_norm"] == "recomputed"

    def refill(here):
        z = here[0](x)
        here[1].running_mean.copy_(z.mean(0))
        here[1].running_var.copy_(z.var(0))

    truth = looped(model, loss_fn, x, y, u, v, found.alpha, refill)
    np.testing.assert_allclose(found.loss, truth, rtol=1e-12)
    fewer = looped(model, loss_fn, x[:10], y[:10], u, v, found.alpha, refill)
    np.testing.assert_allclose(found.values["test loss"], fewer, rtol=1e-12)
    assert np.abs(truth - looped(model, loss_fn, x, y, u, v, found.alpha, lambda here: None)).max() > 1e-3


def test_recomputing_is_refused_where_there_is_nothing_to_recompute():
    with pytest.raises(ValueError, match="no batch norm"):
        labkit.plane(*scene(), recompute=True)
    model, *rest = normed()
    with pytest.raises(ValueError, match=r"needs model.eval\(\) first"):
        labkit.plane(model.train(), *rest, recompute=True)


class Remembers(nn.Module):
    """Answers by what it saw before, in train mode."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3)
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("last", torch.zeros(3))

    def forward(self, x):
        z = self.linear(x)
        if self.training:
            self.mean += z.mean(0).detach()  # in place, as batch norm does
            self.last = self.last + self.mean  # or anew
        return z + self.last


def test_no_cell_remembers_another(untouched):
    model = untouched(made(Remembers).train())
    _, loss_fn, x, y, _, _ = scene()
    u, v = labkit.random_directions(model)
    found = labkit.plane(model, loss_fn, x, y, u, v, points=3)
    np.testing.assert_allclose(
        found.loss, looped(model, loss_fn, x, y, u, v, found.alpha, lambda here: None), rtol=1e-12
    )


class Drops(nn.Module):
    """Draws at random in any mode."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, x):
        return functional.dropout(self.linear(x), 0.5)


@pytest.mark.parametrize("train", [True, False])
def test_what_is_drawn_at_random_is_the_same_in_every_cell(train, untouched):
    kind = (lambda: nn.Sequential(nn.Linear(4, 9), nn.Dropout(0.5), nn.Linear(9, 3))) if train else Drops
    model = untouched(made(kind).train(train))
    _, loss_fn, x, y, _, _ = scene()
    still = {name: torch.zeros_like(weight) for name, weight in weights_of(model).items()}
    found = labkit.plane(model, loss_fn, x, y, still, still, points=5)
    assert len(np.unique(found.loss)) == 1
    with torch.random.fork_rng():
        torch.manual_seed(0)
        assert found.loss[0, 0] == loss_fn(model(x), y).item()


# The model afterwards


@pytest.mark.parametrize("name", ["convolutions", "batch norm", "buffers", None])
@pytest.mark.parametrize("train", [False, True])
def test_the_model_is_bit_for_bit_what_it_was(name, train, untouched):
    model = made(name) if name else scene()[0]
    _, loss_fn, x, y, _, _ = scene()
    loss_fn(model(x), y).backward()  # it has gradients
    next(model.parameters()).requires_grad_(False)
    model.train(train)
    next(model.children()).train(not train)  # modes differ within it
    u, v = labkit.random_directions(untouched(model))
    labkit.plane(model, loss_fn, x, y, u, v, points=5, test=(x, y))
    generator = labkit.refine(model, loss_fn, x, y, u, v, points=9)
    next(generator)
    generator.close()


@pytest.mark.parametrize("name", ["batch norm", None])
def test_the_model_is_what_it_was_after_an_exception(name, untouched):
    model = untouched(made(name) if name else scene()[0])
    _, loss_fn, x, y, _, _ = scene()
    u, v = labkit.random_directions(model)
    calls = itertools.count()

    def failing(prediction, target):
        torch.rand(1)
        if next(calls) == 20:
            raise KeyboardInterrupt
        return loss_fn(prediction, target)

    with pytest.raises(KeyboardInterrupt):
        labkit.plane(model, failing, x, y, u, v, points=9)
    assert next(calls) == 21


@both_ways
def test_a_model_that_trains_on_meanwhile_changes_nothing(inside):
    model, loss_fn, x, y, u, v = scene()
    expected = labkit.plane(model, loss_fn, x, y, u, v, points=5).loss
    model, u, v = inside(model, u, v)
    for found in labkit.refine(model, loss_fn, x, y, u, v, points=5):
        assert found.computed.any()
        with torch.no_grad():
            next(model.parameters()).add_(1)
    np.testing.assert_allclose(found.loss, expected, rtol=1e-13)


# Losses


def test_cells_that_are_not_finite_stay_so_and_the_others_are_what_they_were():
    model, loss_fn, x, y, u, v = scene()

    def burst(prediction, target):
        loss = loss_fn(prediction, target)
        return torch.where(loss > 1.2, torch.inf, torch.where(loss > 1.15, torch.nan, loss))

    plain, found = (labkit.plane(model, each, x, y, u, v, points=9) for each in (loss_fn, burst))
    assert np.array_equal(np.isposinf(found.loss), plain.loss > 1.2)
    assert np.array_equal(np.isnan(found.loss), (plain.loss > 1.15) & (plain.loss <= 1.2))
    kept = np.isfinite(found.loss)
    assert 0 < kept.sum() < 81 and np.isposinf(found.loss).any() and np.isnan(found.loss).any() and found.done
    np.testing.assert_allclose(found.loss[kept], plain.loss[kept], rtol=1e-14)
    assert "losses from" in repr(found)
    nothing = labkit.plane(model, lambda p, t: p.sum() * torch.nan, x, y, u, v, points=3)
    assert np.isnan(nothing.loss).all() and "no finite loss" in repr(nothing)


@both_ways
def test_weights_that_overflow_do_so_in_the_plane_as_in_the_model(inside):
    model, _, x, _, _, _ = scene(dtype=torch.float32)
    with torch.no_grad():
        model[2].weight.mul_(1e37)
    model, u, v = inside(model, *labkit.random_directions(model))
    found = labkit.plane(model, functional.mse_loss, x, torch.zeros(30, 3), u, v, points=5)
    assert not np.isfinite(found.loss).any()


LOSSES = {
    "a lambda": lambda prediction, target: functional.cross_entropy(prediction, target) + prediction.std(),
    "weights": nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)),
    "smoothing": nn.CrossEntropyLoss(label_smoothing=0.2),
    "a module": nn.CrossEntropyLoss(),
    "multi-margin": functional.multi_margin_loss,
}


@pytest.mark.parametrize("loss_fn", LOSSES.values(), ids=LOSSES)
def test_a_loss_that_the_lab_does_not_know_is_measured(loss_fn):
    model, _, x, y, u, v = scene()
    found = labkit.plane(model, loss_fn, x, y, u, v, points=3)
    np.testing.assert_allclose(found.loss, loop(model, loss_fn, x, y, u, v, found.alpha, found.beta), rtol=1e-13)


def test_a_loss_that_the_lab_does_not_know_sees_the_whole_batch():
    model, _, x, y, u, v = scene()
    shapes, mse = set(), nn.MSELoss()

    def watched(prediction, target):
        shapes.add((tuple(prediction.shape), tuple(target.shape), prediction.is_contiguous()))
        return mse(prediction, target)

    target = functional.one_hot(y, 3).double()
    for inside in (lambda *parts: parts, wrapped):
        labkit.plane(*[*(part := inside(model, u, v))][:1], watched, x, target, *part[1:], points=5)
    assert shapes == {((30, 3), (30, 3), True)}


def test_the_losses_of_torch_are_known_by_their_function():
    model, _, x, y, u, v = scene()
    one_hot = functional.one_hot(y, 3).double()
    cases = [(functional.mse_loss, "mse", one_hot), (functional.huber_loss, "huber", one_hot)]
    cases += [(functional.cross_entropy, "cross_entropy", y), (functional.cross_entropy, "cross_entropy", one_hot)]
    for function, name, target in cases:
        ours, theirs, slow = (
            labkit.plane(model, each, x, target, u, v, points=3).loss
            for each in (Loss(name), function, lambda p, t, f=function: f(p, t))
        )
        assert np.array_equal(ours, theirs)
        np.testing.assert_allclose(ours, slow, rtol=1e-13)


def test_probabilities_that_do_not_sum_to_1_are_measured_as_torch_does():
    model, _, x, _, u, v = scene()
    target = torch.rand(30, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = labkit.plane(model, Loss("cross_entropy"), x, target, u, v, points=3)
    truth = loop(model, functional.cross_entropy, x, target, u, v, found.alpha, found.beta)
    np.testing.assert_allclose(found.loss, truth, rtol=1e-13)


def test_class_numbers_that_torch_leaves_out_are_left_out():
    model, loss_fn, x, y, u, v = scene()
    y[:20] = -100
    found = labkit.plane(model, loss_fn, x, y, u, v, points=3)
    fewer = labkit.plane(model, loss_fn, x[20:], y[20:], u, v, points=3)
    np.testing.assert_allclose(found.loss, fewer.loss, rtol=1e-13)


def test_targets_of_other_types_go_to_losses_that_want_them():
    model, loss_fn, x, y, u, v = scene()
    found = labkit.plane(model, lambda p, t: loss_fn(p, t.long()), x, y.int(), u, v, points=3)
    np.testing.assert_allclose(found.loss, labkit.plane(*scene(), points=3).loss, rtol=1e-13)
    found = labkit.plane(model, lambda p, t: p[t].mean(), x, y > 0, u, v, points=3)
    assert found.done


@both_ways
def test_a_measure_may_be_a_plain_number(inside):
    model, loss_fn, x, y, u, v = scene()
    model, u, v = inside(model, u, v)
    also = {"float": lambda p, t: loss_fn(p, t).item(), "numpy": lambda p, t: p.numpy().max()}
    found = labkit.plane(model, loss_fn, x, y, u, v, points=3, also=also)
    np.testing.assert_allclose(found.values["float"], found.loss, rtol=1e-14)


@both_ways
def test_a_measure_need_not_be_hashable(inside):
    @dataclasses.dataclass
    class Weighted:
        factor: float

        def __call__(self, prediction, target):
            return self.factor * functional.cross_entropy(prediction, target)

    model, loss_fn, x, y, u, v = scene()
    model, u, v = inside(model, u, v)
    found = labkit.plane(model, loss_fn, x, y, u, v, points=3, also={"twice": Weighted(2.0)})
    np.testing.assert_allclose(found.values["twice"], 2 * found.loss, rtol=1e-13)


def test_several_measures_of_train_and_test_data_cost_one_forward_pass_each():
    model, loss_fn, x, y, u, v = scene()
    model, u, v = wrapped(model, u, v)
    sizes = []
    model.inner.register_forward_hook(lambda module, inputs, answer: sizes.append(len(answer)))
    also = {"accuracy": labkit.accuracy, "spread": lambda p, t: p.std()}
    found = labkit.plane(model, loss_fn, x, y, u, v, points=5, also=also, test=(x[:10], y[:10]))
    assert sizes == [30, 10] * (1 + 25)  # once to see whether all is well
    assert list(found.values) == ["loss", "accuracy", "spread", "test loss", "test accuracy", "test spread"]
    for name, part in (("", slice(None)), ("test ", slice(10))):
        for measure, function in {"loss": loss_fn, **also}.items():
            truth = loop(model, function, x[part], y[part], u, v, found.alpha, found.beta)
            np.testing.assert_allclose(found.values[name + measure], truth, rtol=1e-12)


@pytest.mark.parametrize("spec", [SPEC, SPEC.but(loss="mse"), SPEC.but(dataset="digits", loss="mse")])
def test_accuracy_of_every_kind_of_target_is_counted(spec):
    run = labkit.train(spec)
    model, x, y = run.model(), run.data.x_train[:150], run.data.y_train[:150]
    u, v = labkit.random_directions(model)
    found = labkit.plane(model, run.loss_fn, x, y, u, v, points=3, also={"accuracy": labkit.accuracy})
    answer = model(x)
    right = (answer > 0) == (y > 0) if answer.shape[1] == 1 else answer.argmax(1) == (y.argmax(1) if y.ndim > 1 else y)
    assert found.values["accuracy"][1, 1] == pytest.approx(right.float().mean().item(), abs=1e-6)
    counted = found.values["accuracy"] * len(x)
    np.testing.assert_allclose(counted, counted.round(), atol=1e-4)


def test_r_squared_is_measured():
    run = labkit.train(SPEC.but(dataset="bumps", loss="mse"))
    data, u_v = (run.data.x_train, run.data.y_train), labkit.random_directions(run.model())
    found = labkit.plane(run.model(), run.loss_fn, *data, *u_v, points=3, also={"R²": labkit.r_squared})
    np.testing.assert_allclose(found.values["R²"], 1 - found.loss / data[1].var(correction=0).item(), rtol=1e-5)


# Memory and threads


def in_chunks(monkeypatch, places):
    """Let every evaluator measure this many places at once."""
    begin = LossEvaluator.__init__

    def smaller(self, *arguments, **more):
        begin(self, *arguments, **more)
        self.chunk = places

    monkeypatch.setattr(LossEvaluator, "__init__", smaller)


def scarce(monkeypatch, most, kind=BatchedMLP):
    """Let an evaluator run out of memory above some places at once; return how many it is asked for."""
    asked, measure = [], kind.measure

    def limited(self, coefficients):
        asked.append(len(coefficients))
        if len(coefficients) > most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return measure(self, coefficients)

    monkeypatch.setattr(kind, "measure", limited)
    return asked


@pytest.mark.parametrize(("kind", "inside"), [(BatchedMLP, lambda *parts: parts), (InPlace, wrapped)])
def test_chunks_are_halved_until_they_fit(monkeypatch, kind, inside):
    model, loss_fn, x, y, u, v = scene()
    model, u, v = inside(model, u, v)
    expected = labkit.plane(model, loss_fn, x, y, u, v, points=7)
    in_chunks(monkeypatch, 16)
    asked = scarce(monkeypatch, 3, kind)
    found = labkit.plane(model, loss_fn, x, y, u, v, points=7)
    assert asked[asked.index(16) :] == [16, 8, 4, *[2] * 24, 1] and found.done
    np.testing.assert_allclose(found.loss, expected.loss, rtol=1e-14)


def test_memory_that_is_too_small_for_one_place_is_reported(monkeypatch, untouched):
    model, loss_fn, x, y, u, v = scene()
    here = LossEvaluator(untouched(model), loss_fn, x, y, (u, v))
    here.chunk = 6
    asked = scarce(monkeypatch, 0)
    with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory"):
        here.at(np.zeros((9, 2)))
    assert asked == [6, 3, 1]


def test_a_cpu_without_memory_says_so_in_words():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 55, dtype=torch.float64)
    assert evaluator._out_of_memory(caught.value)
    assert not evaluator._out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


@pytest.mark.parametrize("free", [0, 40_000, 10**9])
def test_buffers_of_all_threads_fit_the_free_memory_of_a_cpu(monkeypatch, free):
    model, loss_fn, x, y, u, v = scene()
    expected = labkit.plane(model, loss_fn, x, y, u, v, points=21)
    monkeypatch.setattr(devices, "free_bytes", lambda device: free)
    monkeypatch.setattr(devices, "WORK_PER_THREAD", 1)
    with devices.threads(2):
        here = LossEvaluator(model, loss_fn, x, y, (u, v))
    evaluator, units = here._evaluator, sum(layer.out_features for layer in model if isinstance(layer, nn.Linear))
    place = 8 * (sum(layer.numel() for layer in list(model.parameters())[2::2]) + len(x) * units)
    assert evaluator._workers * evaluator._tile * place <= max(free / 2, place)
    assert evaluator._workers == (2 if free == 10**9 else 1)
    steps = np.stack(np.meshgrid(expected.alpha, expected.beta), -1).reshape(-1, 2)
    np.testing.assert_allclose(here.at(steps)["loss"], expected.loss.ravel(), rtol=1e-13)


def test_the_size_of_a_chunk_changes_nothing(monkeypatch):
    run = labkit.train(SPEC)
    model = run.model()
    arguments = model, run.loss_fn, run.data.x_train, run.data.y_train, *labkit.random_directions(model)
    planes = []
    for places in (1, 5, 1000):
        in_chunks(monkeypatch, places)
        planes.append(labkit.plane(*arguments, points=9).loss)
    np.testing.assert_allclose(planes[0], planes[2], rtol=1e-6)
    np.testing.assert_allclose(planes[1], planes[2], rtol=1e-6)


@both_ways
def test_two_threads_give_the_same_plane_and_none_is_left_behind(inside):
    model, loss_fn, x, y, u, v = scene()
    model, u, v = inside(model, u, v)
    also = {"accuracy": labkit.accuracy}
    before, planes = threading.active_count(), []
    for threads in (1, 2):
        with devices.threads(threads):
            planes.append(labkit.plane(model, loss_fn, x, y, u, v, points=41, also=also))
            assert torch.get_num_threads() == threads
    for name in planes[0].values:
        np.testing.assert_allclose(planes[0].values[name], planes[1].values[name], rtol=1e-13)
    until = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < until:
        time.sleep(0.01)
    assert threading.active_count() == before


@both_ways
def test_a_persons_own_measure_is_called_from_one_thread_only(inside):
    model, loss_fn, x, y, u, v = scene()
    model, u, v = inside(model, u, v)
    callers = set()

    def own(prediction, target):
        callers.add(threading.get_ident())
        return prediction.std()

    with devices.threads(2):
        labkit.plane(model, loss_fn, x, y, u, v, points=41, also={"own": own})
    assert callers == {threading.get_ident()}


# From coarse to fine


@both_ways
def test_refining_computes_every_point_once_and_ends_as_the_plane(inside):
    model, known, x, y, u, v = scene()
    model, u, v = inside(model, u, v)
    calls = itertools.count()

    def loss_fn(prediction, target):
        next(calls)
        return known(prediction, target)

    *_, found = labkit.refine(model, loss_fn, x, y, u, v, points=17)
    assert next(calls) == 17**2 + 1  # and one to see whether all is well
    whole = labkit.plane(model, loss_fn, x, y, u, v, points=17)
    assert found.done and np.array_equal(found.alpha, whole.alpha) and np.array_equal(found.beta, whole.beta)
    np.testing.assert_allclose(found.loss, whole.loss, rtol=1e-14)


def test_coarse_grids_are_nested_and_whole(monkeypatch):
    in_chunks(monkeypatch, 5)
    model, loss_fn, x, y, u, v = scene()
    whole = labkit.plane(model, loss_fn, x, y, u, v, points=17)
    sides, counts = [], []
    for found in labkit.refine(model, loss_fn, x, y, u, v, points=17, test=(x, y), notes={"why": "test"}):
        coarse = found.coarse()
        side, counts = len(coarse.alpha), [*counts, int(found.computed.sum())]
        sides.append(side)
        assert coarse.done and coarse.facts["why"] == "test"
        if side >= 5:
            stride = 16 // (side - 1)
            assert np.array_equal(coarse.alpha, whole.alpha[::stride])
            np.testing.assert_allclose(coarse.loss, whole.loss[::stride, ::stride], rtol=1e-14)
            np.testing.assert_allclose(coarse.values["test loss"], coarse.loss, rtol=1e-14)
        assert np.isnan(found.loss[~found.computed]).all() and np.isfinite(found.loss[found.computed]).all()
    assert counts[4] == 25 and sides[:4] == [1] * 4 and sides[4] == 5  # the first whole picture
    assert sides == sorted(sides) and sorted({*sides}) == [1, 5, 9, 17] and (np.diff(counts) <= 5).all()
    assert len(found.coarse().alpha) == 17


def test_a_plane_with_nothing_on_it_has_a_coarse_one_with_nothing():
    model, loss_fn, x, y, u, v = scene()
    made = planes._blank(planes._ticks(1.0, 9, None), LossEvaluator(model, loss_fn, x, y, (u, v)), {}, None)
    assert not made.coarse().done and not made.done and "0% of it computed" in repr(made)


def test_refining_can_be_stopped_between_two_chunks(untouched):
    model, known, x, y, u, v = scene()
    model, u, v = wrapped(model, u, v)
    calls = itertools.count()

    def loss_fn(prediction, target):
        next(calls)
        return known(prediction, target)

    planes = labkit.refine(untouched(model), loss_fn, x, y, u, v, points=65)
    found = next(planes)
    planes.close()
    assert found.computed.sum() == InPlace.chunk == next(calls) - 1 and list(planes) == []


def test_refining_has_no_size_but_nested_grids():
    for points in (40, 41, 4, 3, 64, 7):
        with pytest.raises(ValueError, match="nested grids have 5, 9, 17, 33, 65"):
            labkit.refine(*scene(), points=points)  # at once, not at the first picture
    for points in (5.0, True, "65", 1):
        with pytest.raises(ValueError, match="points takes a whole number"):
            labkit.refine(*scene(), points=points)


def test_refining_takes_a_window():
    *_, found = labkit.refine(*scene(), points=5, window=CORNERS)
    expected = labkit.plane(*scene(), points=5, window=CORNERS)
    np.testing.assert_allclose(found.loss, expected.loss, rtol=1e-14)


# Saving and going on


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "plane"


def test_a_saved_plane_comes_back_as_it_was(folder):
    model, loss_fn, x, y, u, v = scene()
    notes = {"seed": 3, "axes": {"u": "a", "v": "b"}, "spec": SPEC.share()}
    more = {"also": {"R² of it": lambda p, t: p.sum() * torch.inf}, "test": (x, y), "notes": notes}
    found = labkit.plane(model, loss_fn, x, y, u, v, window=CORNERS, points=4, **more)
    assert found.save(folder) == folder
    again = labkit.load_plane(folder)
    assert again.facts == found.facts and again.facts["parameters"] == 59 and again.facts["seed"] == 3
    assert again.facts["torch"] == torch.__version__ and again.facts["dtype"] == "torch.float64"
    assert (again.facts["labkit"], again.facts["numpy"]) == (labkit.__version__, np.__version__)
    for name in ("alpha", "beta", "computed"):
        assert np.array_equal(getattr(again, name), getattr(found, name))
    assert {*again.values} == {*found.values}
    assert all(np.array_equal(again.values[name], found.values[name]) for name in found.values)
    assert again.done and repr(again) == repr(found)


def test_a_plane_keeps_how_its_directions_were_drawn(folder):
    model, loss_fn, x, y, *_ = scene()
    drawn, other = labkit.random_directions(model, seed=7, normalize="layer", orthogonal=True)
    labkit.plane(model, loss_fn, x, y, drawn, other, points=3).save(folder)
    made = {"kind": "random", "seed": 7, "normalize": "layer", "orthogonal": True, "biases": True}
    assert labkit.load_plane(folder).facts["directions"] == {"u": made, "v": made}
    (way,) = labkit.between(model, copy.deepcopy(model))
    assert labkit.plane(model, loss_fn, x, y, way, other, points=3).facts["directions"] == {"v": made}
    assert "directions" not in labkit.plane(model, loss_fn, x, y, way, dict(other), points=3).facts


class Counted:
    """A loss that counts its calls, and stops with Ctrl-C after some of them."""

    def __init__(self, until=None, scale=1.0):
        self.calls, self.until, self.scale = 0, until, scale

    def __call__(self, prediction, target):
        if self.calls == self.until:
            raise KeyboardInterrupt
        self.calls += 1
        return self.scale * functional.cross_entropy(prediction, target)


@pytest.fixture
def half(folder, monkeypatch):
    """A plane of 81 points, of which 48 were saved before somebody pressed Ctrl-C."""
    monkeypatch.setattr(planes, "SAVE_EVERY", 0)
    model, _, x, y, u, v = scene()
    model, u, v = wrapped(model, u, v)

    def go_on(loss_fn, **changes):
        given = {"model": model, "x": x, "y": y, "u": u, "v": v, "points": 9, "folder": folder, **changes}
        return labkit.plane(loss_fn=loss_fn, **given)

    with pytest.raises(KeyboardInterrupt):
        go_on(Counted(until=60))
    assert [path.name for path in folder.parent.iterdir()] == ["plane"]  # nothing beside it
    return go_on


def test_a_half_made_plane_is_continued(half, folder):
    started = labkit.load_plane(folder)
    assert started.computed.sum() == 48 and not started.done and "59% of it computed" in repr(started)
    loss_fn = Counted()
    found = half(loss_fn)
    assert loss_fn.calls == 1 + planes.PROBES + 33 and found.done
    plain = half(Counted(), folder=None)
    np.testing.assert_array_equal(found.loss, plain.loss)
    assert labkit.load_plane(folder).done
    again = Counted()
    np.testing.assert_array_equal(half(again, notes={"why": "asked"}).loss, plain.loss)
    assert again.calls < 12 and labkit.load_plane(folder).facts["why"] == "asked"


def test_planes_half_made_by_earlier_versions_are_known_by_their_checksum():
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    numbers = torch.arange(sum(p.numel() for p in model.parameters())) / 8  # the same bits on any machine
    vector_to_parameters(numbers, model.parameters())
    along = {name: torch.ones_like(p) for name, p in model.named_parameters()}
    found = planes.checksum(model, torch.eye(2), torch.tensor([0, 1]), along)
    assert found == "b910e354c55e843e8212732528125d7e649cc6f3637932b821aedfd6edb3a420"  # by commit 620a7d4


def changed_weights(model):
    other = copy.deepcopy(model)
    with torch.no_grad():
        next(other.parameters())[0] += 1e-6
    return other


def test_another_plane_in_the_folder_is_refused(half, folder):
    model, _, x, y, _, _ = scene()
    other, v2, u2 = wrapped(changed_weights(model), *labkit.random_directions(model, 5))
    differing = [{"x": x + 1e-9}, {"y": (y + 1) % 3}, {"u": u2}, {"v": v2}, {"model": other}, {"points": 11}]
    differing += [{"span": 2.0}, {"window": CORNERS}, {"also": {"accuracy": labkit.accuracy}}, {"test": (x, y)}]
    before = [path.read_bytes() for path in sorted(folder.iterdir())]
    for change in differing:
        with pytest.raises(ValueError, match="holds another plane"):
            half(Counted(), **change)
    with pytest.raises(ValueError, match="holds another plane"):
        half(Counted(scale=1.1))  # the same class of loss with another number
    assert [path.read_bytes() for path in sorted(folder.iterdir())] == before
    assert half(Counted()).done


def test_other_test_data_of_the_same_names_are_another_plane(folder):
    model, loss_fn, x, y, u, v = scene()
    labkit.plane(model, loss_fn, x, y, u, v, points=3, folder=folder, test=(x, y))
    with pytest.raises(ValueError, match="holds another plane"):
        labkit.plane(model, loss_fn, x, y, u, v, points=3, folder=folder, test=(x + 1e-9, y))


def test_a_module_that_computes_something_else_from_the_same_weights_is_another_plane(folder):
    model, loss_fn, x, y, u, v = scene()
    labkit.plane(model, loss_fn, x, y, u, v, points=3, folder=folder)
    model[1] = nn.ReLU()
    with pytest.raises(ValueError, match="holds another plane"):
        labkit.plane(model, loss_fn, x, y, u, v, points=3, folder=folder)


def test_a_damaged_plane_is_refused(half, folder):
    tensors = folder / "plane.safetensors"
    whole = tensors.read_bytes()
    tensors.write_bytes(whole[:-9] + b"9" + whole[-8:])
    for call in (lambda: half(Counted()), lambda: labkit.load_plane(folder)):
        with pytest.raises(ValueError, match="cannot be read: its checksum differs"):
            call()
    facts = json.loads((folder / "plane.json").read_text())
    (folder / "plane.json").write_text(json.dumps({**facts, "way": "by hand"}))
    tensors.write_bytes(whole)
    with pytest.raises(ValueError, match="cannot be read: its checksum differs"):
        labkit.load_plane(folder)


def test_a_folder_without_a_plane(tmp_path, folder):
    with pytest.raises(ValueError, match="holds no saved plane"):
        labkit.load_plane(tmp_path)
    folder.mkdir()  # an empty one will do
    assert labkit.plane(*scene(), points=3, folder=str(folder)).done and labkit.load_plane(folder).done
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="holds no saved plane"):
        labkit.plane(*scene(), points=3, folder=other)
    with pytest.raises(FileExistsError, match="holds something else than a plane"):
        labkit.load_plane(folder).save(other)
    assert (other / "thesis.txt").read_text() == "years of work"


def test_a_plane_of_a_network_with_counters_can_be_kept(folder):
    assert labkit.plane(
        *normed(), points=3, folder=folder
    ).done  # batch norm counts batches in a tensor of no dimension


@pytest.mark.parametrize(
    ("notes", "says"),
    [
        ({"seed": np.int64(3)}, "notes are kept as JSON"),
        ({"x": torch.zeros(2)}, "notes are kept as JSON"),
        ({"format": "png"}, "may not use these reserved keys: format"),
        ({"way": "mine", "sum": 1}, "may not use these reserved keys: sum, way"),
    ],
)
def test_notes_that_could_not_be_saved_are_refused_before_any_work(notes, says):
    with pytest.raises(ValueError, match=says):
        labkit.plane(*scene(), notes=notes)


# Lines


def test_a_line_leads_from_one_network_to_the_other(untouched):
    (a, loss_fn, x, y, _, _), (b, *_) = scene(0), scene(1)
    also = {"accuracy": labkit.accuracy}
    found = labkit.line(untouched(a), untouched(b), loss_fn, x, y, points=5, also=also, test=(x, y))
    assert found.t.tolist() == [0, 0.25, 0.5, 0.75, 1] and {*found.values} == {
        "loss", "accuracy", "test loss", "test accuracy",
    }  # fmt: skip
    for t, loss in zip(found.t, found.loss, strict=True):
        there = copy.deepcopy(a)
        for p, one, two in zip(there.parameters(), a.parameters(), b.parameters(), strict=True):
            p.data = (1 - t) * one.data + t * two.data
        assert loss == pytest.approx(loss_fn(there(x), y).item(), rel=1e-13)
    assert found.facts["length"] == pytest.approx((flat(weights_of(b)) - flat(weights_of(a))).norm().item())
    assert "5 points" in repr(found)


def test_the_barrier_is_what_rises_above_the_straight_line_between_the_ends():
    t = np.linspace(0, 1, 5)
    for losses, barrier in (([1, 2, 3, 4, 5], 0), ([1, 0, 0, 0, 1], 0), ([1, 2, 5, 2, 3], 3)):
        assert planes.Line(t, {"loss": np.array(losses, dtype=float)}, {}).barrier == pytest.approx(barrier)


def test_the_way_between_two_linear_regressions_is_a_parabola():
    _, _, x, _, _, _ = scene()
    y = x[:, :1] * 2 + 1
    a, b = (nn.Linear(4, 1).double() for _ in range(2))
    found = labkit.line(a, b, functional.mse_loss, x, y, points=11)
    np.testing.assert_allclose(np.diff(found.loss, 3), 0, atol=1e-13)
    assert found.barrier <= 1e-15 and (np.diff(found.loss, 2) > 0).all()


def test_a_line_to_itself_is_flat():
    a, loss_fn, x, y, _, _ = scene()
    found = labkit.line(a, a, loss_fn, x, y, points=2)
    assert np.array_equal(found.loss, [loss_fn(a(x), y).item()] * 2) or np.ptp(found.loss) < 1e-15
    assert found.facts["length"] == 0


def test_batch_norm_is_recomputed_along_a_line():
    (a, loss_fn, x, y, _, _), b = normed(), changed_weights(normed()[0])
    with torch.no_grad():
        b[0].weight.mul_(3)
    stored, fresh = (labkit.line(a, b, loss_fn, x, y, points=3, recompute=each) for each in (False, True))
    with torch.no_grad():
        a[1].running_mean.copy_(a[0](x).mean(0))
        a[1].running_var.copy_(a[0](x).var(0))
    assert fresh.loss[0] == pytest.approx(loss_fn(a(x), y).item(), rel=1e-12)
    assert np.abs(stored.loss - fresh.loss).max() > 1e-3


@pytest.mark.parametrize("points", [1, 0, 2.0, True, "9", None])
def test_a_line_needs_two_points(points):
    a, loss_fn, x, y, _, _ = scene()
    with pytest.raises(ValueError, match="points takes a whole number from 2"):
        labkit.line(a, a, loss_fn, x, y, points=points)


def test_a_line_needs_two_networks_of_one_shape():
    a, loss_fn, x, y, _, _ = scene()
    with pytest.raises(ValueError, match="towards model 2 has shape"):
        labkit.line(a, scene(outputs=4)[0], loss_fn, x, y)
    with pytest.raises(ValueError, match="a NoneType; give a"):
        labkit.line(a, None, loss_fn, x, y)


# What is refused, before any work


def without(direction, name):
    return {key: part for key, part in direction.items() if key != name}


def wrong_inputs():
    """What is wrong → (what is changed, what the sentence says)."""
    model, _, x, y, u, v = scene()
    one_hot, column = functional.one_hot(y, 3), torch.randn(30, 1, dtype=torch.float64)
    single = nn.Sequential(nn.Linear(4, 1)).double()
    s, t = labkit.random_directions(single)
    regression = {"model": single, "u": s, "v": t, "loss_fn": Loss("mse")}
    meta = nn.Sequential(nn.Linear(4, 7), nn.Tanh(), nn.Linear(7, 3, device="meta"))
    mixed = nn.Sequential(nn.Linear(4, 7), nn.Tanh(), nn.Linear(7, 3).double())
    bad = {"0.weight": torch.full_like(u["0.weight"], torch.nan)}
    return {
        "direction, shape": ({"u": u | {"0.weight": u["0.weight"].T}}, r"u has shape \(4, 7\) at '0.weight', where"),
        "direction, missing key": ({"v": without(v, "2.bias")}, "direction v and the model differ in 2.bias"),
        "direction, other key": ({"u": u | {"extra": column}}, "direction u and the model differ in extra"),
        "direction, of another model": ({"u": s}, "an entry for each of the model's named parameters"),
        "direction, no dict": ({"u": list(u.values())}, "direction u and the model differ in"),
        "direction, none": ({"u": None}, "direction u and the model differ in"),
        "direction, numpy": ({"u": {k: p.numpy() for k, p in u.items()}}, "a ndarray at '0.weight'; give torch"),
        "direction, dtype": ({"v": {k: p.float() for k, p in v.items()}}, "v has dtype torch.float32 at"),
        "direction, device": ({"v": {k: p.to("meta") for k, p in v.items()}}, "v has device meta at"),
        "direction, nan": ({"u": u | bad}, "direction u is not finite at '0.weight'"),
        "model, no module": ({"model": labkit.Spec()}, "the model is a Spec; give a torch.nn.Module"),
        "model, a method": ({"model": model.forward}, "the model is a method; give a torch.nn.Module"),
        "model, no parameters": ({"model": nn.Sequential(nn.Tanh()), "u": {}, "v": {}}, "no parameters"),
        "model, two devices": ({"model": meta}, "several devices: cpu, meta"),
        "model, two dtypes": ({"model": mixed}, "several dtypes"),
        "x, numpy": ({"x": x.numpy()}, "x is a ndarray; give a torch tensor"),
        "x, list": ({"x": x.tolist()}, "x is a list; give a torch tensor"),
        "x, dtype": ({"x": x.float()}, r"x is torch.float32 and the model torch.float64. Write x.to\(torch.float64\)"),
        "x, device": ({"x": x.to("meta")}, "x is on meta and the model on cpu"),
        "x, width": ({"x": x[:, :3]}, r"cannot read inputs torch.float64 of shape \(30, 3\): mat1 and mat2"),
        "x, no samples": ({"x": x[0, 0]}, "x is a single number; give one x for each sample"),
        "x, empty": ({"x": x[:0], "y": y[:0]}, "x has 0 samples and y 0"),
        "y, length": ({"y": y[:-1]}, "x has 30 samples and y 29; give one y for each x"),
        "y, numpy": ({"y": y.numpy()}, "y is a ndarray; give a torch tensor"),
        "y, beyond": ({"y": y + 1}, "y names class 3 and the model answers for 3, counted from 0"),
        "y, below": ({"y": y - 1}, "y names class -1 and the model answers for 3, counted from 0"),
        "y, int32": ({"y": y.int()}, "cross entropy needs class numbers, torch.int64"),
        "y, whole one-hot": ({"y": one_hot}, r"one-hot floating-point numbers of shape \(30, 3\)"),
        "y, column": ({"y": y[:, None]}, r"torch.int64 of shape \(30, 1\); cross entropy needs"),
        "y, float classes": ({"y": y.double()}, r"y is torch.float64 of shape \(30,\); cross entropy needs class"),
        "y, (N,) beside (N, 1)": ({**regression, "y": column[:, 0]}, r"shape \(30, 1\) where the targets need \(30,\)"),
        "y, (N,) of torch's mse": (
            {**regression, "loss_fn": functional.mse_loss, "y": column[:, 0]}, r"the targets need \(30,\)",
        ),
        "test, one": ({"test": (x,)}, "test must be a pair of tensors"),
        "test, a tensor": ({"test": x}, "test must be a pair of tensors"),
        "test, width": ({"test": (x[:, :3], y)}, r"of shape \(30, 3\)"),
        "test, length": ({"test": (x, y[:3])}, "test x has 30 samples and test y 3"),
        "test, empty": ({"test": (x[:0], y[:0])}, "test x has 0 samples"),
        "test, class": ({"test": (x, y + 1)}, "y names class 3"),
        "loss, a name": ({"loss_fn": "mse"}, "'mse' cannot be called: give"),
        "loss, a vector": ({"loss_fn": nn.CrossEntropyLoss(reduction="none")}, r"this one is \(30,\)\. Take its mean"),
        "loss, nothing": ({"loss_fn": lambda p, t: None}, "must be one number and this one is NoneType"),
        "also, a list": ({"also": [labkit.accuracy]}, "also must be a dict"),
        "also, loss": ({"also": {"loss": labkit.accuracy}}, "without 'loss'"),
        "also, a name": ({"also": {"accuracy": "accuracy"}}, "'accuracy' cannot be called: give"),
        "also, twice": ({"also": {"test loss": labkit.accuracy}, "test": (x, y)}, "duplicate measure name"),
        "also, a vector": ({"also": {"each": lambda p, t: p[:, 0]}}, "must be one number"),
        "points, even": ({"points": 40}, "points=40 has no point at the centre: take 39 or 41"),
        "points, 1": ({"points": 1}, "points=1 is not allowed"),
        "points, 2.5": ({"points": 2.5}, "points=2.5 is not allowed"),
        "points, True": ({"points": True}, "points=True is not allowed"),
        "points, text": ({"points": "41"}, "points='41' is not allowed"),
        "points, endless": ({"points": 1_000_001}, "points=1000001 is not allowed"),
        "span, 0": ({"span": 0}, "span=0 is not allowed"),
        "span, nan": ({"span": float("nan")}, "span=nan is not allowed"),
        "span, inf": ({"span": float("inf")}, "span=inf is not allowed"),
        "span, negative": ({"span": -1.0}, "span=-1.0 is not allowed"),
        "span, text": ({"span": "1"}, "span='1' is not allowed"),
        "span, True": ({"span": True}, "span=True is not allowed"),
        "window, reversed": ({"window": ((1, -1), (0, 1))}, "each rising and finite"),
        "window, empty": ({"window": ((0, 0), (0, 1))}, "each rising and finite"),
        "window, nan": ({"window": ((0, float("nan")), (0, 1))}, "each rising and finite"),
        "window, one axis": ({"window": (-1, 1)}, "each rising and finite"),
        "window, three": ({"window": ((-1, 1),) * 3}, "each rising and finite"),
        "window, text": ({"window": (("a", 1), (0, 1))}, "each rising and finite"),
        "recompute": ({"recompute": True}, "no batch norm"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "way"),
    [
        (name, way)
        for name in wrong_inputs()
        for way in ("plane", "refine")
        if (name, way) != ("points, even", "refine")
    ],
)
def test_what_cannot_be_used_is_refused_before_any_work(name, way):
    change, says = wrong_inputs()[name]
    model, loss_fn, x, y, u, v = scene()
    given = {"model": model, "loss_fn": loss_fn, "x": x, "y": y, "u": u, "v": v, **change}
    before = state_of(model)
    with pytest.raises(ValueError, match=says) as caught:
        getattr(labkit, way)(**given)
    assert "\n" not in str(caught.value) and same(state_of(model), before)


@pytest.mark.parametrize("name", [name for name in wrong_inputs() if name[0] in "xyl" or name.startswith("test")])
def test_the_general_way_refuses_the_same(name):
    change, _ = wrong_inputs()[name]
    model, loss_fn, x, y, u, v = scene()
    given = {"model": model, "loss_fn": loss_fn, "x": x, "y": y, "u": u, "v": v, **change}
    given["model"], given["u"], given["v"] = wrapped(*(given.pop(key) for key in ("model", "u", "v")))
    with pytest.raises(ValueError):
        labkit.plane(**given)


def test_a_loss_that_fails_says_so_itself():
    def broken(prediction, target):
        raise ZeroDivisionError("mine")

    model, _, *rest = scene()
    with pytest.raises(ZeroDivisionError, match="mine"):
        labkit.plane(model, broken, *rest)


def test_one_sentence_says_what_an_evaluator_measures():
    model, loss_fn, x, y, u, v = scene()
    said = repr(LossEvaluator(model, loss_fn, x, y, (u, v), test=(x, y)))
    assert said.startswith("LossEvaluator: loss, test loss of 59 parameters, stacked, ") and said.endswith(" at a time")


def test_an_evaluator_takes_any_number_of_directions():
    model, loss_fn, x, y, u, v = scene()
    for inside in (lambda *parts: parts, wrapped):
        here, one, two = inside(model, u, v)
        expected = labkit.plane(here, loss_fn, x, y, one, two, window=CORNERS, points=3).loss
        along = LossEvaluator(here, loss_fn, x, y, (one,)).at(np.array([[-1.0], [0.5]]))["loss"]
        np.testing.assert_allclose(along, expected[0, ::2], rtol=1e-13)
        bent = LossEvaluator(here, loss_fn, x, y, (one, two, one)).at(np.array([[-0.5, 2.0, 1.0]]))["loss"]
        np.testing.assert_allclose(bent, expected[2, 2], rtol=1e-13)


@both_ways
def test_weights_in_place_of_the_models_own_are_measured(inside, untouched):
    model, loss_fn, x, y, u, v = scene()
    model, u, v = inside(untouched(model), u, v)
    here = labkit.LossEvaluator(model, loss_fn, x, y, (u, v), test=(x[:9], y[:9]))
    steps = np.array([[0.0, 0.0], [-1.0, 0.5], [0.3, 2.0]])
    rows = flat(weights_of(model)) + torch.from_numpy(steps) @ torch.stack([flat(u), flat(v)])
    there, expected = here.at_weights(rows), here.at(steps)
    assert list(there) == list(here.names) == ["loss", "test loss"]
    for name in there:
        np.testing.assert_allclose(there[name], expected[name], rtol=1e-13)


def test_coefficients_and_weights_of_another_shape_are_refused():
    model, loss_fn, x, y, u, v = scene()
    here = LossEvaluator(model, loss_fn, x, y, (u, v))
    for wrong in ([0.0, 1.0], [[0.0]], [[0.0, 1.0, 2.0]], np.empty((0, 2)), 1.0):
        with pytest.raises(ValueError, match=r"the coefficients have shape .*; give a row of 2 for each place"):
            here.at(wrong)
    for wrong in (torch.zeros(59), torch.zeros(2, 58), torch.zeros(0, 59)):
        with pytest.raises(ValueError, match=r"the weights have shape .*; give rows of 59"):
            here.at_weights(wrong)


def test_every_activation_of_the_lab_is_batched():
    assert {row.module for row in REGISTRY.values()} <= ELEMENTWISE
    z = torch.linspace(-3, 3, 99, dtype=torch.float64)
    for kind, act in IN_PLACE.items():
        assert torch.equal(act(kind(), z.clone()), kind()(z))
    for kind in ELEMENTWISE:
        assert (kind in ODD) == torch.allclose(kind()(-z), -kind()(z))


# On a GPU


@pytest.mark.gpu
@pytest.mark.parametrize(("name", "way"), [(None, "stacked"), ("convolutions", "vmap"), ("weight norm", "in place")])
def test_a_gpu_gives_the_same_plane(name, way):
    model, loss_fn, x, y, _, _ = scene()
    model = made(name) if name else model
    u, v = labkit.random_directions(model)
    there, x, y = copy.deepcopy(model).cuda(), x.cuda(), y.cuda()
    moved = [{key: part.cuda() for key, part in each.items()} for each in (u, v)]
    axis = np.linspace(-1, 1, 9)
    expected = loop(
        there, loss_fn, x, y, *moved, axis, axis
    )  # there: a GPU's own weight norm is off by 3e-9 in float64
    before, random = state_of(there), torch.cuda.get_rng_state()
    found = labkit.plane(there, loss_fn, x, y, *moved, points=9)
    np.testing.assert_allclose(found.loss, expected, rtol=1e-11)
    assert found.facts["way"] == way
    assert same(state_of(there), before) and torch.equal(torch.cuda.get_rng_state(), random)


@pytest.mark.gpu
def test_on_a_gpu_dropout_goes_the_plain_way():
    model = nn.Sequential(nn.Linear(4, 9), nn.Dropout(0.5), nn.Linear(9, 3)).double().cuda()
    _, loss_fn, x, y, _, _ = scene()
    still = {name: torch.zeros_like(weight) for name, weight in weights_of(model).items()}
    found = labkit.plane(model, loss_fn, x.cuda(), y.cuda(), still, still, points=5)
    assert found.facts["way"] == "in place" and len(np.unique(found.loss)) == 1
