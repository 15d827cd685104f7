"""The benchmark of planes: both sides compute the same cells, the reference is right, the rows have their targets."""

import copy
from itertools import product

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from bench import landscape as bench_landscape
from bench.landscape import CPU, CUDA, SHAPES, SMOOTH, Goal
from labkit.core import devices

TINY = Goal("3-8-8-4", (3, 8, 8, 4), 50, 7, 2)
ONE_OUTPUT = Goal("3-8-1", (3, 8, 1), 50, 5, 2)


@pytest.fixture(params=[TINY, ONE_OUTPUT], ids=lambda goal: goal.name)
def case(request):
    return bench_landscape.make(request.param)


def test_a_cell_of_the_loop_agrees_with_one_written_by_hand():
    case = bench_landscape.in_float64(bench_landscape.make(ONE_OUTPUT))
    a, b = case.ticks[3], case.ticks[1]
    first, first_bias, last, last_bias = (
        (weights + a * case.u[name] + b * case.v[name]).detach().numpy()
        for name, weights in case.model.named_parameters()
    )
    hidden = np.maximum(case.x.numpy() @ first.T + first_bias, 0)
    by_hand = np.mean((hidden @ last.T + last_bias - case.y.numpy()) ** 2)
    assert bench_landscape.loop(case, case.ticks, case.ticks)[1, 3] == pytest.approx(by_hand, rel=1e-14)


def test_the_middle_of_an_odd_plane_is_the_network_itself():
    case = bench_landscape.make(ONE_OUTPUT)
    centre = case.loss_fn(case.model(case.x), case.y).item()
    assert bench_landscape.loop(case, case.ticks, case.ticks)[2, 2] == centre


def test_all_sides_agree_with_float64_on_their_cells(case):
    exact = bench_landscape.in_float64(case)
    truth = bench_landscape.loop(exact, case.ticks, case.ticks)
    assert bench_landscape.error(bench_landscape.ours(case), truth) < 1e-6
    assert bench_landscape.error(bench_landscape.loop(case, case.ticks, case.ticks), truth) < 1e-6
    assert np.abs(bench_landscape.ours(exact) / truth - 1).max() < 1e-12


def test_the_peer_is_right_on_the_cells_it_visits_and_wrong_on_those_it_documents(case):
    visited, documented = bench_landscape.peer_truth(bench_landscape.in_float64(case))
    values = bench_landscape.peer(case)()
    assert bench_landscape.error(values, visited) < 1e-5
    assert bench_landscape.error(values, documented) > 0.02
    assert bench_landscape.error(values[1::2], documented[1::2]) < 1e-5  # every other row is as documented


def test_no_side_moves_the_network(case):
    before = copy.deepcopy(case.model.state_dict())
    bench_landscape.ours(case), bench_landscape.peer(case)(), bench_landscape.loop(case, case.ticks, case.ticks)
    assert all(torch.equal(weights, before[name]) for name, weights in case.model.state_dict().items())
    assert all(weights.requires_grad for weights in case.model.parameters())


def test_the_loss_is_the_one_that_torch_has(case):
    prediction = case.model(case.x)
    expected = functional.mse_loss if case.y.is_floating_point() else functional.cross_entropy
    assert torch.equal(case.loss_fn(prediction, case.y), expected(prediction, case.y))


def test_goals_are_the_stated_ones():
    article = (1024, 512, 256, 128, 64, 32, 16, 1)
    assert [goal[1:5] for goal in CPU] == [
        ((784, 128, 10), 1000, 21, 10),
        (article, 512, 21, 2.7),
        ((2, 32, 32, 1), 512, 41, 2),
    ]
    assert [goal[1:5] for goal in CUDA] == [((2, 64, 64, 2), 1000, 51, 20), ((784, 512, 512, 10), 10_000, 51, 2.5)]
    assert {(goal.widths, goal.target) for goal in SHAPES} == {
        ((inputs, width, width, 10), 0.9) for inputs, width in product((2, 64, 784), (16, 64, 256, 512))
    }


def test_other_activations_than_relu_are_measured_too():
    assert [(goal.activation, goal.target) for goal in SMOOTH] == [(nn.GELU, 0.9), (nn.SiLU, 0.9)]
    kinds = {type(layer) for layer in bench_landscape.make(SMOOTH[0]).model}
    assert kinds == {nn.Linear, nn.GELU}


def test_speed_is_not_far_below_target():
    goal = CPU[0]._replace(points=11)
    row = bench_landscape.speed_row(bench_landscape.make(goal), "1 thread", goal.target, 3, 1, 1)
    assert row.target == 10
    assert row.ratio > row.target / 10


@pytest.fixture
def small(monkeypatch):
    """A benchmark of small planes, wherever it runs."""
    monkeypatch.setattr(bench_landscape, "CPU", (TINY,))
    monkeypatch.setattr(bench_landscape, "SHAPES", (ONE_OUTPUT,))
    monkeypatch.setattr(bench_landscape, "SMOOTH", ())
    monkeypatch.setattr(bench_landscape, "CUDA", ())
    with devices.threads(1):
        yield


def test_rows_of_small_planes(small):
    head, speed, *errors, shape, of_shape, _, in_double = list(bench_landscape.landscape_rows(1))[:-2]
    assert "loss-landscapes 3.0.6" in head.what
    assert (speed.what, speed.target, speed.at_most) == ("3-8-8-4, 7², 1 thread, points/s", 2, False)
    assert (shape.what, shape.target, shape.at_most) == ("3-8-1, 5², 1 thread, points/s", 2, False)
    against_loop, against_median, double, visited, documented = errors
    assert of_shape.what == "3-8-1, 5², error / plain loop's" and of_shape.met and in_double.met
    assert (against_loop.target, against_median.target, double.target) == (2, 1e-6, 1e-12)
    assert against_loop.met and against_median.met and double.met
    assert against_loop.ours == against_median.ours == against_loop.ratio * against_loop.plain
    assert visited.plain < 1e-5 < 0.02 < documented.plain


def test_without_the_peer_the_table_says_so_and_measures_the_loop(small, monkeypatch):
    monkeypatch.setattr(bench_landscape, "installed", lambda: False)
    head, *rows = bench_landscape.landscape_rows(1)
    assert "loss-landscapes is missing" in head.what
    assert len(rows) == 8
    assert rows[0].ratio > 0
    assert rows[0].target is rows[4].target is None
    assert all(row.ours is not None for row in rows)


def test_both_thread_counts_are_measured():
    with devices.threads(2):
        rows = list(bench_landscape.cpu_rows(bench_landscape.make(TINY), 2, 1))
    assert [row.what.split(", ")[2] for row in rows] == ["1 thread", "best threads"]


def test_the_precision_of_matrix_products_is_restored():
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        with bench_landscape._full_float32():
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.gpu
@pytest.mark.parametrize("goal", CUDA, ids=lambda goal: goal.name)
def test_cuda_planes(goal):
    goal = goal._replace(points=11)
    case = bench_landscape.make(goal, "cuda")
    assert bench_landscape.speed_row(case, "cuda", goal.target, 3, 1, 1).ratio > goal.target / 10
    against_loop, against_median, double, *_ = bench_landscape.error_rows(case)
    assert against_loop.met and against_median.met and double.met
