"""The live lab without a browser: states and buttons, changes on the way, refusals, errors, pins, messages sent."""

import base64
import collections
import html
import json
import math
import re
import threading
import time

import comm
import numpy as np
import pytest
from comm.base_comm import BaseComm
from ipywidgets.widgets.widget import _instances

import labkit
from labkit.core import devices
from labkit.core.spec import CSV, Spec
from labkit.core.trainer import Trainer
from labkit.lab import session, texts, view, worker

SMALL = Spec(samples=100, width=8, depth=2, batch_size=16, steps=300)
LONG = SMALL.but(steps=1_000_000)
BLOWS_UP = Spec(dataset="plane", loss="mse", depth=0, optimizer="sgd", lr=1e6, samples=100, batch_size=16, steps=300)
FIELDS = ("loss", "test_step", "test_loss", "score")


@pytest.fixture(autouse=True)
def nothing_left():
    yield
    for lab in list(session._LABS.values()):
        lab.close()
    assert not workers()


@pytest.fixture
def make():
    """Make a lab that trains at full speed."""

    def make(spec=SMALL, **more):
        lab = labkit.Lab(spec, **more)
        lab.screen.speed.value = math.inf
        return lab

    return make


def workers():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("labkit ")]


def until(condition, seconds=20):
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def quiet(lab):
    """Wait until the worker has obeyed and drawn everything that was asked for."""
    until(lambda: lab.worker.settled)


def click(lab, *names):
    for name in names:
        lab.screen.buttons[name].click()
    until(lambda: lab.worker.commands.obeyed)


def choose(lab, **choices):
    for name, value in choices.items():
        lab.controls.widgets[name].value = value
    until(lambda: lab.worker.commands.obeyed)


def enabled(lab):
    return {name for name, button in lab.screen.buttons.items() if not button.disabled}


def words(lab):
    """The status as a person reads it."""
    return html.unescape(re.sub("<[^>]+>", " ", lab.screen.status.value))


def same(a, b):
    return all(np.array_equal(getattr(a, name), getattr(b, name), equal_nan=True) for name in FIELDS)


def broken(*args, **kwargs):
    raise RuntimeError("the disk is full")


# States and buttons


def test_each_state_enables_the_buttons_that_do_something_in_it(make):
    lab = make(LONG)
    quiet(lab)
    assert lab.state == "idle" and enabled(lab) == {"train", "step", "reset"}
    click(lab, "train")
    until(lambda: enabled(lab) == {"pause", "stop", "reset", "pin"})
    assert lab.state == "running" and "running" in words(lab)
    click(lab, "pause")
    quiet(lab)
    assert lab.state == "paused" and enabled(lab) == {"train", "step", "stop", "reset", "pin"}
    click(lab, "stop")
    quiet(lab)
    assert lab.state == "stopped" and enabled(lab) == {"train", "reset", "pin"}
    click(lab, "reset")
    quiet(lab)
    assert lab.state == "idle" and enabled(lab) == {"train", "step", "reset"}


def test_train_goes_to_the_last_step_and_gives_the_same_numbers_as_train(make):
    lab = make()
    click(lab, "train")
    run = lab.result()
    assert lab.state == "done" and run.steps == SMALL.steps and run.diverged is None
    assert same(run, labkit.train(SMALL))
    quiet(lab)
    assert enabled(lab) == {"train", "reset", "pin"} and "step 300 of 300" in words(lab)


def test_pause_holds_the_training_and_train_goes_on_with_the_same_numbers(make):
    lab = make(SMALL.but(steps=3000))
    click(lab, "train")
    until(lambda: lab.trainer.step > 100)
    click(lab, "pause")
    held = lab.trainer.step
    time.sleep(0.2)
    assert lab.state == "paused" and lab.trainer.step == held < 3000
    click(lab, "train")
    assert same(lab.result(), labkit.train(SMALL.but(steps=3000)))


def test_step_makes_one_update_and_then_pauses(make):
    lab = make()
    click(lab, "step")
    assert lab.state == "paused" and lab.trainer.step == 1
    click(lab, "step", "step")
    assert lab.trainer.step == 3
    click(lab, "train")
    assert same(lab.result(), labkit.train(SMALL))


