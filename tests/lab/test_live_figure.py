"""Small frames: what is packed comes back the same, and frames merged are the figure drawn at once."""

import base64
import json

import numpy as np
import pytest

import labkit
from labkit.core.spec import Spec
from labkit.lab.live_figure import LiveFigure, packed
from labkit.plots import learning_figure
from labkit.plots.frames import apply, merge

QUICK = Spec(samples=60, width=6, depth=1, batch_size=16, steps=30)
SPECS = {
    "two classes": QUICK,
    "regression": QUICK.but(dataset="bumps", loss="mse"),
    "curve": QUICK.but(dataset="chebyshev", loss="huber"),
    "confusion": QUICK.but(dataset="digits"),
    "scatter": QUICK.but(dataset="teacher", inputs=4, loss="mse"),
    "no test set": QUICK.but(train_share=1),
}


def unpacked(value):
    """Read as plotly.js does."""
    shape = [int(part) for part in value["shape"].split(", ")]
    return np.frombuffer(base64.b64decode(value["bdata"]), value["dtype"]).reshape(shape)


@pytest.mark.parametrize(
    "array, dtype",
    [
        (np.array([1.5, np.nan, -np.inf, 3e38], dtype=np.float32), "f4"),
        (np.linspace(0, 1, 7), "f4"),
        (np.arange(6, dtype=np.uint8).reshape(2, 3), "u1"),
        (np.arange(6).reshape(3, 2), "i4"),
        (np.arange(6, dtype=np.float32).reshape(2, 3).T, "f4"),
        (np.empty((0,), dtype=np.float32), "f4"),
    ],
    ids=["nan", "f8", "u1", "i8", "transposed", "empty"],
)
def test_numbers_come_back_as_they_went_in_small_types(array, dtype):
    sent = packed(array)
    assert sent["dtype"] == dtype
    assert np.array_equal(unpacked(sent), array.astype(dtype), equal_nan=True)


def test_packing_reaches_everywhere_and_leaves_the_rest_alone():
    value = {"a": [1, {"x": np.arange(3, dtype=np.uint8)}], "b": None, "c": ("t", True), "d": np.array(["p", "q"])}
    sent = packed(value)
    assert np.array_equal(unpacked(sent["a"][1]["x"]), [0, 1, 2])
    assert (sent["a"][0], sent["b"], sent["c"], sent["d"]) == (1, None, ["t", True], ["p", "q"])
    json.dumps(sent)


def test_merging_writes_nested_values_over_those_that_were_there():
    into = {"axis": {"title": "loss", "range": [0, 1]}, "x": {"bdata": "old"}}
    part = {"axis": {"range": None}, "new": {"deep": 1}}
    merge(into, part)
    assert into == {"axis": {"title": "loss", "range": None}, "x": {"bdata": "old"}, "new": {"deep": 1}}
    into["new"]["deep"] = 2
    assert part["new"]["deep"] == 1  # what was merged in is not shared


def frames_of(run, log=True, against="steps", until=None):
    thinned = learning_figure.Thinned()
    thinned.add(run.loss[:until])
    picture = run.picture(20)
    scene = learning_figure.static_layout(picture, run.points(), run.score_name, log, against)
    moving = learning_figure.histories(thinned.curve(), (run.test_step, run.test_loss), run.score)
    return [scene, moving, learning_figure.prediction_update(picture)]


def merged(*parts):
    into = {"traces": {}, "layout": {}}
    for part in parts:
        merge(into, part)
    return apply(learning_figure.blank(), into)


def seen(figure):
    """What a person sees of a figure: its visible traces and its axes."""
    figure = json.loads(figure.to_json())
    traces = []
    for trace in figure["data"]:
        if trace.get("visible", True) is not False:
            traces.append({k: v for k, v in trace.items() if k != "marker" or v})
    return traces, figure["layout"]


@pytest.fixture(scope="module")
def runs():
    return {name: labkit.train(spec) for name, spec in SPECS.items()}


@pytest.mark.parametrize("name", SPECS)
def test_frames_merged_one_after_another_are_the_figure_drawn_at_once(runs, name):
    run = runs[name]
    early, late = frames_of(run, log=False, until=5), frames_of(run)
    assert seen(merged(*early, *late)) == seen(merged(*late))
    assert seen(merged(*late)) == seen(apply(learning_figure.blank(), *late))


@pytest.mark.parametrize("before", SPECS)
@pytest.mark.parametrize("after", SPECS)
def test_another_kind_of_data_leaves_nothing_of_the_one_before(runs, before, after):
    changed = merged(*frames_of(runs[before], against="seconds"), *frames_of(runs[after]))
    traces, layout = seen(changed)
    wanted_traces, wanted_layout = seen(merged(*frames_of(runs[after])))
    assert traces == wanted_traces
    assert layout == wanted_layout


def test_a_frame_is_sent_as_one_small_message_and_the_whole_figure_when_it_is_viewed(monkeypatch):
    viewed, sent = [], []
    figure = LiveFigure(lambda: viewed.append(1))
    monkeypatch.setattr(figure, "send", sent.append)
    figure._handle_custom_msg("view", [])
    assert viewed == [1]
    figure.draw({"traces": {"heat": {"z": np.zeros((4, 4), np.uint8)}}})
    figure.show(learning_figure.blank())
    frame, whole = sent
    assert frame["traces"]["heat"]["z"]["shape"] == "4, 4" and frame["layout"] == {}
    assert whole["figure"]["layout"]["height"] > 0 and len(json.dumps(whole)) < 30_000
    figure.close()


def test_plotly_js_is_no_part_of_a_figure_and_is_sent_to_who_asks_for_it(monkeypatch):
    sent = []
    figure = LiveFigure(lambda: pytest.fail("nobody looked"), (1.0, 2.0))
    monkeypatch.setattr(figure, "send", lambda content, buffers: sent.append((content, buffers)))
    figure._handle_custom_msg("plotly", [])
    ((content, (source,)),) = sent
    assert content == {"plotly": True} and b"Plotly" in source and len(source) > 1e6
    assert len(figure._esm) < 10_000 and figure.picking and figure.picked == [1.0, 2.0]
    figure.close()
