"""Predictions, ready to plot: the right picture for the data, the right way up, in raw units."""

import numpy as np
import pytest
import torch

import labkit
from labkit.core import predictions
from labkit.core.data import load_data
from labkit.core.spec import Spec

RNG = np.random.default_rng(0)
QUICK = Spec(samples=100, width=8, depth=1, batch_size=16, steps=30)


def own(inputs, targets, rows=60, **choices):
    """A split of user-supplied data: targets is a function of the inputs."""
    x = RNG.normal(size=(rows, inputs)) * 5 + 100
    spec = QUICK.but(loss="mse", **choices)
    return load_data(spec, (x, targets(x)))


@pytest.mark.parametrize(
    "choices, kind",
    [
        ({"dataset": "spiral"}, "map"),
        ({"dataset": "moons", "loss": "mse"}, "map"),
        ({"dataset": "bumps", "loss": "mse"}, "map"),
        ({"dataset": "teacher", "inputs": 2, "loss": "mse"}, "map"),
        ({"dataset": "chebyshev", "loss": "mse"}, "curve"),
        ({"dataset": "teacher", "inputs": 1, "loss": "mse"}, "curve"),
        ({"dataset": "digits"}, "confusion"),
        ({"dataset": "teacher", "inputs": 7, "loss": "huber"}, "scatter"),
    ],
)
def test_the_picture_follows_from_the_data(choices, kind):
    run = labkit.train(QUICK.but(**choices))
    picture = run.picture(points=20)
    assert picture.kind == predictions.kind_of(run.data) == kind and picture.classes == run.data.classes
    assert all(np.isfinite(part).all() for part in (picture.x, picture.y, picture.z))
    assert (len(run.points().x) > 0) == (kind in ("map", "curve"))


# Maps


def test_a_map_has_input_1_along_its_rows_and_input_2_up_its_columns():
    split = own(2, lambda x: x[:, 0] + 10 * x[:, 1])
    rising = predictions.for_plot(split, lambda x: x[:, :1], points=30)
    assert rising.z.shape == (30, 30) and (np.diff(rising.z, axis=1) > 0).all()
    assert np.allclose(np.diff(rising.z, axis=0), 0, atol=1e-4)
    upward = predictions.for_plot(split, lambda x: x[:, 1:], points=30)
    assert (np.diff(upward.z, axis=0) > 0).all() and np.allclose(np.diff(upward.z, axis=1), 0, atol=1e-3)
    assert (np.diff(rising.x) > 0).all() and (np.diff(rising.y) > 0).all()


def test_a_map_covers_the_data_with_a_margin_in_raw_units():
    split = own(2, lambda x: x[:, 0])
    picture, points = predictions.for_plot(split, lambda x: x[:, :1]), predictions.points_of(split)
    for axis, values in ((picture.x, points.x), (picture.y, points.y)):
        extent = np.ptp(values)
        assert axis[0] == pytest.approx(values.min() - 0.08 * extent, rel=1e-3)
        assert axis[-1] == pytest.approx(values.max() + 0.08 * extent, rel=1e-3)


@pytest.mark.parametrize("dataset", ["bumps", "plane"])
def test_a_map_of_a_regression_is_what_predict_says_in_raw_units(dataset):
    run = labkit.train(QUICK.but(dataset=dataset, loss="mse"))
    picture = run.picture(points=25)
    for row, column in [(0, 0), (0, 24), (24, 0), (13, 7)]:
        there = run.predict([[picture.x[column], picture.y[row]]])[0, 0]
        assert picture.z[row, column] == pytest.approx(there, abs=1e-4)
    values = run.points().value
    assert picture.centre == pytest.approx(run.data.y_mean)
    assert picture.reach == pytest.approx(np.abs(values - picture.centre).max(), rel=1e-5)


def test_a_map_of_two_classes_is_the_probability_of_class_1_minus_that_of_class_0():
    run = labkit.train(QUICK)
    picture = run.picture(points=25)
    for row, column in [(0, 0), (0, 24), (24, 0), (13, 7)]:
        logits = torch.as_tensor(run.predict([[picture.x[column], picture.y[row]]]))
        p = logits.softmax(1)[0]
        assert picture.z[row, column] == pytest.approx(float(p[1] - p[0]), abs=1e-5)


