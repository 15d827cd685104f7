"""Paths on planes: the nearest point by least squares, the distance off the plane, and the true loss beside it."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters
from torch.utils.flop_counter import FlopCounterMode

import labkit
from labkit.core import devices
from labkit.core.runs import WeightPath
from labkit.landscape.directions import flat, moved, shaped, weights_of
from labkit.landscape.trajectories import project

SPEC = labkit.Spec(samples=80, width=6, depth=2, batch_size=0, steps=60, lr=0.02)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Networks as small as these gain nothing from a second one."""
    with devices.threads(1):
        yield


@pytest.fixture(scope="module")
def run():
    return labkit.train(SPEC, snapshots=12)


@pytest.fixture(scope="module")
def sgd():
    return labkit.train(SPEC.but(optimizer="sgd", lr=0.3), snapshots=9)


def given(run):
    """What a trail wants to know of a run."""
    return run.model(), run.loss_fn, run.data.x_train, run.data.y_train


def skew(model):
    """Two directions that are neither perpendicular nor of one length."""
    u, v = (flat(direction) for direction in labkit.random_directions(model))
    return shaped(u, model), shaped(0.1 * v + 0.3 * u, model)


def vectors(model, u, v):
    """The plane's directions and centre as numpy: (P, 2), (P,)."""
    columns = torch.stack([flat(u), flat(v)], 1)
    return columns.double().numpy(), flat(weights_of(model)).double().numpy()


def kinds(run):
    """Every kind of direction that a plane may have."""
    model = run.model()
    yield model, *labkit.random_directions(model)
    yield model, *skew(model)
    principal = labkit.principal_directions(model, run.path)
    yield principal.centre, principal.u, principal.v
    yield model, *labkit.between(model, run.initial_model(), labkit.train(SPEC.but(seed=1)).model())


@pytest.mark.parametrize("kind", range(4))
def test_points_are_projected_as_by_least_squares(run, kind):
    model, u, v = list(kinds(run))[kind]
    steps, off = project(run.path, model, u, v)
    columns, centre = vectors(model, u, v)
    away = run.path.weights.double().numpy().T - centre[:, None]
    expected = np.linalg.lstsq(columns, away)[0].T
    np.testing.assert_allclose(steps, expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())
    distances = np.linalg.norm(away - columns @ expected.T, axis=0)
    np.testing.assert_allclose(off, distances, rtol=1e-9, atol=1e-12)
    assert steps.shape == (len(run.path.steps), 2) and off.max() > 0.01


def test_a_point_on_the_plane_is_found_and_is_not_off_it(run):
    model = run.model().double()
    u, v = skew(model)
    places = np.array([[0, 0], [1, -2], [0.3, 7]])
    columns, centre = vectors(model, u, v)
    path = WeightPath(np.arange(3), torch.tensor(centre + places @ columns.T))
    steps, off = project(path, model, u, v)
    np.testing.assert_allclose(steps, places, atol=1e-11)
    np.testing.assert_allclose(off, 0, atol=1e-12)


def test_the_distance_off_the_plane_is_the_length_of_what_the_plane_lacks(run):
    model = run.model().double()
    u, v = skew(model)
    columns, centre = vectors(model, u, v)
    normal = np.linalg.qr(np.c_[columns, np.ones(len(centre))])[0][:, 2]
    path = WeightPath(np.arange(2), torch.tensor(centre + columns @ [0.5, 1] + np.outer([3, -0.25], normal)))
    steps, off = project(path, model, u, v)
    np.testing.assert_allclose(steps, [[0.5, 1]] * 2, atol=1e-11)
    np.testing.assert_allclose(off, [3, 0.25], rtol=1e-11)


def test_the_principal_plane_lies_closer_to_the_path_than_a_random_one(run):
    found = labkit.principal_directions(run.model(), run.path)
    near, far = (
        project(run.path, model, u, v)[1]
        for model, u, v in ((found.centre, *found[:2]), (run.model(), *labkit.random_directions(run.model())))
    )
    assert near.max() < 0.5 * far.max()
    spread = (run.path.weights.double() - run.path.weights.double().mean(0)).square().sum().item()
    assert (near**2).sum() == pytest.approx((1 - found.explained[:2].sum()) * spread, rel=1e-5)


# The trail


