"""The Landscape tab without a browser: what is drawn and when, the time slider, what it costs the training."""

import time

import numpy as np
import pytest

import labkit
from labkit.core.spec import Spec
from labkit.lab import session
from labkit.lab.background import POINTS, LandscapeWorker
from labkit.lab.pacing import LANDSCAPE_TIME_SHARE
from labkit.lab.worker import Worker

SPEC = Spec(samples=100, width=8, depth=2, batch_size=16, steps=300)


@pytest.fixture
def lab(monkeypatch):
    """A lab that is looked at, with its Landscape tab open."""
    lab = labkit.Lab(SPEC)
    press(lab, "speed", None)
    press(lab, "show")
    turn(lab, "landscape")
    yield lab
    lab.close()
    assert not session._LABS


def press(lab, command, *arguments):
    """What the browser sends."""
    lab.screen._hear(lab.screen, {"command": command, "arguments": list(arguments)}, [])


def until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def turn(lab, tab):
    press(lab, "turn", tab)
    until(lambda: lab.worker.commands.obeyed)


def settled(lab):
    """Wait until nothing is left to look at, and return the last picture."""
    until(lambda: lab.worker.settled and lab.state != "running" and not lab.worker._landscape.due(True))
    return lab.worker.output.picture


def click(lab, name):
    press(lab, name)
    until(lambda: lab.worker.commands.obeyed)


def drawn(lab):
    return lab.landscape._drawn


def test_opening_the_tab_shows_the_ground_around_the_first_weights(lab):
    picture = settled(lab)
    assert picture.step == 0 and len(picture.plane.alpha) == POINTS
    assert drawn(lab)["kind"] == "contours"
    until(lambda: "directions" in lab.screen.status["sentence"])


def test_while_training_nothing_is_computed_with_the_tab_closed_and_at_rest_one_picture_is(lab, monkeypatch):
    settled(lab)
    turn(lab, "network")
    looks, advance, shown = [], LandscapeWorker.advance, drawn(lab)["frame"]
    monkeypatch.setattr(LandscapeWorker, "advance", lambda *of: looks.append(lab.state) or advance(*of))
    click(lab, "train")
    lab.result()
    until(lambda: not lab.worker._landscape.blank(True))
    assert set(looks) == {"done"} and drawn(lab)["frame"] is shown
    enough = len(looks)
    time.sleep(0.3)
    assert len(looks) == enough and lab.worker.output.picture.step == SPEC.steps


def test_the_picture_made_ahead_is_there_at_the_click(lab, monkeypatch):
    turn(lab, "network")
    click(lab, "train")
    lab.result()
    until(lambda: not lab.worker._landscape.blank(True))
    monkeypatch.setattr(Worker, "_advance_landscape", lambda worker: time.sleep(0.01))
    before = drawn(lab).get("frame")
    turn(lab, "landscape")
    assert drawn(lab)["frame"] is not before


def test_training_with_the_tab_open_gives_the_same_numbers(lab):
    click(lab, "train")
    run = lab.result()
    alone = labkit.train(SPEC)
    assert (run.loss == alone.loss).all() and (run.test_loss == alone.test_loss).all()
    assert settled(lab).step == SPEC.steps


def test_after_training_the_slider_goes_back_in_time_and_while_training_it_is_away(lab):
    tab = lab.landscape
    settled(lab)
    assert tab._time.layout.visibility == "hidden"
    click(lab, "train")
    lab.result()
    settled(lab)
    until(lambda: tab._time.layout.visibility == "visible")
    assert tab.at.value == tab.at.max and tab.when.value == "300 of 300 (now)"
    tab.at.value = 0
    until(lambda: lab.worker.output.picture.step == 0)
    until(lambda: tab.when.value == "0 of 300")
    assert settled(lab).plane.loss[POINTS // 2, POINTS // 2] == pytest.approx(
        labkit.train(SPEC.but(batch_size=0)).loss[0]
    )
    click(lab, "reset")
    until(lambda: tab._time.layout.visibility == "hidden")
    assert settled(lab).step == 0


