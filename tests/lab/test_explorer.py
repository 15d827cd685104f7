"""Explorers without a browser: controls from choices, pictures from a pure function, errors in place, refusals."""

import plotly.graph_objects as go
import pytest

import labkit
from labkit.lab.explorer import WIDGET
from labkit.lab.live_figure import PLOTLY


def picture(depth=2, noise=0.1, kind="sin", log=False, start=(1.0, 0.5)):
    if depth == 4:
        raise RuntimeError("four <is> too deep")
    figure = go.Figure().add_scatter(x=[start[0]], y=[start[1]])
    return figure, f"depth {depth}, noise {noise}, {kind}, log {log}, from {start}"


CHOICES = {"depth": range(6), "noise": [0.0, 0.1, 1e-4], "kind": ["sin", "cos"], "log": [False, True]}


@pytest.fixture
def explorer(monkeypatch):
    explorer = labkit.explore(picture, pick="start", **CHOICES)
    explorer.sent = []
    monkeypatch.setattr(explorer._live, "send", lambda content, buffers=None: explorer.sent.append(content))
    return explorer


def test_choices_become_controls_that_start_where_the_function_does(explorer):
    kinds = {name: type(widget).__name__ for name, widget in explorer.widgets.items()}
    assert kinds == {"depth": "SelectionSlider", "noise": "SelectionSlider", "kind": "Dropdown", "log": "Checkbox"}
    assert explorer.values == {"depth": 2, "noise": 0.1, "kind": "sin", "log": False, "start": (1.0, 0.5)}
    assert explorer.sentence == "depth 2, noise 0.1, sin, log False, from (1.0, 0.5)"


def test_a_moved_control_draws_anew_and_keeps_the_zoom(explorer):
    explorer.widgets["depth"].value = 5
    (message,) = explorer.sent
    assert message["figure"]["layout"]["uirevision"] and message["figure"]["layout"]["height"] > 0
    assert "depth 5" in explorer.sentence and "depth 5" in explorer._said.value


def test_a_moved_point_draws_anew(explorer):
    explorer._live.set_state({"picked": [2.0, -1.0]})  # as the browser does
    assert explorer.values["start"] == (2.0, -1.0)
    assert explorer.sent[-1]["figure"]["data"][0]["x"] == [2.0]
    assert explorer.figure.layout.dragmode is False


def test_an_error_is_said_in_place_and_the_next_choice_mends_it(explorer):
    before = explorer.figure
    explorer.widgets["depth"].value = 4
    assert "RuntimeError: four &lt;is&gt; too deep" in explorer._said.value and "alert" in explorer._said.value
    assert explorer.figure is before and not explorer.sent
    explorer.widgets["depth"].value = 3
    assert "depth 3" in explorer._said.value and "alert" not in explorer._said.value


def test_a_report_shows_the_picture_itself(explorer):
    bundle = explorer._repr_mimebundle_()
    assert set(bundle) == {WIDGET, PLOTLY, "text/plain"}
    assert bundle[PLOTLY]["data"][0]["x"] == [1.0]
    assert bundle["text/plain"].startswith(
        "Explorer of picture: depth 2, noise 0.1, kind sin, log False, start (1, 0.5)."
    )


def test_without_a_sentence_there_is_none():
    assert labkit.explore(lambda width=3: go.Figure(), width=[3, 4]).sentence == ""


def test_what_goes_wrong_at_first_goes_wrong_in_the_cell():
    def broken(depth=4):
        return picture(depth)

    with pytest.raises(RuntimeError, match="too deep"):
        labkit.explore(broken, depth=range(5))


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"dept": [1]}, "'dept' is no parameter of picture, which has depth, noise"),
        ({"depth": [3, 5]}, "'depth' starts at 2, which is not offered: 3, 5"),
        ({"depth": []}, "nothing to choose for 'depth'"),
        ({"pick": "depth"}, r"'depth' starts at 2: what is picked is a pair of numbers, \(x, y\)"),
        ({"pick": "end"}, "'end' is no parameter"),
    ],
)
def test_a_choice_without_meaning_is_refused(more, words):
    with pytest.raises(ValueError, match=words):
        labkit.explore(picture, **more)


def test_a_parameter_without_a_default_is_refused():
    with pytest.raises(ValueError, match="no default for 'depth': write depth=…"):
        labkit.explore(lambda depth: go.Figure(), depth=[1, 2])
