"""Charts: thinned histories against plain means; named axes and legends, never colour alone; one sentence in words."""

import json
import re
from functools import partial

import numpy as np
import pytest
from conftest import ROOT

import labkit
from labkit.core import predictions
from labkit.core.spec import Spec
from labkit.plots import charts, frames, landscape_figure, learning_figure, theme

QUICK = Spec(samples=80, width=6, depth=1, batch_size=16, steps=40)
SPECS = {
    "map": QUICK,
    "map of one output": QUICK.but(dataset="moons", loss="mse"),
    "map of values": QUICK.but(dataset="bumps", loss="mse"),
    "curve": QUICK.but(dataset="chebyshev", loss="huber"),
    "confusion": QUICK.but(dataset="digits"),
    "scatter": QUICK.but(dataset="teacher", inputs=4, loss="mse"),
    "scatter without a test set": QUICK.but(dataset="teacher", inputs=4, loss="mse", train_share=1),
}


@pytest.fixture(scope="module")
def runs():
    return {name: labkit.train(spec) for name, spec in SPECS.items()}


def trace(figure, uid):
    (found,) = figure.select_traces({"uid": uid})
    return found


def numbers(value):
    return np.asarray(value, dtype=float)


@pytest.mark.parametrize(
    "figure", [learning_figure.blank, *(partial(landscape_figure.blank, kind, 2) for kind in landscape_figure.KINDS)]
)
def test_every_trace_has_a_name_of_its_own_that_css_can_select_and_other_names_are_refused(figure):
    names = list(frames.places(figure()))
    assert len(names) == len(figure().data) and all(re.fullmatch("[a-z][a-z0-9_]*", name) for name in names)
    with pytest.raises(KeyError, match="somewhere"):
        frames.apply(figure(), {"traces": {"somewhere": {"visible": True}}})


def test_every_colour_of_the_charts_and_of_the_lab_stands_in_the_theme_or_comes_from_jupyterlab():
    files = [*(ROOT / "labkit" / "plots").glob("*.py"), *(ROOT / "labkit" / "lab").rglob("*.*")]
    literal = re.compile(r"#[0-9a-fA-F]{3,8}\b|rgba?\(|hsl\(")
    coloured = {path.name for path in files if path.suffix != ".pyc" and literal.search(path.read_text())}
    assert len(files) > 20 and coloured == {
        "theme.py",
        "screen_draw.js",
        "screen.css",
    }  # the screen's, and its fall-backs


def test_a_blank_chart_has_named_axes_and_its_legend_off_the_data():
    figure = theme.chart("width", "test loss")
    layout = figure.layout
    assert (layout.xaxis.title.text, layout.yaxis.title.text, layout.height) == ("width", "test loss", 360)
    assert layout.legend.y > 1 and layout.xaxis.title.font.size == 13
    assert theme.chart("a", "b", figure, height=200) is figure and figure.layout.height == 200


# Thinned histories


@pytest.mark.parametrize("size", [0, 1, 9, 10, 11, 20, 21, 39, 41, 1000, 12345])
def test_a_thinned_history_is_the_means_of_equal_stretches(size):
    values = np.random.default_rng(size).normal(size=size)
    thinned = learning_figure.Thinned(limit=10)
    thinned.add(values)
    x, means = thinned.curve()
    s = thinned.stretch
    whole = size // s
    assert np.allclose(means, values[: whole * s].reshape(whole, s).mean(1), atol=1e-6)
    assert np.allclose(x, np.arange(size)[: whole * s].reshape(whole, s).mean(1))
    assert min(size, 5) <= len(x) <= 10 and x.dtype == means.dtype == np.float32


@pytest.mark.parametrize("seed", range(5))
def test_a_history_thinned_bit_by_bit_is_the_one_thinned_at_once(seed):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=5000)
    at_once, bit_by_bit = learning_figure.Thinned(limit=16), learning_figure.Thinned(limit=16)
    at_once.add(values)
    left = values
    while len(left):
        some = int(rng.integers(0, 300))
        bit_by_bit.add(left[:some])
        left = left[some:]
        assert len(bit_by_bit.curve()[0]) <= 16
    assert bit_by_bit.stretch == at_once.stretch
    for one, other in zip(bit_by_bit.curve(), at_once.curve(), strict=True):
        assert np.allclose(one, other, atol=1e-6)


# The chart of a run