def test_the_last_step_made_by_hand_finishes_the_run(make):
    lab = make(SMALL.but(steps=2))
    click(lab, "step", "step")
    assert lab.state == "done" and lab.result().steps == 2


def test_stop_keeps_the_run_as_far_as_it_came(make):
    lab = make(LONG)
    click(lab, "train")
    until(lambda: lab.trainer.step > 50)
    click(lab, "stop")
    run = lab.result()
    assert lab.state == "stopped" and 50 < run.steps == lab.trainer.step < LONG.steps
    assert run.spec == LONG.but(steps=run.steps) and np.array_equal(run.loss, labkit.train(run.spec).loss)


def test_a_last_step_that_is_past_already_ends_the_run_where_it_is(make):
    lab = make(LONG)
    click(lab, "train")
    until(lambda: lab.trainer.step > 50)
    choose(lab, steps=10)
    until(lambda: lab.state == "done")
    assert 50 < lab.result().steps == lab.result().spec.steps < LONG.steps


def test_stop_while_paused_keeps_the_run_too(make):
    lab = make()
    click(lab, "step", "stop")
    assert lab.state == "stopped" and lab.result().steps == 1


def test_reset_starts_over_and_keeps_the_finished_run(make):
    lab = make()
    click(lab, "train")
    run = lab.result()
    click(lab, "reset")
    assert lab.state == "idle" and lab.trainer.step == 0
    assert lab.result() is run
    click(lab, "train")
    assert lab.result() is not run and same(lab.result(), run)


@pytest.mark.parametrize("end", ["done", "stopped"])
def test_train_again_after_the_end_begins_a_new_run_with_what_the_controls_say(make, end):
    lab = make(SMALL if end == "done" else LONG)
    click(lab, "train")
    if end == "stopped":
        until(lambda: lab.trainer.step > 10)
        click(lab, "stop")
    run = lab.result()
    quiet(lab)
    assert lab.state == end and lab.screen.buttons["train"].description == "Train again"
    choose(lab, steps=50, depth=1)
    assert lab.state == end
    click(lab, "train")
    assert lab.result() is not run and same(lab.result(), labkit.train(SMALL.but(steps=50, depth=1)))


def test_train_again_with_a_refused_choice_begins_nothing_and_says_why(make, monkeypatch):
    lab = make()
    click(lab, "train")
    run = lab.result()
    monkeypatch.setattr(devices, "free_bytes", lambda device: 200_000)
    choose(lab, width=1024)
    click(lab, "train")
    quiet(lab)
    assert lab.state == "done" and lab.result() is run and "the largest width that fits is" in words(lab)


def test_reset_while_running_starts_over(make):
    lab = make(LONG)
    click(lab, "train")
    until(lambda: lab.trainer.step > 10)
    click(lab, "reset")
    assert lab.state == "idle" and lab.trainer.step == 0


@pytest.mark.parametrize(
    "state, clicks",
    [
        ("idle", ["pause", "stop", "pin"]),
        ("paused", ["pause"]),
        ("done", ["step", "pause", "stop"]),
    ],
)
def test_a_click_that_comes_too_late_changes_nothing(make, state, clicks):
    lab = make()
    for name in {"idle": [], "paused": ["step"], "done": ["train"]}[state]:
        click(lab, name)
    until(lambda: lab.state == state)
    step = lab.trainer.step
    click(lab, *clicks)
    assert (lab.state, lab.trainer.step, lab.worker.pins) == (state, step, [])


def test_an_unknown_command_is_refused_where_it_is_asked_for(make):
    lab = make()
    with pytest.raises(ValueError, match="'Train' is no command of the lab: use one of train, pause"):
        lab.worker.commands.ask("Train")
    quiet(lab)
    assert lab.state == "idle"


def translated(value):
    """Every label in another language, under the same keys."""
    if isinstance(value, dict):
        return {key: translated(part) for key, part in value.items()}
    if isinstance(value, tuple):
        return tuple(map(translated, value))
    return re.sub(r"[A-Za-z]+", "标签", value) if isinstance(value, str) else value