@pytest.mark.parametrize("place", [0, 5])
def test_a_reset_with_the_slider_back_in_time_starts_over(lab, place):
    settled(lab)
    click(lab, "train")
    lab.result()
    settled(lab)
    until(lambda: lab.landscape.at.max > 5)
    lab.landscape.at.value = place
    settled(lab)
    click(lab, "reset")
    assert settled(lab).step == 0 and lab.state == "idle"


def test_training_on_with_the_slider_back_in_time_follows_the_training_again(lab):
    lab.choices.steps = 1_000_000
    click(lab, "train")
    until(lambda: lab.trainer.step > 500)
    click(lab, "pause")
    settled(lab)
    until(lambda: lab.landscape.at.max > 0)
    lab.landscape.at.value = 0
    until(lambda: lab.worker.output.picture.step == 0)
    click(lab, "train")
    until(lambda: lab.worker.output.picture.step > 500)
    click(lab, "stop")


@pytest.mark.parametrize("directions", ["path", "Hessian"])
def test_other_directions_are_drawn_with_their_names(lab, directions):
    click(lab, "train")
    lab.result()
    lab.landscape.directions.value = directions
    settled(lab)
    title = drawn(lab)["frame"]["layout"]["xaxis"]["title"]["text"]
    assert {"path": "path", "Hessian": "eigenvector"}[directions] in title
    assert lab.landscape.seed.layout.display == "none"


def test_map_or_relief_and_the_scale_change_the_drawing_and_nothing_is_computed_again(lab, monkeypatch):
    plane = settled(lab).plane
    monkeypatch.setattr(LandscapeWorker, "advance", None)  # calling it would fail
    lab.landscape.kind.value = "3-D"
    until(lambda: drawn(lab)["kind"] == "3-D")
    lab.landscape.log.value = False
    until(lambda: "log" not in drawn(lab)["frame"]["traces"]["surface"]["colorbar"]["title"]["text"])
    assert lab.worker.output.picture.plane is plane
    np.testing.assert_allclose(drawn(lab)["frame"]["traces"]["surface"]["z"], plane.loss, rtol=1e-6)


def test_a_new_seed_draws_other_directions(lab):
    before = settled(lab).plane
    lab.landscape.seed.value = 5
    until(lambda: lab.worker.output.picture.plane is not before)
    assert not np.allclose(settled(lab).plane.loss, before.loss)


def test_an_error_while_looking_reaches_the_person(lab, monkeypatch):
    settled(lab)
    monkeypatch.setattr(LandscapeWorker, "_look_around", lambda survey, at_rest: 1 / 0)
    lab.landscape.span.value = 2.0
    until(lambda: lab.state == "failed")
    until(lambda: "ZeroDivisionError" in lab.screen.status["warning"])
    with pytest.raises(ZeroDivisionError):
        lab.result()
    monkeypatch.undo()
    click(lab, "reset")
    assert settled(lab).step == 0


def test_a_front_end_that_comes_back_gets_the_whole_picture(lab, monkeypatch):
    settled(lab)
    sent = []
    monkeypatch.setattr(type(lab.landscape.figure), "send", lambda figure, message: sent.append(message))
    press(lab, "send")
    until(lambda: sent)
    assert sent[0]["figure"]["data"][0]["type"] == "contour"
    assert len(sent[0]["figure"]["data"][0]["z"]["bdata"]) > 4 * POINTS**2


def test_looking_takes_at_most_its_share_of_the_time(lab):
    settled(lab)
    lab.choices.steps = 1_000_000
    click(lab, "train")
    time.sleep(5)
    elapsed = time.perf_counter() - lab.worker.pacer.since
    dearest = 0.2  # seconds: one chunk or one drawing on a slow machine
    assert 0 < lab.worker.pacer.landscape_seconds <= LANDSCAPE_TIME_SHARE * elapsed + dearest
    click(lab, "stop")