@pytest.mark.parametrize("name", SPECS)
def test_a_chart_of_a_run_names_its_axes_and_its_curves(runs, name):
    figure = charts.learning(runs[name])
    layout = figure.layout
    assert layout.yaxis.title.text == "loss (log scale)" and layout.yaxis.type == "log"
    assert layout.yaxis.tickformat == "~g" and layout.yaxis.nticks == 3  # 0.5 and not a small 5
    assert layout.yaxis3.title.text == runs[name].score_name and layout.xaxis3.title.text == "step"
    titles = {
        "map": ("input 1", "input 2"),
        "curve": ("input", "target"),
        "confusion": ("predicted class", "true class"),
        "scatter": ("target", "prediction"),
    }[name.split()[0]]
    assert (layout.xaxis2.title.text, layout.yaxis2.title.text) == titles
    visible = [trace for trace in figure.data if trace.visible is not False]
    listed = [trace.name for trace in visible if trace.showlegend is not False and trace.type == "scatter"]
    assert {"train", "test"} <= set(listed) and len(visible) >= 4
    assert all(name and "trace" not in name for name in listed)
    json.loads(figure.to_json())


def test_the_curves_are_the_numbers_of_the_run(runs):
    run = runs["map"]
    train, test, score = charts.learning(run).data[:3]
    assert np.allclose(train.y, run.loss) and np.array_equal(train.x, np.arange(40))
    assert np.allclose(test.y, run.test_loss) and np.array_equal(test.x, run.test_step)
    assert np.allclose(score.y, run.score) and np.array_equal(score.x, run.test_step)


def test_a_chart_against_seconds_ends_at_the_seconds_of_the_run(runs):
    run = runs["map"]
    figure = charts.learning(run, against="seconds", log=False)
    assert figure.data[1].x[-1] == pytest.approx(run.seconds, rel=1e-5)
    assert figure.layout.xaxis3.title.text == "seconds of training"
    assert figure.layout.yaxis.type == "linear" and figure.layout.yaxis.title.text == "loss"


@pytest.mark.parametrize("name", SPECS)
def test_train_and_test_have_the_same_colours_everywhere_and_a_second_cue(runs, name):
    figure = charts.learning(runs[name])
    colours = {"train": theme.TRAIN, "test": theme.TEST}
    curves = {trace.name: trace for trace in figure.data[:2]}
    assert {each: curves[each].line.color for each in curves} == colours
    assert curves["train"].line.dash != curves["test"].line.dash
    dots = [t for t in figure.data[-4:] if t.visible is not False]
    for trace in dots:
        if trace.name in colours and isinstance(trace.marker.color, str):
            assert trace.marker.color == colours[trace.name]
    assert len({trace.marker.symbol for trace in dots}) == len(dots)


def test_two_classes_differ_in_colour_and_shape_and_test_points_are_hollow(runs):
    for name in ("map", "map of one output"):
        traces = charts.learning(runs[name]).data[-4:]
        assert [trace.marker.symbol for trace in traces] == ["circle", "circle-open", "diamond", "diamond-open"]
        assert [trace.marker.color for trace in traces] == [theme.BLUE] * 2 + [theme.ORANGE] * 2
        points = runs[name].points()
        many = [(points.value == k) & (points.test == test) for k in (0, 1) for test in (False, True)]
        assert [len(trace.x) for trace in traces] == [part.sum() for part in many]


def test_a_dot_of_a_regression_has_the_colour_that_the_map_has_there_for_its_target(runs):
    figure = charts.learning(runs["map of values"])
    picture = runs["map of values"].picture()
    train, test = trace(figure, "train_0"), trace(figure, "test_0")
    for dots in (train, test):
        assert dots.marker.cmin == pytest.approx(picture.centre - picture.reach)
        assert dots.marker.cmax == pytest.approx(picture.centre + picture.reach)
    assert (train.marker.symbol, test.marker.symbol) == ("circle", "diamond")
    low, middle, high = trace(figure, learning_figure.HEAT).colorbar.ticktext
    assert low.startswith("≤") and high.startswith("≥")
    assert float(middle) == pytest.approx(picture.centre, abs=0.01)


# The map


def shades(z, classes=0, **more):
    axis = np.linspace(-1, 1, len(z))
    frame = learning_figure.prediction_update(
        predictions.Picture("map", classes, axis, axis, np.asarray(z, dtype=float), **more)
    )
    return frame["traces"][learning_figure.HEAT]["z"]