def test_no_label_is_an_identity_and_with_all_of_them_changed_the_lab_goes_on_working(make, monkeypatch):
    for name, value in vars(texts).items():
        if name.isupper():
            monkeypatch.setattr(texts, name, translated(value))
    lab = make(SMALL.but(steps=50))
    lab.worker.commands.ask("show")
    quiet(lab)
    labels = [lab.screen.buttons["train"].description, *lab.screen.tabs.titles, lab.controls.widgets["lr"].description]
    labels += [label for label, _ in (*lab.screen.speed.options, *lab.screen.landscape.kind.options)]
    assert not re.search("[a-z]", "".join(labels).replace("{", "")) and "标签" in words(lab)
    for key, tab in enumerate(view.TABS):
        lab.screen.tabs.selected_index = key
        assert lab.screen.tab == tab
    choose(lab, depth=3, loss="mse")
    click(lab, "train")
    run = lab.result()
    assert same(run, labkit.train(SMALL.but(steps=50, depth=3, loss="mse")))
    click(lab, "pin")
    lab.screen.tabs.selected_index = view.TABS.index("landscape")
    lab.screen.landscape.kind.value = "3-D"
    lab.screen.landscape.directions.value = "path"
    until(lambda: lab.screen.landscape._drawn.get("kind") == "3-D" and lab.worker.output.picture.step == run.steps)
    click(lab, "reset")
    quiet(lab)
    assert lab.state == "idle" and lab.worker.pins[0].spec == run.spec


# Changes on the way


def test_the_learning_rate_changes_while_training_and_the_recipe_carries_it(make):
    lab = make()
    lab.screen.speed.value = 300
    click(lab, "train")
    for lr in (0.03, 0.001):
        before = lab.trainer.step
        until(lambda before=before: lab.trainer.step > before + 20)
        choose(lab, lr=lr)
    run = lab.result()
    assert [lr for _, lr in run.lr_changes] == [0.03, 0.001] and all(step > 20 for step, _ in run.lr_changes)
    quiet(lab)
    again = labkit.train(run.spec, lr_changes=run.lr_changes)
    assert run.spec.lr == SMALL.lr and same(run, again)
    assert not np.array_equal(run.loss, labkit.train(run.spec).loss)
    made = {}
    exec(lab.screen.code.value, made)
    assert same(made["run"], run)


def test_a_learning_rate_set_while_paused_counts_from_the_next_step(make):
    lab = make()
    click(lab, "step", "step")
    choose(lab, lr=0.05)
    click(lab, "train")
    run = lab.result()
    assert run.lr_changes == ((2, 0.05),)
    assert same(run, labkit.train(run.spec, lr_changes=[(2, 0.05)]))


def test_a_learning_rate_set_after_the_end_is_no_part_of_that_run(make):
    lab = make()
    click(lab, "train")
    lab.result()
    choose(lab, lr=0.05)
    quiet(lab)
    assert lab.trainer.lr_changes == [] and "lr_changes" not in lab.screen.code.value
    click(lab, "reset")
    assert lab.trainer.spec.lr == 0.05


def test_the_last_step_may_be_moved_while_training(make):
    lab = make(LONG)
    click(lab, "train")
    until(lambda: lab.trainer.step > 10)
    choose(lab, steps=lab.trainer.step + 3000)
    run = lab.result()
    assert lab.state == "done" and run.steps == run.spec.steps == lab.controls.widgets["steps"].value
    assert np.array_equal(run.loss, labkit.train(run.spec).loss)


def test_a_later_last_step_lets_a_finished_run_go_on(make):
    lab = make()
    click(lab, "train")
    lab.result()
    choose(lab, steps=500)
    quiet(lab)
    assert lab.state == "paused" and "train" in enabled(lab)
    click(lab, "train")
    assert np.array_equal(lab.result().loss, labkit.train(SMALL.but(steps=500)).loss)


def test_a_choice_that_needs_a_reset_is_named_on_the_reset_button_and_never_restarts(make):
    lab = make(LONG)
    click(lab, "train")
    until(lambda: lab.trainer.step > 10)
    trainer, step = lab.trainer, lab.trainer.step
    choose(lab, depth=4, seed=7)
    until(lambda: lab.trainer.step > step + 10)
    until(lambda: lab.screen.buttons["reset"].description == "Reset to apply depth, seed")
    assert lab.trainer is trainer and lab.state == "running" and trainer.spec == LONG
    choose(lab, depth=2)
    until(lambda: lab.screen.buttons["reset"].description == "Reset to apply seed")
    click(lab, "reset")
    quiet(lab)
    assert lab.screen.buttons["reset"].description == "Reset"
    assert lab.trainer.spec == LONG.but(seed=7) and lab.state == "idle"