def test_a_map_of_one_output_is_its_answer_between_minus_1_and_1():
    split = load_data(QUICK.but(loss="mse"))
    picture = predictions.for_plot(split, lambda x: 5 * x[:, :1])
    assert picture.z.min() == -1 and picture.z.max() == 1 and (picture.centre, picture.reach) == (0, 1)
    inside = predictions.for_plot(split, lambda x: 0.1 * x[:, :1])
    assert np.allclose(
        inside.z, 0.1 * split.scale(torch.as_tensor([[v, 0] for v in inside.x]))[:, 0].numpy(), atol=1e-6
    )


# The data


def test_points_are_the_raw_data_with_their_classes_training_points_first():
    x = RNG.normal(size=(40, 2)) * 3 + 7
    y = np.where(x[:, 0] > 7, 4.0, 2.0)
    split = load_data(QUICK.but(loss="mse", batch_size=8), (x, y))
    points = predictions.points_of(split)
    assert len(points.x) == 40 and points.test.sum() == len(split.x_test) == 8
    assert not points.test[:32].any() and points.test[32:].all()
    raw = {(round(a, 3), round(b, 3)): label for (a, b), label in zip(x, y, strict=True)}
    for px, py, value in zip(points.x, points.y, points.value, strict=True):
        label = raw[round(float(px), 3), round(float(py), 3)]
        assert predictions.labels_of(split)[int(value)] == f"{label:g}"


def test_targets_of_a_curve_are_raw():
    x = np.linspace(-3, 3, 50)[:, None]
    split = load_data(QUICK.but(dataset="plane", loss="mse"), (x, 1000 + 50 * x))
    points = predictions.points_of(split)
    assert np.allclose(points.y, 1000 + 50 * points.x, rtol=1e-5) and np.array_equal(points.y, points.value)


# The other pictures


def test_a_curve_is_what_predict_says_along_the_input():
    run = labkit.train(QUICK.but(dataset="chebyshev", loss="mse"))
    picture = run.picture()
    assert (np.diff(picture.x) > 0).all() and picture.x[0] < -1 < 1 < picture.x[-1]
    assert np.allclose(picture.y, run.predict(picture.x[:, None])[:, 0], atol=1e-6)


def test_a_confusion_matrix_has_the_truth_in_its_rows():
    split = load_data(QUICK.but(dataset="digits"))
    always_3 = predictions.for_plot(split, lambda x: torch.eye(10)[[3]].expand(len(x), 10))
    counts = torch.bincount(split.y_test, minlength=10).numpy()
    assert np.array_equal(always_3.z[:, 3], counts) and always_3.z.sum() == len(split.x_test)
    assert always_3.labels == tuple("0123456789")


def test_a_confusion_matrix_counts_what_classify_says():
    run = labkit.train(QUICK.but(dataset="digits", steps=200))
    picture = run.picture()
    assert np.trace(picture.z) / picture.z.sum() == pytest.approx(run.score[-1], abs=1e-6)
    said = run.classify(run.data.raw(run.data.x_test).numpy())
    truth = run.data.y_test.numpy()
    assert picture.z[8, 1] == ((truth == 8) & (said == 1)).sum()


def test_a_scatter_is_what_predict_says_against_the_targets_in_raw_units():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(80, 5))
    y = 500 + 30 * x[:, 0]
    run = labkit.train(QUICK.but(dataset="plane", loss="mse", steps=300), data=(x, y))
    picture = run.picture()
    raw = run.data.raw(run.data.x_test).numpy()
    assert np.allclose(picture.x, 500 + 30 * raw[:, 0], rtol=1e-4)
    assert np.allclose(picture.y, run.predict(raw)[:, 0], rtol=1e-4)


@pytest.mark.parametrize("dataset", ["teacher", "digits"])
def test_without_a_test_set_the_training_set_is_pictured_as_the_score_is_of_it(dataset):
    loss = {"teacher": "mse", "digits": "cross_entropy"}[dataset]
    run = labkit.train(QUICK.but(dataset=dataset, inputs=5, loss=loss, train_share=1))
    picture = run.picture()
    assert picture.part == "train"
    if dataset == "digits":
        assert picture.z.sum() == len(run.data.x_train)
    else:
        assert len(picture.x) == len(picture.y) == len(run.data.x_train) == 100
    assert labkit.train(QUICK.but(dataset=dataset, inputs=5, loss=loss)).picture().part == "test"