def test_a_network_whose_answer_grows_with_input_1_is_bluer_on_the_left():
    x = np.random.default_rng(0).normal(size=(60, 2))
    run = labkit.train(QUICK.but(dataset="plane", loss="mse", depth=0, steps=400, lr=0.05), data=(x, x[:, 0]))
    assert run.score[-1] > 0.99
    figure = charts.learning(run)
    heat = trace(figure, learning_figure.HEAT)
    assert (np.diff(numbers(heat.z), axis=1) >= 0).all() and heat.z[40][0] < 60 < 200 < heat.z[40][-1]
    assert heat.x[0] < 0 < heat.x[-1] and figure.layout.xaxis2.range[0] < figure.layout.xaxis2.range[1]
    assert heat.colorscale[0][1] == theme.MAP[0][1] and heat.colorscale[-1][1] == theme.MAP[2][1]
    red, _, blue = (int(theme.MAP[0][1][k : k + 2], 16) for k in (1, 3, 5))
    assert blue > red  # the low end is the blue one


def test_shades_are_centred_on_the_middle_and_stop_at_the_ends():
    z = [[-1, 0, 1], [-5, 0.5, 5], [np.nan, np.inf, -np.inf]]
    assert shades(z, 2).tolist()[:2] == [[1, 128, 255], [1, 191, 255]]
    assert shades(z, 2)[2].tolist() == [128, 255, 1] and shades(z, 2).dtype == np.uint8
    assert shades([[90, 100, 110]], centre=100.0, reach=10.0).tolist() == [[1, 128, 255]]


def test_a_map_by_the_answer_alone_has_two_shades():
    z = [[-0.9, -0.01], [0.01, 0.9]]
    frame = learning_figure.prediction_update(
        predictions.Picture("map", 2, np.arange(2), np.arange(2), np.array(z)), discrete=True
    )
    assert frame["traces"][learning_figure.HEAT]["z"].tolist() == [[1, 1], [255, 255]]


def test_a_confusion_matrix_is_read_from_the_top_with_the_truth_beside_its_rows(runs):
    run = runs["confusion"]
    figure = charts.learning(run)
    heat, layout = trace(figure, learning_figure.HEAT), figure.layout
    assert np.array_equal(numbers(heat.z), run.picture().z) and layout.yaxis2.autorange == "reversed"
    assert list(layout.xaxis2.ticktext) == list(layout.yaxis2.ticktext) == list("0123456789")
    assert heat.texttemplate == "%{z}"
    assert heat.zmax == run.picture().z.sum(1).max()


# Before the first step


def test_before_the_first_step_the_figure_says_what_to_do():
    nothing = np.empty(0, dtype=np.float32)
    frame = learning_figure.histories((nothing, nothing), ([0], [0.7]), [0.5])
    assert "Train" in frame["layout"]["annotations"][0]["text"]
    something = learning_figure.histories((np.zeros(1), np.ones(1)), ([0], [0.7]), [0.5])
    assert something["layout"]["annotations"] == []


# Runs side by side


def test_runs_side_by_side_stand_against_steps_and_against_seconds(runs):
    pinned = {f"{letter}: run": runs[name] for letter, name in zip("ABC", SPECS, strict=False)}
    figure = charts.compare(pinned)
    assert len(figure.data) == 6
    for k, (name, run) in enumerate(pinned.items()):
        against_steps, against_seconds = figure.data[2 * k : 2 * k + 2]
        assert against_steps.name == against_seconds.name == name
        assert np.allclose(against_steps.y, run.test_loss) and np.array_equal(against_steps.x, run.test_step)
        assert against_seconds.x[-1] == pytest.approx(run.seconds, rel=1e-4)
        assert (against_steps.showlegend, against_seconds.showlegend) == (True, False)
    titles = figure.layout.xaxis.title.text, figure.layout.xaxis2.title.text, figure.layout.yaxis.title.text
    assert {figure.layout[axis].title.font.size for axis in ("xaxis", "xaxis2", "yaxis")} == {13}
    assert titles == ("step", "seconds of training", "test loss")
    assert figure.layout.yaxis.type == figure.layout.yaxis2.type == "log"


def test_six_runs_side_by_side_differ_in_colour_and_in_dash(runs):
    figure = charts.compare({str(k): runs["map"] for k in range(6)})
    assert len({trace.line.color for trace in figure.data}) == len({trace.line.dash for trace in figure.data}) == 6


def test_a_run_without_a_test_set_is_compared_by_its_training_loss(runs):
    run = runs["curve"]
    assert charts.compare({"A": run}).layout.yaxis.title.text == "training loss"
    assert charts.compare({"A": run, "B": runs["map"]}).layout.yaxis.title.text == "test or training loss"
    (against_steps, _) = charts.compare({"A": run}).data
    assert np.allclose(against_steps.y, run.loss) and len(against_steps.x) == run.steps


