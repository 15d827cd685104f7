"""The Hessian's products, extreme eigenvalues and trace against dense Hessians, closed forms and curvlinops."""

import threading
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional

import labkit
from labkit.core.losses import Loss
from labkit.core.runs import WeightPath
from labkit.landscape import hessian as hessian_module
from labkit.landscape.directions import flat, moved, shaped
from labkit.landscape.hessian import (
    Trace,
    eigenpairs,
    hessian_directions,
    hessian_product,
    sharpness,
    sharpness_along,
    trace,
)

ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU, "gelu": nn.GELU}
LOSSES = ("mse", "cross_entropy", "huber")
NET = {"depth": 2, "width": 100, "activation": "tanh", "init": "pytorch"}
EDGE = labkit.Spec(dataset="chebyshev", loss="mse", optimizer="sgd", batch_size=0, steps=8000, **NET)


@pytest.fixture(autouse=True)
def one_thread():
    """On a busy machine a second thread waits more than it helps."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def network(activation="tanh", widths=(3, 6, 5, 2), seed=0):
    torch.manual_seed(seed)
    layers = [part for pair in pairwise(widths) for part in (nn.Linear(*pair), ACTIVATIONS[activation]())]
    return nn.Sequential(*layers[:-1]).double()


def problem(loss="mse", activation="tanh", widths=(3, 6, 5, 2), samples=20):
    """A network, a loss and data, in float64."""
    model, rng = network(activation, widths), torch.Generator().manual_seed(1)
    x = torch.randn(samples, widths[0], generator=rng, dtype=torch.float64)
    if loss == "cross_entropy":
        return model, Loss(loss), x, torch.randint(widths[-1], (samples,), generator=rng)
    y = 2 * torch.randn(samples, widths[-1], generator=rng, dtype=torch.float64)
    return model, Loss(loss, 0.7), x, y


def regression(inputs, outputs, samples=60):
    """A linear network with mse, and all eigenvalues of its Hessian: each occurs once for every output."""
    torch.manual_seed(0)
    model = nn.Linear(inputs, outputs).double()
    x, y = (torch.randn(samples, n, dtype=torch.float64) for n in (inputs, outputs))
    design = np.c_[x.numpy(), np.ones(samples)]
    values = np.linalg.eigvalsh(2 / (samples * outputs) * design.T @ design)
    return (model, functional.mse_loss, x, y), np.sort(np.repeat(values, outputs))


def dense(model, loss_fn, x, y):
    """The whole Hessian, by autograd in one piece."""
    start = flat({name: p.detach() for name, p in model.named_parameters()})
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}

    def loss(theta):
        torch.manual_seed(0)  # what random layers draw in every product
        kept = {name: buffer.clone() for name, buffer in buffers.items()}
        return loss_fn(functional_call(model, shaped(theta, model) | kept, (x,)), y)

    with torch.random.fork_rng():
        return torch.autograd.functional.hessian(loss, start)


def vector_for(model, seed=0):
    size = sum(p.numel() for p in model.parameters())
    return torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def close(measured, expected, relative=1e-9):
    measured, expected = (torch.as_tensor(each, dtype=torch.float64) for each in (measured, expected))
    return float((measured - expected).abs().max()) <= relative * float(expected.abs().max())


# Against dense Hessians


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("loss", LOSSES)
def test_products_and_eigenvalues_are_those_of_the_dense_hessian(loss, activation):
    case = problem(loss, activation)
    hessian, v = dense(*case), vector_for(case[0])
    assert close(hessian_product(*case)(v), hessian @ v, 1e-12)
    values = np.linalg.eigvalsh(hessian.numpy())
    assert len(values) > hessian_module.DENSE  # by Lanczos, not column by column
    np.testing.assert_allclose(sharpness(*case, k=3), values[::-1][:3], rtol=1e-8)
    np.testing.assert_allclose(eigenpairs(*case, 2, which="smallest").values, values[:2], rtol=1e-7)


@pytest.mark.parametrize("k", [1, 5, 17])
def test_a_small_hessian_is_taken_whole(k):
    case = problem(widths=(2, 3, 2))
    values = np.linalg.eigvalsh(dense(*case).numpy())
    assert len(values) == 17
    np.testing.assert_allclose(sharpness(*case, k=k), values[::-1][:k], rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(eigenpairs(*case, k, which="smallest").values, values[:k], rtol=1e-10, atol=1e-14)


def test_eigenpairs_satisfy_their_equation_and_are_perpendicular():
    case = problem("cross_entropy")
    pairs, product = eigenpairs(*case, 4), hessian_product(*case)
    for value, vector in zip(pairs.values, pairs.vectors, strict=True):
        assert float((product(vector) - value * vector).norm()) <= 1e-5 * pairs.values[0]
    assert close(pairs.vectors @ pairs.vectors.T, torch.eye(4), 1e-5)
    assert (np.diff(pairs.values) < 0).all()


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # by what curvlinops imports
@pytest.mark.parametrize("loss", LOSSES)
def test_curvlinops_finds_the_same(loss):
    import curvlinops

    model, loss_fn, x, y = problem(loss)
    module = {"mse": nn.MSELoss(), "cross_entropy": nn.CrossEntropyLoss(), "huber": nn.HuberLoss(delta=0.7)}[loss]
    peer = curvlinops.HessianLinearOperator(
        model, module, list(model.parameters()), [(x, y)], check_deterministic=False
    )
    v = vector_for(model)
    assert close(hessian_product(model, loss_fn, x, y)(v), peer @ v, 1e-12)
    values = np.linalg.eigvalsh((peer @ torch.eye(len(v), dtype=torch.float64)).detach().numpy())
    np.testing.assert_allclose(sharpness(model, loss_fn, x, y, k=2), values[::-1][:2], rtol=1e-8)


@pytest.mark.parametrize(("inputs", "outputs"), [(40, 1), (20, 3), (25, 5)])
def test_linear_regression_has_the_eigenvalues_of_its_data_each_once_per_output(inputs, outputs):
    case, values = regression(inputs, outputs)
    k = 2 * outputs
    largest = sharpness(*case, k=k)
    np.testing.assert_allclose(largest, values[::-1][:k], rtol=1e-8)
    assert (np.diff(largest) <= 0).all()
    np.testing.assert_allclose(eigenpairs(*case, k, which="smallest").values, values[:k], rtol=1e-7)


def test_eigenvalues_of_exactly_0_are_found():
    case, values = regression(60, 1, samples=12)  # fewer samples than weights
    np.testing.assert_allclose(eigenpairs(*case, 3, which="smallest").values, 0, atol=1e-9 * values[-1])
    np.testing.assert_allclose(sharpness(*case, k=14)[12:], 0, atol=1e-9 * values[-1])


def test_a_float32_network_gives_what_float32_can():
    model, loss_fn, x, y = problem("cross_entropy")
    exact = sharpness(model, loss_fn, x, y, k=3)
    values = sharpness(model.float(), loss_fn, x.float(), y, k=3)
    assert values.dtype == np.float64
    np.testing.assert_allclose(values, exact, rtol=3e-6)


def test_an_l1_loss_has_the_hessian_of_its_pieces():
    linear = nn.Linear(40, 1).double()
    x, y = torch.randn(20, 40, dtype=torch.float64), torch.randn(20, 1, dtype=torch.float64)
    assert (sharpness(linear, functional.l1_loss, x, y, k=2) == 0).all()
    assert (sharpness(linear, lambda prediction, target: prediction.mean(), x, y, k=2) == 0).all()
    assert trace(linear, functional.l1_loss, x, y) == Trace(0, 0)
    model, _, x, y = problem()
    values = np.linalg.eigvalsh(dense(model, functional.l1_loss, x, y).numpy())
    np.testing.assert_allclose(sharpness(model, functional.l1_loss, x, y, k=2), values[::-1][:2], rtol=1e-8)


def test_the_second_difference_along_the_top_eigenvector_is_the_top_eigenvalue():
    model, loss_fn, x, y = problem()
    pairs, h = eigenpairs(model, loss_fn, x, y), 1e-4
    start = flat({name: p.detach() for name, p in model.named_parameters()})

    def loss(step):
        return float(loss_fn(moved(model, start + step * pairs.vectors[0])(x), y).detach())

    assert close((loss(h) - 2 * loss(0) + loss(-h)) / h**2, pairs.values[0], 1e-5)


# Layers whose derivatives torch does not always get right


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.inside = nn.MultiheadAttention(4, 2, batch_first=True)
        self.out = nn.Linear(4, 2)

    def forward(self, x):
        return self.out(self.inside(x, x, x, need_weights=False)[0].mean(1))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.inside, self.out = nn.LSTM(4, 3, batch_first=True), nn.Linear(3, 2)

    def forward(self, x):
        return self.out(self.inside(x)[0][:, -1])


def convolution():
    filters = nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Tanh(), nn.MaxPool2d(2)
    return nn.Sequential(*filters, nn.Flatten(), nn.Linear(12, 2))


LAYERS = {
    "batch norm": (lambda: nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 2)), (12, 4)),
    "layer norm": (lambda: nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.GELU(), nn.Linear(6, 2)), (12, 4)),
    "dropout": (lambda: nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Dropout(), nn.Linear(6, 2)), (12, 4)),
    "convolution": (convolution, (6, 1, 6, 6)),
    "attention": (Attention, (6, 5, 4)),
    "recurrence": (Recurrent, (6, 5, 4)),
}


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("layer", LAYERS)
def test_products_are_differences_of_gradients_in_either_mode(layer, mode):
    make, shape = LAYERS[layer]
    torch.manual_seed(3)
    model = make().double().train(mode == "train")
    x, y = torch.randn(shape, dtype=torch.float64), torch.randn(shape[0], 2, dtype=torch.float64)
    v, start = vector_for(model), flat({name: p.detach() for name, p in model.named_parameters()})
    product = hessian_product(model, functional.mse_loss, x, y)(v)

    def gradient(step):
        torch.manual_seed(0)
        there = moved(model, start + step * v)
        parameters = [p.requires_grad_() for p in there.parameters()]
        slopes = torch.autograd.grad(functional.mse_loss(there(x), y), parameters)
        return torch.cat([slope.reshape(-1) for slope in slopes])

    h = 1e-5
    assert close((gradient(h) - gradient(-h)) / (2 * h), product, 1e-7)


def test_random_layers_draw_the_same_in_every_product():
    model, loss_fn, x, y = problem()
    model = nn.Sequential(model[0], nn.Dropout(), *model[1:])
    v, w = vector_for(model), vector_for(model, 1)
    product = hessian_product(model, loss_fn, x, y)
    one = product(v)
    assert close(product(v + w) - product(w), one, 1e-12)
    torch.rand(5)
    assert torch.equal(hessian_product(model, loss_fn, x, y)(v), one)
    assert close(dense(model, loss_fn, x, y) @ v, one, 1e-12)
    assert not close(hessian_product(model.eval(), loss_fn, x, y)(v), one, 1e-2)


def test_tied_and_frozen_parameters_count_once():
    model, loss_fn, x, y = problem(widths=(3, 5, 5, 5, 2))
    model[4].weight = model[2].weight
    model[0].weight.requires_grad_(False)
    hessian, v = dense(model, loss_fn, x, y), vector_for(model)
    assert len(hessian) == 20 + 30 + 5 + 12
    assert close(hessian_product(model, loss_fn, x, y)(v), hessian @ v, 1e-12)


# Starts


def test_a_warm_start_takes_fewer_products_and_finds_the_same():
    run = labkit.train(labkit.Spec(dataset="digits", width=32, loss="cross_entropy", steps=100), snapshots=11)
    case, warm, products = (run.loss_fn, run.data.x_train[:200], run.data.y_train[:200]), None, []
    for weights in run.path.weights:
        model = moved(run.model(), weights)
        cold, warm = eigenpairs(model, *case), eigenpairs(model, *case, start=warm)
        np.testing.assert_allclose(warm.values, cold.values, rtol=1e-5)
        products.append((cold.products, warm.products))
    cold, warm = np.sum(products[1:], 0)
    assert warm < cold


@pytest.mark.parametrize("loss", LOSSES)
def test_a_start_at_another_eigenvector_does_not_keep_the_search_there(loss):
    case = problem(loss)
    pairs = eigenpairs(*case, 2)
    for start in (pairs.vectors[1], replace(pairs, vectors=pairs.vectors[1:])):
        np.testing.assert_allclose(eigenpairs(*case, start=start).values, pairs.values[:1], rtol=1e-8)


def test_results_do_not_depend_on_the_global_generator():
    case = problem()
    before = eigenpairs(*case, 2), trace(*case)
    torch.manual_seed(5)
    np.random.seed(5)
    after = eigenpairs(*case, 2), trace(*case)
    assert np.array_equal(before[0].values, after[0].values) and torch.equal(before[0].vectors, after[0].vectors)
    assert before[1] == after[1]


# Directions and trace


def test_the_hessian_directions_are_the_two_top_eigenvectors_with_a_fixed_sign():
    case = problem()
    vectors = torch.linalg.eigh(dense(*case)).eigenvectors
    for direction, vector in zip(hessian_directions(*case), (vectors[:, -1], vectors[:, -2]), strict=True):
        assert {name: part.shape for name, part in direction.items()} == {
            name: p.shape for name, p in case[0].named_parameters()
        }
        along = flat(direction)
        assert close(along, vector * torch.sign(vector[vector.abs().argmax()]), 1e-5)
        assert close(along.norm(), 1, 1e-12) and along[along.abs().argmax()] > 0


@pytest.mark.parametrize("loss", LOSSES)
def test_the_trace_is_within_four_standard_errors(loss):
    case = problem(loss)
    exact = float(dense(*case).trace())
    few, many = trace(*case, samples=16), trace(*case, samples=400)
    for estimate in (few, many):
        assert abs(estimate.mean - exact) <= 4 * estimate.error
    assert many.error == pytest.approx(few.error / (400 / 16) ** 0.5, rel=0.6)
    assert trace(*case, seed=1) != trace(*case)


class Scale(nn.Module):
    """A weight for each input, so that the Hessian under mse is diagonal."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(7, dtype=torch.float64))

    def forward(self, x):
        return x * self.weight


