"""The Landscape tab without a browser: what is drawn and when, the time slider, what it costs the training."""

import math
import time

import numpy as np
import pytest

import labkit
from labkit.core.spec import Spec
from labkit.lab import session
from labkit.lab.background import POINTS, LandscapeWorker
from labkit.lab.view import TABS

SPEC = Spec(samples=100, width=8, depth=2, batch_size=16, steps=300)


@pytest.fixture
def lab(monkeypatch):
    """A lab that is looked at, with its Landscape tab open."""
    lab = labkit.Lab(SPEC)
    lab.screen.speed.value = math.inf
    lab.screen.ask("show")
    turn(lab, "Landscape")
    yield lab
    lab.close()
    assert not session._LABS


def until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def turn(lab, tab):
    lab.screen.tabs.selected_index = TABS.index(tab)
    until(lambda: lab._obeyed >= lab._asked)


def settled(lab):
    """Wait until nothing is left to look at, and return the last picture."""
    until(lambda: lab._obeyed >= lab._asked and lab.state != "running" and not lab._survey.due(True) and not lab._stale)
    return lab._renderer._sight


def click(lab, name):
    lab.screen.buttons[name].click()
    until(lambda: lab._obeyed >= lab._asked)


def drawn(lab):
    return lab.screen.lookout._drawn


def test_opening_the_tab_shows_the_ground_around_the_first_weights(lab):
    sight = settled(lab)
    assert sight.step == 0 and len(sight.plane.alpha) == POINTS
    assert drawn(lab)["kind"] == "contours"
    until(lambda: "Loss" in lab.screen.sentence.value and "directions" in lab.screen.sentence.value)


def test_while_training_nothing_is_computed_with_the_tab_closed_and_at_rest_one_picture_is(lab, monkeypatch):
    settled(lab)
    turn(lab, "Learning")
    looks, advance, shown = [], LandscapeWorker.advance, drawn(lab)["frame"]
    monkeypatch.setattr(LandscapeWorker, "advance", lambda *of: looks.append(lab.state) or advance(*of))
    click(lab, "Train")
    lab.result()
    until(lambda: not lab._survey.blank(True))
    assert set(looks) == {"done"} and drawn(lab)["frame"] is shown
    enough = len(looks)
    time.sleep(0.3)
    assert len(looks) == enough and lab._renderer._sight.step == SPEC.steps


def test_the_picture_made_ahead_is_there_at_the_click(lab, monkeypatch):
    turn(lab, "Learning")
    click(lab, "Train")
    lab.result()
    until(lambda: not lab._survey.blank(True))
    monkeypatch.setattr(session.Lab, "_look_around", lambda lab: time.sleep(0.01))
    before = drawn(lab).get("frame")
    turn(lab, "Landscape")
    assert drawn(lab)["frame"] is not before


def test_training_with_the_tab_open_gives_the_same_numbers(lab):
    click(lab, "Train")
    run = lab.result()
    alone = labkit.train(SPEC)
    assert (run.loss == alone.loss).all() and (run.test_loss == alone.test_loss).all()
    assert settled(lab).step == SPEC.steps


def test_the_curves_are_up_to_date_when_their_tab_is_opened_again(lab):
    click(lab, "Train")
    lab.result()
    settled(lab)
    turn(lab, "Learning")
    until(lambda: not lab._stale)
    x = lab.screen._drawn["traces"][0]["x"]
    assert x[-1] > 0.95 * SPEC.steps


def test_after_training_the_slider_goes_back_in_time_and_while_training_it_is_away(lab):
    lookout = lab.screen.lookout
    settled(lab)
    assert lookout._time.layout.visibility == "hidden"
    click(lab, "Train")
    lab.result()
    settled(lab)
    until(lambda: lookout._time.layout.visibility == "visible")
    assert lookout.at.value == lookout.at.max and lookout.when.value == "300 of 300 (now)"
    lookout.at.value = 0
    until(lambda: lab._renderer._sight.step == 0)
    until(lambda: lookout.when.value == "0 of 300")
    assert settled(lab).plane.loss[POINTS // 2, POINTS // 2] == pytest.approx(
        labkit.train(SPEC.but(batch_size=0)).loss[0]
    )
    click(lab, "Reset")
    until(lambda: lookout._time.layout.visibility == "hidden")
    assert settled(lab).step == 0