# In words

FALLING, LEVEL, RISING = np.geomspace(1, 0.01, 50), np.full(50, 0.2), np.linspace(0.1, 1, 50)


@pytest.mark.parametrize(
    "losses, word",
    [
        (FALLING, "still falling"),
        (LEVEL, "level"),
        (RISING, "rising, above its best of 0.1"),
        (np.ones(3), "just begun"),
    ],
)
def test_the_trend_of_a_curve_in_words(losses, word):
    assert charts.trend(losses) == word


def test_the_trend_goes_by_steps_and_not_by_how_many_were_measured():
    early, late = np.arange(40), np.arange(100, 1001, 100)  # dense at first, as the schedule is
    losses = np.concatenate([np.geomspace(1, 0.02, 40), np.full(10, 0.01)])
    assert charts.trend(losses) == "still falling" and charts.trend(losses, [*early, *late]) == "level"


@pytest.mark.parametrize("earlier", [0.75, 0.9])
def test_a_loss_that_jumped_up_is_never_said_to_be_still_falling(earlier):
    steps = np.array([0, 1, 2, 4, 8, 16, 32, 64, 128, 256])
    jumped = np.array([2, 1.5, 1.2, 1, 0.9, 0.8, 0.3, 0.007, earlier, 0.75])
    said = charts.in_words(jumped, jumped, 0.5, "test R²", steps)
    assert "still falling" not in said and ", above its best of 0.007 at step 64; test R²" in said
    assert charts.trend([1, 1, 1, 1, 1, 0.2, 0.1, 0.1, 1e-2, 0.05]) == "falling again, above its best of 0.01"


def test_the_sentence_of_a_run_that_has_not_begun():
    assert charts.in_words(np.empty(0), np.array([0.7]), 0.5, "test accuracy") == "Nothing is learned yet: press Train."


def test_the_sentence_of_a_run_whose_curves_agree():
    said = charts.in_words(FALLING, FALLING, 0.93, "test accuracy")
    assert said == "Test loss 0.01, still falling; test accuracy 0.93; training loss 0.0105: the two agree."


def test_the_sentence_of_a_run_that_knows_its_training_points_better():
    said = charts.in_words(FALLING, RISING, 0.5, "test R²")
    assert "Test loss 1, rising" in said and "test R² 0.50" in said
    assert "training loss 0.0105 is lower: the network knows its training points better." in said


def test_the_sentence_of_a_run_without_a_test_set():
    said = charts.in_words(LEVEL, np.full(5, np.nan), 0.8, "training R²")
    assert said == "Training loss 0.2, level; training R² 0.80. There is no test set."


# One choice, several seeds


def test_a_choice_tried_with_several_seeds_shows_every_seed_and_the_medians():
    scores = np.array([[0.5, 0.6, 0.9], [0.7, 1.0, 0.8]])
    figure = charts.by_choice("depth", [1, 2], scores, "test accuracy")
    dots, line = figure.data
    assert list(zip(dots.x, dots.y, strict=True)) == [
        (option, score) for option, row in zip("12", scores, strict=True) for score in row
    ]
    assert list(line.x) == ["1", "2"] and line.y.tolist() == [0.6, 0.8]
    assert (dots.name, line.name) == ("one seed", "median")
    assert (figure.layout.xaxis.title.text, figure.layout.yaxis.title.text) == ("depth", "test accuracy")
    assert figure.layout.xaxis.type == "category"
    low, high = figure.layout.yaxis.range
    assert low < 0.5 and high > 1
    (below, _) = charts.by_choice("lr", [1, 2], scores - 2, "test R²").layout.yaxis.range
    assert below < -1.5


def test_each_option_of_a_choice_shows_its_seeds_and_their_median():
    scores = np.array([[0.5, 0.6, 0.9], [1.0, 1.0, 0.8]])
    figure = charts.by_choice("depth", [0, 3], scores, "test accuracy")
    seeds, median = figure.data
    assert list(seeds.x) == ["0"] * 3 + ["3"] * 3 and np.array_equal(seeds.y, scores.ravel())
    assert list(median.x) == ["0", "3"] and list(median.y) == [0.6, 1.0]
    assert (figure.layout.xaxis.title.text, figure.layout.yaxis.title.text) == ("depth", "test accuracy")
    assert figure.layout.yaxis.range[0] < 0.5 and figure.layout.yaxis.range[1] > 1