def test_the_trace_of_a_diagonal_hessian_is_exact():
    x, y = torch.randn(30, 7, dtype=torch.float64), torch.randn(30, 7, dtype=torch.float64)
    mean, error = trace(Scale(), functional.mse_loss, x, y, samples=2)
    assert mean == pytest.approx(2 * float(x.square().mean()), rel=1e-12) and error < 1e-12


# What is left as it was


def state_of(model):
    parts = [part for p in model.parameters() for part in (p.detach().clone(), p.grad.clone(), p.requires_grad)]
    return parts + [b.clone() for b in model.buffers()] + [m.training for m in model.modules()]


def same(one, other):
    return all(torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("measure", [sharpness, eigenpairs, hessian_directions, trace, hessian_product])
def test_model_gradients_and_random_state_are_left_bit_identical(measure, mode):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Dropout(), nn.Linear(6, 2))
    x, y = torch.randn(20, 3), torch.randn(20, 2)
    functional.mse_loss(model(x), y).backward()
    model.train(mode == "train")
    model[0].bias.requires_grad_(False)
    before, random, others = state_of(model), torch.get_rng_state(), np.random.get_state()[1].copy()
    answer = measure(model, functional.mse_loss, x, y)
    if measure is hessian_product:
        answer(torch.ones(sum(p.numel() for p in model.parameters())))
    assert same(before, state_of(model))
    assert torch.equal(random, torch.get_rng_state()) and np.array_equal(others, np.random.get_state()[1])
    assert all(type(p) is nn.Parameter and p.is_leaf for p in model.parameters())