@pytest.mark.parametrize("residual", [False, True])
def test_the_true_losses_are_those_of_the_training(residual):
    run = labkit.train(SPEC.but(residual=residual, l2=0.01), snapshots=12)
    found = labkit.trail(run.path, *given(run), *labkit.random_directions(run.model()))
    assert np.array_equal(found.steps, run.path.steps) and found.steps[0] == 0 and found.steps[-1] == 60
    before = found.steps < 60  # the last weights were never trained on
    np.testing.assert_allclose(found.loss[before], run.loss[found.steps[before]], rtol=2e-6)
    model, loss_fn, x, y = given(run)
    assert found.loss[-1] == pytest.approx(loss_fn(model(x), y).item(), rel=1e-6)


def test_the_loss_on_the_plane_is_what_the_plane_shows_there(run):
    for model, u, v in kinds(run):
        _, loss_fn, x, y = given(run)
        found = labkit.trail(run.path, model, loss_fn, x, y, u, v)
        steps, off = project(run.path, model, u, v)
        assert np.array_equal(np.c_[found.alpha, found.beta], steps) and np.array_equal(found.distance, off)
        columns, centre = vectors(model, u, v)
        exact = copy.deepcopy(model).double()
        for (a, b), loss in zip(steps, found.plane_loss, strict=True):
            vector_to_parameters(torch.tensor(centre + columns @ [a, b]), exact.parameters())
            assert loss == pytest.approx(loss_fn(exact(x.double()), y).item(), rel=1e-5)


def test_the_two_losses_differ_where_the_path_is_off_the_plane_and_only_there(run):
    model, loss_fn, x, y = given(run)
    ends = labkit.between(model, run.initial_model(), moved(model, run.path.weights[5]))
    found = labkit.trail(run.path, model, loss_fn, x, y, *ends)
    on = found.distance < 1e-5
    assert on[[0, 5, -1]].all() and on.sum() == 3  # three points span the plane
    gap = np.abs(found.plane_loss / found.loss - 1)
    assert gap[on].max() < 1e-5 < 0.01 < gap[~on].max()


def test_the_end_of_a_path_is_at_the_centre_of_its_own_model(run):
    found = labkit.trail(run.path, *given(run), *labkit.random_directions(run.model()))
    assert abs(found.alpha[-1]) < 1e-12 and abs(found.beta[-1]) < 1e-12 and found.distance[-1] < 1e-12
    assert found.plane_loss[-1] == pytest.approx(found.loss[-1], rel=1e-6)


def test_a_persons_own_module_has_a_trail():
    own = nn.Sequential(nn.Linear(2, 7), nn.LayerNorm(7), nn.Tanh(), nn.Linear(7, 2))
    run = labkit.train(SPEC, model=own, snapshots=6)
    found = labkit.trail(run.path, *given(run), *labkit.random_directions(run.model()))
    before = found.steps < 60
    np.testing.assert_allclose(found.loss[before], run.loss[found.steps[before]], rtol=2e-6)


def test_a_model_in_float64_has_a_trail(run):
    model, loss_fn, x, y = given(run)
    found = labkit.trail(run.path, model.double(), loss_fn, x.double(), y, *labkit.random_directions(model))
    assert found.loss[0] == pytest.approx(run.loss[0], rel=1e-6)


def test_directions_may_be_in_any_order_and_hold_gradients(run):
    model = run.model()
    u, v = labkit.random_directions(model)
    backwards = {name: nn.Parameter(part) for name, part in reversed(u.items())}
    found, expected = (labkit.trail(run.path, *given(run), each, v) for each in (backwards, u))
    assert np.array_equal(found.alpha, expected.alpha) and np.array_equal(found.plane_loss, expected.plane_loss)


def test_a_trail_reads_like_a_sentence(run):
    found = labkit.trail(run.path, *given(run), *labkit.random_directions(run.model()))
    losses = f"loss {found.loss[0]:.4g} → {found.loss[-1]:.4g}"
    assert (
        repr(found)
        == f"Trajectory: {len(run.path.steps)} points, {losses}, up to {found.distance.max():.3g} off the plane"
    )


def test_nothing_else_is_moved(run):
    model, loss_fn, x, y = given(run)
    before, random, threads = parameters_to_vector(model.parameters()), torch.get_rng_state(), torch.get_num_threads()
    weights = run.path.weights.clone()
    labkit.trail(run.path, model, loss_fn, x, y, *labkit.random_directions(model))
    assert torch.equal(parameters_to_vector(model.parameters()), before) and torch.equal(run.path.weights, weights)
    assert torch.equal(torch.get_rng_state(), random) and torch.get_num_threads() == threads