def test_before_the_first_step_every_choice_is_taken_over_at_once(make):
    lab = make()
    choose(lab, depth=4, optimizer="sgd", lr=0.1, dataset="circle", steps=50)
    quiet(lab)
    wanted = SMALL.but(depth=4, optimizer="sgd", lr=0.1, dataset="circle", steps=50)
    assert lab.trainer.spec == wanted and lab.screen.buttons["reset"].description == "Reset"
    assert f"{labkit.cost(wanted).parameters:,} parameters" in words(lab)
    click(lab, "train")
    assert same(lab.result(), labkit.train(wanted)) and lab.result().lr_changes == ()


def test_a_choice_made_just_before_the_click_on_train_counts(make):
    lab = make()
    lab.controls.widgets["depth"].value = 5
    lab.screen.buttons["train"].click()
    assert lab.result().spec == SMALL.but(depth=5)


def test_a_thousand_slider_moves_are_few_redraws_and_settle_soon(make, monkeypatch):
    lab = make()
    lab.worker.commands.ask("show")
    quiet(lab)
    drawn = collections.Counter()
    for name in ("show", "draw"):
        original = getattr(lab.screen, name)
        monkeypatch.setattr(lab.screen, name, lambda *a, n=name, o=original: (drawn.update([n]), o(*a)))
    slider, seeds = lab.controls.widgets["lr"], lab.controls.widgets["seed"]
    began = time.perf_counter()
    for k in range(500):
        slider.index = k % len(slider.options)
        seeds.value = k
        time.sleep(0.001)
    moved = time.perf_counter() - began
    quiet(lab)
    settled = time.perf_counter() - began - moved
    print(f"1,000 moves in {moved:.2f} s, {dict(drawn)}, settled {settled:.3f} s after the last")
    assert settled < 3
    assert lab.trainer.spec == SMALL.but(lr=slider.value, seed=499)
    for name in ("show", "draw"):
        assert 1 <= drawn[name] <= 20 * (moved + settled) + 2


# Refusals: one clear sentence, the run is kept, the thread goes on


def refused(lab, run):
    """Check that a refusal left the lab alive, and return its sentence."""
    quiet(lab)
    assert lab.state == "done" and lab.result() is run and workers() == ["labkit main"]
    sentences = re.findall("⚠ (.*?)</span>", lab.screen.status.value)
    assert len(sentences) == 1 and "\n" not in sentences[0]
    return html.unescape(sentences[0])


@pytest.fixture
def trained(make):
    lab = make(Spec(dataset="plane", loss="mse", samples=100, steps=50))
    click(lab, "train")
    return lab, lab.result()


def test_a_loss_without_meaning_is_refused_with_its_reason(trained):
    lab, run = trained
    choose(lab, loss="cross_entropy")
    assert "cross entropy compares class probabilities and this is a regression" in refused(lab, run)
    click(lab, "reset")
    refused(lab, run)
    choose(lab, loss="huber")
    quiet(lab)
    assert "⚠" not in words(lab)
    click(lab, "reset", "train")
    assert lab.result().spec == run.spec.but(loss="huber")


def test_a_csv_file_that_is_not_there_is_refused_with_where_it_was_looked_for(trained, tmp_path):
    lab, run = trained
    choose(lab, dataset=CSV, csv=str(tmp_path / "gone.csv"))
    assert "PATH is a file that exists" in refused(lab, run)
    (tmp_path / "here.csv").write_text("a,b,y\n" + "".join(f"{k},{k % 7},{k % 5}.5\n" for k in range(60)))
    choose(lab, csv=str(tmp_path / "here.csv"))
    click(lab, "reset", "train")
    assert lab.result().spec.dataset == f"csv:{tmp_path / 'here.csv'}" and lab.result().steps == 50