def test_the_threads_of_the_caller_are_given_back():
    torch.set_num_threads(3)
    sharpness(*problem())
    assert torch.get_num_threads() == 3


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_a_caller_without_gradients_gets_the_same(context):
    case, v = problem(), vector_for(problem()[0])
    expected = hessian_product(*case)(v)
    with context():
        assert torch.equal(hessian_product(*case)(v), expected)
        assert np.isfinite(sharpness(*case)).all()


def test_two_threads_do_not_disturb_each_other():
    case, found = problem(), []
    expected = sharpness(*case, k=2)
    threads = [threading.Thread(target=lambda: found.append(sharpness(*case, k=2))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6 and all(np.array_equal(values, expected) for values in found)


# Along a path


def test_sharpness_along_a_path_is_that_of_each_point():
    run = labkit.train(labkit.Spec(samples=60, width=8, steps=60), snapshots=5)
    case = run.loss_fn, run.data.x_train, run.data.y_train
    values = sharpness_along(run.path, run.model(), *case)
    each = [sharpness(moved(run.model(), weights), *case)[0] for weights in run.path.weights]
    assert values.shape == (5,)
    np.testing.assert_allclose(values, each, rtol=1e-5)


def test_sharpness_is_nan_where_a_path_is_no_longer_finite():
    model, loss_fn, x, y = problem()
    start = flat({name: p.detach() for name, p in model.named_parameters()})
    path = WeightPath(np.arange(3), torch.stack([start, start * torch.inf, start]))
    values = sharpness_along(path, model, loss_fn, x, y)
    assert np.isfinite(values).tolist() == [True, False, True]
    assert values[2] == pytest.approx(values[0], rel=1e-8)


@pytest.mark.parametrize("lr", [0.05, 0.1])
def test_gradient_descent_stays_at_the_edge_of_stability(lr):
    run = labkit.train(EDGE.but(lr=lr), snapshots=41)
    values = sharpness_along(run.path, run.model(), run.loss_fn, run.data.x_train, run.data.y_train)
    edge = values[run.path.steps >= 4000] * lr / 2
    assert len(edge) == 21
    assert (edge >= 0.95).all() and (edge <= 1.05).all()  # every one of them, not just their mean


# What is refused


class Bare(nn.Module):
    def forward(self, x):
        return x


CASE = problem()
REFUSED = {
    "no parameters": (lambda m, f, x, y: sharpness(Bare(), f, x, y), "no parameters"),
    "no module": (lambda m, f, x, y: sharpness(f, f, x, y), "torch.nn.Module"),
    "several devices": (
        lambda m, f, x, y: sharpness(nn.Sequential(m, nn.Linear(2, 2, device="meta")), f, x, y),
        "several",
    ),
    "x elsewhere": (lambda m, f, x, y: sharpness(m, f, x.to("meta"), y), "x is on meta"),
    "y elsewhere": (lambda m, f, x, y: sharpness(m, f, x, y.to("meta")), "y is on meta"),
    "x no tensor": (lambda m, f, x, y: sharpness(m, f, x.numpy(), y), "ndarray"),
    "a loss per sample": (lambda m, f, x, y: sharpness(m, lambda p, t: (p - t).square(), x, y), r"shape \(20, 2\)"),
    "a loss of one entry": (lambda m, f, x, y: sharpness(m, lambda p, t: p.sum().view(1), x, y), r"shape \(1,\)"),
    "a plain number": (lambda m, f, x, y: sharpness(m, lambda p, t: p.sum().item(), x, y), "float"),
    "a detached loss": (lambda m, f, x, y: sharpness(m, lambda p, t: p.detach().sum(), x, y), "detach"),
    "a broadcast": (lambda m, f, x, y: sharpness(m, f, x, y[:, 0]), "answers with shape"),
    "k of 0": (lambda m, f, x, y: sharpness(m, f, x, y, k=0), "k=0 is not allowed"),
    "k beyond the model": (lambda m, f, x, y: sharpness(m, f, x, y, k=72), "k=72 is not allowed"),
    "k of 1.5": (lambda m, f, x, y: sharpness(m, f, x, y, k=1.5), "k=1.5 is not allowed"),
    "k of True": (lambda m, f, x, y: sharpness(m, f, x, y, k=True), "k=True is not allowed"),
    "another end": (lambda m, f, x, y: eigenpairs(m, f, x, y, which="LA"), "which takes one of largest, smallest"),
    "a short start": (lambda m, f, x, y: eigenpairs(m, f, x, y, start=torch.ones(5)), r"start has shape \(5,\)"),
    "a start of 0": (lambda m, f, x, y: eigenpairs(m, f, x, y, start=torch.zeros(71)), "start is zero"),
    "a start of nan": (lambda m, f, x, y: eigenpairs(m, f, x, y, start=torch.full((71,), torch.nan)), "not finite"),
    "samples of True": (lambda m, f, x, y: trace(m, f, x, y, samples=True), "samples=True is not allowed"),
    "a negative seed": (lambda m, f, x, y: trace(m, f, x, y, seed=-1), "seed=-1 is not allowed"),
    "one sample": (lambda m, f, x, y: trace(m, f, x, y, samples=1), "samples=1 is not allowed"),
    "a short vector": (lambda m, f, x, y: hessian_product(m, f, x, y)(torch.ones(5)), r"shape \(5,\)"),
    "no path": (lambda m, f, x, y: sharpness_along(None, m, f, x, y), "path"),
    "another path": (lambda m, f, x, y: sharpness_along(WeightPath(np.arange(1), torch.ones(1, 5)), m, f, x, y), "5"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_measured_is_refused_in_a_sentence(what):
    call, words = REFUSED[what]
    with pytest.raises(ValueError, match=words):
        call(*CASE)


def test_whole_numbers_of_numpy_are_taken():
    case = problem(widths=(2, 3, 2))
    assert np.array_equal(sharpness(*case, k=np.int64(2)), sharpness(*case, k=2))
    assert trace(*case, samples=np.int32(4), seed=np.uint8(1)) == trace(*case, samples=4, seed=1)


@pytest.mark.parametrize("measure", [sharpness, trace, hessian_product, hessian_directions])
def test_a_diverged_network_is_refused(measure):
    model, loss_fn, x, y = problem()
    with torch.no_grad():
        model[0].weight.fill_(torch.nan)
    with pytest.raises(ValueError, match="the loss is nan at these weights"):
        measure(model, loss_fn, x, y)


def test_a_curvature_that_overflows_is_refused():
    model, _, x, y = problem()
    with pytest.raises(ValueError, match="curvature is not finite"):
        sharpness(model, lambda p, t: (0 * p).sqrt().sum(), x, y)  # 0, with a slope of infinity


def test_a_search_that_does_not_end_says_so(monkeypatch):
    monkeypatch.setattr(hessian_module, "RESTARTS", 1)
    monkeypatch.setattr(hessian_module, "ENDS", {"largest": (1, 3)})
    with pytest.raises(RuntimeError, match="largest eigenvalues were not found"):
        sharpness(*regression(60, 3)[0])


def test_eigenpairs_read_like_a_sentence():
    assert repr(eigenpairs(*problem(widths=(2, 3, 2)), 2)).endswith("among 17, by 17 products")


@pytest.mark.gpu
def test_a_gpu_finds_the_same():
    model, loss_fn, x, y = problem("cross_entropy")
    model = nn.Sequential(model[0], nn.Dropout(0.0), *model[1:])
    expected, state = sharpness(model, loss_fn, x, y, k=2), torch.cuda.get_rng_state()
    pairs = eigenpairs(model.cuda(), loss_fn, x.cuda(), y.cuda(), 2)
    np.testing.assert_allclose(pairs.values, expected, rtol=1e-8)
    assert pairs.vectors.is_cuda and torch.equal(torch.cuda.get_rng_state(), state)