@pytest.mark.parametrize("place", [0, 5])
def test_a_reset_with_the_slider_back_in_time_starts_over(lab, place):
    settled(lab)
    click(lab, "Train")
    lab.result()
    settled(lab)
    until(lambda: lab.screen.lookout.at.max > 5)
    lab.screen.lookout.at.value = place
    settled(lab)
    click(lab, "Reset")
    assert settled(lab).step == 0 and lab.state == "idle"


def test_training_on_with_the_slider_back_in_time_follows_the_training_again(lab):
    lab.controls.widgets["steps"].value = 1_000_000
    click(lab, "Train")
    until(lambda: lab.trainer.step > 500)
    click(lab, "Pause")
    settled(lab)
    until(lambda: lab.screen.lookout.at.max > 0)
    lab.screen.lookout.at.value = 0
    until(lambda: lab._renderer._sight.step == 0)
    click(lab, "Train")
    until(lambda: lab._renderer._sight.step > 500)
    click(lab, "Stop")


@pytest.mark.parametrize("directions", ["path", "Hessian"])
def test_other_directions_are_drawn_with_their_names(lab, directions):
    click(lab, "Train")
    lab.result()
    lab.screen.lookout.directions.value = directions
    settled(lab)
    title = drawn(lab)["frame"]["layout"]["xaxis"]["title"]["text"]
    assert {"path": "path", "Hessian": "eigenvector"}[directions] in title
    assert lab.screen.lookout.seed.layout.display == "none"


def test_map_or_relief_and_the_scale_change_the_drawing_and_nothing_is_computed_again(lab, monkeypatch):
    plane = settled(lab).plane
    monkeypatch.setattr(LandscapeWorker, "advance", None)  # calling it would fail
    lab.screen.lookout.kind.value = "3-D"
    until(lambda: drawn(lab)["kind"] == "3-D")
    lab.screen.lookout.log.value = False
    until(lambda: "log" not in drawn(lab)["frame"]["traces"]["surface"]["colorbar"]["title"]["text"])
    assert lab._renderer._sight.plane is plane
    np.testing.assert_allclose(drawn(lab)["frame"]["traces"]["surface"]["z"], plane.loss, rtol=1e-6)


def test_a_new_seed_draws_other_directions(lab):
    before = settled(lab).plane
    lab.screen.lookout.seed.value = 5
    until(lambda: lab._renderer._sight.plane is not before)
    assert not np.allclose(settled(lab).plane.loss, before.loss)


def test_an_error_while_looking_reaches_the_person(lab, monkeypatch):
    settled(lab)
    monkeypatch.setattr(LandscapeWorker, "_look_around", lambda survey, at_rest: 1 / 0)
    lab.screen.lookout.span.value = 2.0
    until(lambda: lab.state == "failed")
    assert "ZeroDivisionError" in lab.screen.status.value
    with pytest.raises(ZeroDivisionError):
        lab.result()
    monkeypatch.undo()
    click(lab, "Reset")
    assert settled(lab).step == 0


def test_a_front_end_that_comes_back_hears_of_the_ground_again(lab):
    settled(lab)
    lab.screen.ask("show")
    until(lambda: lab._obeyed >= lab._asked and not lab._stale)
    assert "directions" in lab.screen.sentence.value


def test_a_front_end_that_comes_back_gets_the_whole_picture(lab, monkeypatch):
    settled(lab)
    sent = []
    monkeypatch.setattr(type(lab.screen.lookout.figure), "send", lambda figure, message: sent.append(message))
    lab.screen.ask("ground")
    until(lambda: sent)
    assert sent[0]["figure"]["data"][0]["type"] == "contour"
    assert len(sent[0]["figure"]["data"][0]["z"]["bdata"]) > 4 * POINTS**2


def test_looking_takes_at_most_its_share_of_the_time(lab):
    settled(lab)
    lab.controls.widgets["steps"].value = 1_000_000
    click(lab, "Train")
    until(lambda: lab.trainer.step > 50_000)
    elapsed = time.perf_counter() - lab._resumed[0]
    dearest = 0.2  # seconds: one chunk or one drawing on a slow machine
    assert 0 < lab._looked <= session.LANDSCAPE_TIME_SHARE * elapsed + dearest
    click(lab, "Stop")