def test_a_csv_file_without_sense_is_refused_and_the_trained_run_stays(trained, tmp_path):
    lab, run = trained
    (tmp_path / "bad.csv").write_text("hello\nworld\n")
    choose(lab, dataset=CSV, csv=str(tmp_path / "bad.csv"))
    click(lab, "reset")
    assert "bad.csv" in refused(lab, run)


def test_a_network_too_big_for_the_memory_is_refused_with_the_largest_that_fits(trained, monkeypatch):
    lab, run = trained
    monkeypatch.setattr(devices, "free_bytes", lambda device: 200_000)
    choose(lab, width=1024)
    click(lab, "reset")
    assert "the largest width that fits is" in refused(lab, run)
    monkeypatch.undo()
    click(lab, "reset", "train")
    assert lab.result().spec.width == 1024


@pytest.mark.parametrize("button", ["train", "step"])
def test_a_refused_choice_starts_no_training_of_something_else(make, button, monkeypatch):
    lab = make(Spec(dataset="plane", loss="mse", samples=100, steps=50))
    choose(lab, loss="cross_entropy")
    click(lab, button)
    assert lab.state == "idle" and lab.trainer.step == 0
    choose(lab, loss="mse")
    monkeypatch.setattr(devices, "free_bytes", lambda device: 200_000)
    choose(lab, width=1024)
    click(lab, button)
    quiet(lab)
    assert lab.state == "idle" and lab.trainer.step == 0 and "the largest width that fits is" in words(lab)


def test_run_never_returns_an_older_run_for_a_refused_choice(trained):
    lab, run = trained
    choose(lab, loss="cross_entropy")
    with pytest.raises(Exception, match="cross entropy compares class probabilities"):
        lab.run()
    choose(lab, loss="mse")
    assert same(lab.run(), run)


def test_a_divergence_stops_the_run_and_says_so(make):
    lab = make(BLOWS_UP)
    click(lab, "train")
    run = lab.result()
    quiet(lab)
    assert lab.state == "stopped" and run.diverged == labkit.train(BLOWS_UP).diverged
    assert f"diverged at step {run.diverged:,}" in words(lab) and "try a smaller lr" in words(lab)
    assert same(run, labkit.train(BLOWS_UP))
    choose(lab, lr=0.01)
    click(lab, "reset", "train")
    assert lab.result().diverged is None and lab.state == "done"


# Without a person


@pytest.mark.parametrize(
    "spec",
    [SMALL, SMALL.but(dataset="bumps", loss="huber"), SMALL.but(dataset="digits", steps=40), BLOWS_UP],
    ids=["classes", "regression", "digits", "diverging"],
)
def test_run_is_bit_identical_to_train(spec):
    assert same(labkit.Lab(spec).run(), labkit.train(spec))


def test_run_trains_what_the_controls_say_from_the_first_step(make):
    lab = make()
    click(lab, "step", "step")
    lab.controls.widgets["depth"].value = 1
    run = lab.run()
    assert run.spec == SMALL.but(depth=1) and same(run, labkit.train(run.spec))
    assert same(lab.run(), run)


def test_run_goes_at_full_speed_whatever_the_speed_on_the_screen_is():
    lab = labkit.Lab(SMALL.but(steps=3000))
    lab.screen.speed.value = 30
    began = time.perf_counter()
    lab.run()
    assert time.perf_counter() - began < 30  # 100 s at the speed on the screen


def test_run_shows_nothing_of_a_live_figure_and_no_plot_outside_a_notebook(make, capsys):
    lab = make()
    lab.run()
    assert lab.screen.figure is None and capsys.readouterr().out == ""


def test_own_data_are_trained_on():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 2)).astype(np.float32)
    y = (x[:, :1] * 2).astype(np.float32)
    spec = SMALL.but(dataset="plane", loss="mse")
    lab = labkit.Lab(spec, data=(x, y))
    assert same(lab.run(), labkit.train(spec, data=(x, y)))


def test_result_with_nothing_finished_says_what_to_do(make):
    lab = make()
    with pytest.raises(RuntimeError, match=re.escape("Press Train and wait, press Stop, or call lab.run()")):
        lab.result()