def test_threads_for_a_trail_follow_the_work(run, monkeypatch):
    model, loss_fn, x, y = given(run)
    u, v = labkit.random_directions(model)
    with FlopCounterMode(display=False) as projection:
        project(run.path, model, u, v)
    with FlopCounterMode(display=False) as pass_forward:
        model(x)
    asked = []
    monkeypatch.setattr(devices, "threads_for", lambda flops: asked.append(flops) or 1)
    labkit.trail(run.path, model, loss_fn, x, y, u, v)
    biases = 2 * len(x) * sum(p.numel() for p in model.parameters() if p.ndim == 1)
    assert {*asked[1:]} == {pass_forward.get_total_flops() + biases}
    assert asked[0] == pytest.approx(projection.get_total_flops(), rel=0.1)


# The window


def test_the_window_shows_every_path_whole_with_some_room(run, sgd):
    found = labkit.principal_directions(run.model(), run.path, sgd.path)
    u, v = found[:2]
    window = labkit.window_around(found.centre, u, v, run.path, sgd.path, margin=0.25)
    steps = np.concatenate([project(path, found.centre, u, v)[0] for path in (run.path, sgd.path)] + [np.zeros((1, 2))])
    for (low, high), places in zip(window, steps.T, strict=True):
        extent = np.ptp(places)
        assert low == pytest.approx(places.min() - 0.25 * extent) and high == pytest.approx(
            places.max() + 0.25 * extent
        )
    plane = labkit.plane(found.centre, *given(run)[1:], u, v, window=window, points=5)
    assert (plane.alpha[0], plane.alpha[-1]) == pytest.approx(window[0]) and plane.done


def test_the_window_shows_the_centre_too(run):
    model = run.model()
    u, v = labkit.random_directions(model)
    far = WeightPath(
        np.arange(2), flat(weights_of(model)) + torch.stack([2 * flat(u) + flat(v), 3 * flat(u) + 2 * flat(v)])
    )
    np.testing.assert_allclose(labkit.window_around(model, u, v, far, margin=0), [(0, 3), (0, 2)], atol=1e-5)


def test_a_path_that_stands_still_along_a_direction_has_a_window_all_the_same(run):
    model = run.model()
    u, v = labkit.random_directions(model, orthogonal=True)
    start = flat(weights_of(model))
    for path in (torch.stack([start, start + flat(u)]), torch.stack([start, start])):
        window = labkit.window_around(model, u, v, WeightPath(np.arange(2), path))
        assert all(low < 0 < high for low, high in window)
        assert labkit.plane(*given(run), u, v, window=window, points=3).done


# What is refused


def test_directions_that_span_no_plane_are_refused(run):
    model, loss_fn, x, y = given(run)
    u, _ = labkit.random_directions(model)
    still = {name: torch.zeros_like(part) for name, part in u.items()}
    double = {name: -2 * part for name, part in u.items()}
    for one, two in ((u, u), (u, double), (u, still), (still, u), (still, still)):
        with pytest.raises(ValueError, match="span no plane"):
            labkit.trail(run.path, model, loss_fn, x, y, one, two)
        with pytest.raises(ValueError, match="span no plane"):
            labkit.window_around(model, one, two, run.path)


def test_what_is_no_path_is_refused(run):
    model, loss_fn, x, y = given(run)
    u, v = labkit.random_directions(model)
    for path in (labkit.train(SPEC.but(steps=1)).path, run, run.path.weights, [run.path]):
        with pytest.raises(ValueError, match="a path is missing"):
            labkit.trail(path, model, loss_fn, x, y, u, v)
        with pytest.raises(ValueError, match="a path is missing"):
            labkit.window_around(model, u, v, path)
    with pytest.raises(ValueError, match="a path is missing"):
        labkit.window_around(model, u, v)


def test_the_path_of_another_network_is_refused(run):
    other = labkit.train(SPEC.but(width=7, steps=2), snapshots=2)
    u, v = labkit.random_directions(run.model())
    with pytest.raises(ValueError, match="the path is of 93 weights and the model has 74"):
        labkit.trail(other.path, *given(run), u, v)
    with pytest.raises(ValueError, match="the path is of 93 weights and the model has 74"):
        labkit.window_around(run.model(), u, v, run.path, other.path)
    with pytest.raises(ValueError, match="direction u has shape"):
        labkit.trail(run.path, *given(run), *labkit.random_directions(other.model()))


def test_wrong_data_are_refused_as_for_a_plane(run):
    model, loss_fn, x, y = given(run)
    u, v = labkit.random_directions(model)
    for change, says in (
        ((x.numpy(), y), "x is a ndarray"),
        ((x, y[:-1]), "one y for each x"),
        ((x, y + 1), "class 2"),
    ):
        with pytest.raises(ValueError, match=says):
            labkit.trail(run.path, model, loss_fn, *change, u, v)