def test_result_waits_while_a_run_is_going_on(make):
    lab = make(SMALL.but(steps=5000))
    lab.screen.buttons["train"].click()
    assert lab.result().steps == 5000


def test_an_interrupt_in_run_stops_the_run(make, monkeypatch):
    lab = make(LONG)
    wait, calls = lab.worker.wait, []

    def interrupted(ticket=None):
        calls.append(ticket)
        if len(calls) == 1:
            until(lambda: lab.trainer.step > 20)
            raise KeyboardInterrupt
        wait(ticket)

    monkeypatch.setattr(lab.worker, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        lab.run()
    monkeypatch.undo()
    assert lab.state == "stopped" and 20 < lab.result().steps < LONG.steps


@pytest.mark.parametrize("button", ["pause", "reset"])
def test_run_that_somebody_stops_on_the_way_says_so_and_returns_no_older_run(make, button):
    lab = make()
    first = lab.run()
    lab.controls.widgets["steps"].value = 1_000_000
    meddler = threading.Timer(0.3, lab.screen.buttons[button].click)
    meddler.start()
    with pytest.raises(RuntimeError, match=r"not finished: the lab is (paused|idle)"):
        lab.run()
    meddler.join()
    assert lab.result() is first


# Errors in the thread


def failed(lab):
    until(lambda: lab.state == "failed")
    until(lambda: lab.worker.commands.obeyed)
    assert workers() == ["labkit main"]
    assert enabled(lab) == {"train", "reset"} and "failed" in words(lab)
    assert "RuntimeError: the disk is full" in words(lab) and "Press Reset" in words(lab)


def test_an_error_while_training_is_shown_and_raised_and_reset_recovers(make, monkeypatch):
    lab = make()
    monkeypatch.setattr(Trainer, "advance", broken)
    click(lab, "train")
    failed(lab)
    for call in (lab.result, lab.result, lab.run):
        with pytest.raises(RuntimeError, match="the disk is full"):
            call()
    choose(lab, depth=3)
    quiet(lab)
    failed(lab)
    monkeypatch.undo()
    click(lab, "reset", "train")
    assert lab.result().spec == SMALL.but(depth=3) and lab.state == "done"


@pytest.mark.parametrize("part", ["draw", "show", "say"])
def test_an_error_while_drawing_is_kept_and_raised_and_reset_recovers(make, monkeypatch, part):
    lab = make(LONG)
    lab.worker.commands.ask("show")
    quiet(lab)
    monkeypatch.setattr(lab.screen, part, broken)
    click(lab, "train")
    until(lambda: lab.state == "failed")
    with pytest.raises(RuntimeError, match="the disk is full"):
        lab.result()
    assert workers() == ["labkit main"]
    monkeypatch.undo()
    click(lab, "reset")
    quiet(lab)
    assert lab.state == "idle"
    choose(lab, steps=50)
    click(lab, "train")
    assert lab.result().steps == 50


def test_an_error_while_obeying_lets_the_next_command_through(make, monkeypatch):
    lab = make()
    monkeypatch.setattr(worker, "run_of", broken)
    click(lab, "step", "stop")
    failed(lab)
    monkeypatch.undo()
    click(lab, "reset", "train")
    assert lab.result().steps == SMALL.steps


# Made again, side by side, closed


def test_a_new_lab_of_the_same_name_closes_the_old_one_twenty_times():
    counts = []
    for k in range(20):
        lab = labkit.Lab(LONG.but(seed=k))
        lab.worker.commands.ask("show")
        lab.screen.buttons["train"].click()
        if k % 5 == 0:
            until(lambda lab=lab: lab.trainer.step > 0 and lab.screen.figure is not None)
            until(lambda lab=lab: lab.worker.commands.obeyed)
        assert workers() == ["labkit main"]
        counts.append(len(_instances))
    assert max(counts[1:]) <= counts[0] + 10, counts
    lab.close()
    assert not workers()


def test_a_closed_lab_leaves_no_widget_behind(make):
    before = set(_instances)
    lab = make()
    lab.worker.commands.ask("show")
    click(lab, "train", "pin")
    lab.result()
    quiet(lab)
    lab.close()
    left = [type(_instances[key]).__name__ for key in set(_instances) - before]
    assert left == []


def test_labs_of_other_names_live_side_by_side(make):
    one, two = make(LONG, name="one"), make(SMALL.but(seed=3), name="two")
    click(one, "train")
    click(two, "train")
    assert sorted(workers()) == ["labkit one", "labkit two"]
    assert same(two.result(), labkit.train(SMALL.but(seed=3)))
    assert one.state == "running"
    click(one, "stop")
    assert np.array_equal(one.result().loss, labkit.train(LONG.but(steps=one.result().steps)).loss)


def test_closing_a_running_lab_joins_its_thread_soon(make):
    lab = make(LONG)
    click(lab, "train")
    until(lambda: lab.trainer.step > 10)
    began = time.perf_counter()
    lab.close()
    took = time.perf_counter() - began
    print(f"closed in {took:.3f} s")
    assert not workers() and took < 2
    lab.close()  # a second time does nothing


def test_a_wrong_spec_leaves_no_thread_behind():
    with pytest.raises(ValueError, match="device"):
        labkit.Lab(SMALL.but(device="mps" if "mps" not in devices.available() else "cuda"))
    assert not workers()


def test_the_repr_says_where_the_lab_stands(make):
    lab = make()
    assert repr(lab).startswith("Lab 'main': idle at step 0 of 300; Spec: spiral")


# Pins


def test_pins_are_at_most_six_told_apart_and_put_in_a_table(make):
    lab = make(SMALL.but(steps=5))
    for depth in (1, 2, 3, 1, 2, 3):
        choose(lab, depth=depth, optimizer="adam" if len(lab.worker.pins) < 3 else "sgd")
        click(lab, "reset", "train")
        lab.result()
        click(lab, "pin")
    names = list(view.named(lab.worker.pins))
    assert names[0] == "A: depth 1, optimizer adam" and names[5] == "F: depth 3, optimizer sgd"
    assert len(set(names)) == 6
    click(lab, "pin")
    quiet(lab)
    assert list(view.named(lab.worker.pins)) == names and "6 runs are pinned already" in words(lab)
    table = lab.screen._table.value
    assert table.count("<tr>") == 7 and all(html.escape(name) in table for name in names)
    for run in lab.worker.pins:
        assert f"<td>{run.test_loss[-1]:.4g}</td>" in table, run
    figure = lab.screen._compare.outputs[0]["data"]["application/vnd.plotly.v1+json"]
    assert {trace["name"] for trace in figure["data"]} == set(names)
    lab.worker.commands.ask("unpin")
    quiet(lab)
    assert lab.worker.pins == [] and lab.screen._compare.outputs == () and "Pin up to six" in lab.screen._table.value


def test_the_same_run_is_pinned_once(make):
    lab = make(SMALL.but(steps=5))
    click(lab, "train")
    lab.result()
    click(lab, "pin", "pin")
    quiet(lab)
    assert len(lab.worker.pins) == 1 and "pinned already" in words(lab)


def test_a_running_training_can_be_pinned_and_goes_on(make):
    lab = make(LONG)
    click(lab, "train")
    until(lambda: lab.trainer.step > 10)
    click(lab, "pin")
    (pinned,) = lab.worker.pins
    until(lambda: lab.trainer.step > pinned.steps)
    assert pinned.steps > 10 and lab.state == "running"


# Sharing


def test_a_share_string_opens_to_the_same_choices(make):
    lab = make(SMALL.but(dataset="moons", width=13, lr=0.0123, batch_size=7))
    quiet(lab)
    shared = lab.screen.share.value
    other = make(name="other")
    other.worker.commands.ask("open", f"  {shared}\n")
    quiet(other)
    assert other.trainer.spec == lab.trainer.spec == Spec.from_share(shared)
    assert other.screen.share.value == shared


def test_a_share_string_opened_while_training_waits_for_a_reset(make):
    lab = make(LONG)
    click(lab, "train")
    until(lambda: lab.trainer.step > 10)
    lab.worker.commands.ask("open", LONG.but(depth=5, lr=0.5).share())
    until(lambda: lab.screen.buttons["reset"].description == "Reset to apply depth")
    assert lab.state == "running" and lab.trainer.spec == LONG


@pytest.mark.parametrize("text", ["", "hello", "lab1.zzzz", SMALL.share()[:-3]])
def test_a_damaged_share_string_is_refused_and_changes_nothing(make, text):
    lab = make()
    lab.worker.commands.ask("open", text)
    quiet(lab)
    assert "share string" in words(lab) and "⚠" in words(lab)
    assert lab.trainer.spec == lab.worker.choices.spec == SMALL and lab.state == "idle"


# Speed


def test_the_speed_control_limits_the_steps_a_second_and_keeps_the_numbers(make):
    lab = labkit.Lab(SMALL)
    lab.screen.speed.value = 30
    click(lab, "train")
    began = time.perf_counter()
    time.sleep(1)
    steps, took = lab.trainer.step, time.perf_counter() - began
    assert 3 <= steps <= 30 * took + 10
    lab.screen.speed.value = math.inf
    assert same(lab.result(), labkit.train(SMALL))


# What goes over the wire


@pytest.fixture
def wire(monkeypatch):
    """Every message that would go to the front end: (seconds, comm, what, bytes)."""
    sent = []

    class Recorded(BaseComm):
        def publish_msg(self, msg_type, data=None, metadata=None, buffers=None, **keys):
            size = len(json.dumps(data)) + sum(memoryview(part).nbytes for part in buffers or ())
            sent.append((time.perf_counter(), msg_type, data or {}, size))

    monkeypatch.setattr(comm, "create_comm", Recorded)
    return sent


def is_frame(message):
    return "traces" in (message[2].get("content") or {})


def test_without_a_front_end_no_plot_library_is_sent(make, wire):
    make().run()
    assert max(size for *_, size in wire) < 20_000 and not any(map(is_frame, wire))
    assert sum(size for *_, size in wire) < 300_000


@pytest.mark.parametrize("dataset", ["spiral", "digits", "chebyshev"])
def test_a_frame_is_small_and_a_few_messages_ten_times_a_second_at_most(make, wire, dataset):
    lab = make(Spec(dataset=dataset, loss="mse", steps=1_000_000, batch_size=8))
    lab.worker.commands.ask("show")
    quiet(lab)
    click(lab, "train")
    time.sleep(0.5)
    wire.clear()
    began = time.perf_counter()
    time.sleep(2)
    while sum(map(is_frame, list(wire))) < 2 and time.perf_counter() - began < 20:  # on a busy machine
        time.sleep(0.1)
    sent, took = list(wire), time.perf_counter() - began
    frames = sum(map(is_frame, sent))
    size = sum(message[3] for message in sent)
    print(
        f"{dataset}: {frames} frames in {took:.1f} s, {size / frames:,.0f} bytes and {len(sent) / frames:.1f} messages"
    )
    assert 2 <= frames <= took / 0.1 + 2
    assert size / frames <= 60_000 and len(sent) / frames <= 10
    assert max(message[3] for message in sent) <= 60_000


def test_the_figure_that_a_new_front_end_gets_is_the_one_drawn_so_far(make, wire):
    lab = make()
    lab.worker.commands.ask("show")
    click(lab, "train")
    run = lab.result()
    quiet(lab)
    wire.clear()
    lab.screen.figure._handle_custom_msg("view", [])
    quiet(lab)
    until(lambda: any("figure" in (message[2].get("content") or {}) for message in wire), seconds=5)
    (whole,) = [message for message in wire if "figure" in (message[2].get("content") or {})]
    figure = whole[2]["content"]["figure"]
    assert figure["data"][0]["name"] == "train" and whole[3] < 100_000
    steps = np.frombuffer(base64.b64decode(figure["data"][1]["x"]["bdata"]), np.float32)
    assert np.array_equal(steps, run.test_step.astype(np.float32))


@pytest.mark.parametrize("how", ["run", "result"])
def test_who_waits_for_a_run_gets_it_when_it_is_stopped(make, how):
    lab = make(LONG)
    got = []
    if how == "result":
        click(lab, "train")
    waiter = threading.Thread(target=lambda: got.append(getattr(lab, how)()))
    waiter.start()
    until(lambda: lab.trainer.step > 20)
    lab.screen.buttons["stop"].click()
    waiter.join(10)
    assert len(got) == 1 and 20 < got[0].steps < LONG.steps
