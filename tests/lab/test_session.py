"""The live lab without a browser: states and buttons, changes on the way, refusals, errors, pins, messages sent."""

import collections
import json
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
from labkit.core.spec import CSV, RULES, Spec
from labkit.core.trainer import Trainer
from labkit.lab import presets, session, worker

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
        press(lab, "speed", None)
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
        press(lab, name)
    until(lambda: lab.worker.commands.obeyed)


def press(lab, command, *arguments):
    """What the browser sends."""
    lab.screen._hear(lab.screen, {"command": command, "arguments": list(arguments)}, [])


def choose(lab, **choices):
    press(lab, "choose", choices)
    until(lambda: lab.worker.commands.obeyed)


def words(lab):
    """The status as a person reads it."""
    status = lab.screen.status
    return f"{status['state']} at step {lab.screen.frame['step']} of {status['total']}: {sentence(lab)}"


def sentence(lab):
    return f"{lab.screen.status['warning']} {lab.screen.status['sentence']}".strip()


def same(a, b):
    return all(np.array_equal(getattr(a, name), getattr(b, name), equal_nan=True) for name in FIELDS)


def broken(*args, **kwargs):
    raise RuntimeError("the disk is full")


# States and buttons


def test_train_goes_to_the_last_step_and_gives_the_same_numbers_as_train(make):
    lab = make()
    click(lab, "train")
    run = lab.result()
    assert lab.state == "done" and run.steps == SMALL.steps and run.diverged is None
    assert same(run, labkit.train(SMALL))
    quiet(lab)
    assert "done at step 300 of 300: After 300 steps" in words(lab)


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
    assert lab.state == end
    choose(lab, steps=50, depth=1)
    assert lab.state == "idle" and lab.result() is run
    click(lab, "train")
    assert lab.result() is not run and same(lab.result(), labkit.train(SMALL.but(steps=50, depth=1)))


def test_a_choice_that_does_not_fit_is_taken_back_and_said(make, monkeypatch):
    lab = make()
    click(lab, "train")
    run = lab.result()
    monkeypatch.setattr(devices, "free_bytes", lambda device: 200_000)
    choose(lab, width=1024)
    quiet(lab)
    assert lab.state == "done" and lab.result() is run and "the largest width that fits is" in words(lab)
    assert lab.choices.width == lab.screen.choices["width"] == SMALL.width


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


# Changes on the way


def test_the_learning_rate_changes_while_training_and_the_recipe_carries_it(make):
    lab = make()
    press(lab, "speed", 300)
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
    exec(lab.screen.status["code"], made)
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
    assert lab.trainer.lr_changes == [] and "lr_changes" not in lab.screen.status["code"]
    click(lab, "reset")
    assert lab.trainer.spec.lr == 0.05


def test_the_last_step_may_be_moved_while_training(make):
    lab = make(LONG)
    click(lab, "train")
    until(lambda: lab.trainer.step > 10)
    choose(lab, steps=lab.trainer.step + 3000)
    run = lab.result()
    assert lab.state == "done" and run.steps == run.spec.steps == lab.choices.steps
    assert np.array_equal(run.loss, labkit.train(run.spec).loss)


def test_a_later_last_step_lets_a_finished_run_go_on(make):
    lab = make()
    click(lab, "train")
    lab.result()
    choose(lab, steps=500)
    quiet(lab)
    assert lab.state == "paused"
    click(lab, "train")
    assert np.array_equal(lab.result().loss, labkit.train(SMALL.but(steps=500)).loss)


def test_before_the_first_step_every_choice_is_taken_over_at_once(make):
    lab = make()
    choose(lab, depth=4, optimizer="sgd", lr=0.1, dataset="circle", steps=50)
    quiet(lab)
    wanted = SMALL.but(depth=4, optimizer="sgd", lr=0.1, dataset="circle", steps=50)
    assert lab.trainer.spec == wanted
    assert lab.screen.status["parameters"] == labkit.cost(wanted).parameters
    click(lab, "train")
    assert same(lab.result(), labkit.train(wanted)) and lab.result().lr_changes == ()


def test_a_choice_made_just_before_the_click_on_train_counts(make):
    lab = make()
    lab.choices.depth = 5
    press(lab, "train")
    assert lab.result().spec == SMALL.but(depth=5)


def test_a_thousand_moves_are_few_redraws_and_settle_soon(make, monkeypatch):
    lab = make()
    press(lab, "show")
    quiet(lab)
    drawn = collections.Counter()
    for name in ("show", "draw"):
        original = getattr(lab.worker.output, name)
        monkeypatch.setattr(lab.worker.output, name, lambda *a, n=name, o=original: (drawn.update([n]), o(*a)))
    began = time.perf_counter()
    for k in range(500):
        lab.choices.lr = 0.001 * (1 + k)
        lab.choices.seed = k
        time.sleep(0.001)
    moved = time.perf_counter() - began
    quiet(lab)
    settled = time.perf_counter() - began - moved
    print(f"1,000 moves in {moved:.2f} s, {dict(drawn)}, settled {settled:.3f} s after the last")
    assert settled < 3
    assert lab.trainer.spec == SMALL.but(lr=0.5, seed=499)
    for name in ("show", "draw"):
        assert 1 <= drawn[name] <= 40 * (moved + settled) + 2


# Refusals: one clear sentence, the run is kept, the thread goes on


def refused(lab, run):
    """Check that a refusal left the lab alive, and return its sentence."""
    quiet(lab)
    assert lab.state == "done" and lab.result() is run and workers() == ["labkit main"]
    warning = lab.screen.status["warning"]
    assert warning and "\n" not in warning
    assert lab.screen.choices == {n: getattr(run.spec, n) for n in RULES} | {"features": ["x1", "x2"]}
    return warning


@pytest.fixture
def trained(make):
    lab = make(Spec(dataset="plane", loss="mse", samples=100, steps=50))
    click(lab, "train")
    return lab, lab.result()


def test_a_loss_without_meaning_is_refused_with_its_reason(trained):
    lab, run = trained
    choose(lab, loss="cross_entropy")
    assert "cross entropy compares class probabilities and this is a regression" in refused(lab, run)
    choose(lab, loss="huber")
    quiet(lab)
    assert lab.screen.status["warning"] == "" and lab.state == "idle"
    click(lab, "train")
    assert lab.result().spec == run.spec.but(loss="huber")


def test_a_csv_file_that_is_not_there_is_refused_with_where_it_was_looked_for(trained, tmp_path):
    lab, run = trained
    choose(lab, dataset=f"{CSV}{tmp_path / 'gone.csv'}")
    assert "PATH is a file that exists" in refused(lab, run)
    (tmp_path / "here.csv").write_text("a,b,y\n" + "".join(f"{k},{k % 7},{k % 5}.5\n" for k in range(60)))
    choose(lab, dataset=f"{CSV}{tmp_path / 'here.csv'}")
    click(lab, "train")
    assert lab.result().spec.dataset == f"csv:{tmp_path / 'here.csv'}" and lab.result().steps == 50


def test_a_csv_file_without_sense_is_refused_and_the_trained_run_stays(trained, tmp_path):
    lab, run = trained
    (tmp_path / "bad.csv").write_text("hello\nworld\n")
    choose(lab, dataset=f"{CSV}{tmp_path / 'bad.csv'}")
    assert "bad.csv" in refused(lab, run)


def test_a_network_too_big_for_the_memory_is_refused_with_the_largest_that_fits(trained, monkeypatch):
    lab, run = trained
    monkeypatch.setattr(devices, "free_bytes", lambda device: 200_000)
    choose(lab, width=1024)
    assert "the largest width that fits is" in refused(lab, run)
    monkeypatch.undo()
    choose(lab, width=1024)
    click(lab, "train")
    assert lab.result().spec.width == 1024


def test_after_a_refused_choice_train_trains_what_is_shown(make):
    spec = Spec(dataset="plane", loss="mse", samples=100, steps=50)
    lab = make(spec)
    choose(lab, loss="cross_entropy")
    click(lab, "train")
    run = lab.result()
    quiet(lab)
    assert run.spec == spec and lab.screen.choices["loss"] == "mse"


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
    lab.choices.depth = 1
    run = lab.run()
    assert run.spec == SMALL.but(depth=1) and same(run, labkit.train(run.spec))
    assert same(lab.run(), run)


def test_run_goes_at_full_speed_whatever_the_speed_on_the_screen_is():
    lab = labkit.Lab(SMALL.but(steps=3000))
    press(lab, "speed", 30)
    began = time.perf_counter()
    lab.run()
    assert time.perf_counter() - began < 30  # 100 s at the speed on the screen


def test_run_shows_nothing_of_a_live_figure_and_no_plot_outside_a_notebook(make, capsys):
    lab = make()
    lab.run()
    assert capsys.readouterr().out == ""


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
    press(lab, "train")
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
    lab.choices.steps = 1_000_000
    meddler = threading.Timer(0.3, lambda: press(lab, button))
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
    assert "failed" in words(lab)
    assert "RuntimeError: the disk is full" in words(lab) and "Press Restart" in words(lab)


def test_an_error_while_training_is_shown_and_raised_and_reset_recovers(make, monkeypatch):
    lab = make()
    monkeypatch.setattr(Trainer, "advance", broken)
    click(lab, "train")
    failed(lab)
    for call in (lab.result, lab.result, lab.run):
        with pytest.raises(RuntimeError, match="the disk is full"):
            call()
    monkeypatch.undo()
    choose(lab, depth=3)
    click(lab, "train")
    assert lab.result().spec == SMALL.but(depth=3) and lab.state == "done"


@pytest.mark.parametrize("part", ["draw", "show"])
def test_an_error_while_drawing_is_kept_and_raised_and_reset_recovers(make, monkeypatch, part):
    lab = make(LONG)
    lab.worker.commands.ask("show")
    quiet(lab)
    monkeypatch.setattr(lab.worker.output, part, broken)
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
        press(lab, "train")
        if k % 5 == 0:
            until(lambda lab=lab: lab.trainer.step > 0)
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
    quiet(lab)
    pins = lab.screen.status["pins"]
    names = [pin["name"] for pin in pins]
    assert names[0] == "A: depth 1, optimizer adam" and names[5] == "F: depth 3, optimizer sgd"
    assert len(set(names)) == 6
    click(lab, "pin")
    quiet(lab)
    assert lab.screen.status["pins"] == pins and "6 runs are pinned already" in words(lab)
    for pin, run in zip(pins, lab.worker.pins, strict=True):
        assert np.array_equal(np.frombuffer(pin["test"], np.float32), run.test_loss.astype(np.float32))
        assert pin["parameters"] == labkit.cost(run.spec).parameters
    click(lab, "unpin")
    quiet(lab)
    assert lab.worker.pins == [] and lab.screen.status["pins"] == []


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
    shared = lab.screen.status["share"]
    other = make(name="other")
    other.worker.commands.ask("open", f"  {shared}\n")
    quiet(other)
    assert other.trainer.spec == lab.trainer.spec == Spec.from_share(shared)
    assert other.screen.status["share"] == shared


@pytest.mark.parametrize("text", ["", "hello", "lab1.zzzz", SMALL.share()[:-3]])
def test_a_damaged_share_string_is_refused_and_changes_nothing(make, text):
    lab = make()
    lab.worker.commands.ask("open", text)
    quiet(lab)
    assert "share string" in lab.screen.status["warning"]
    assert lab.trainer.spec == lab.worker.choices.spec == SMALL and lab.state == "idle"


def test_a_share_string_opened_while_training_starts_its_own(make):
    lab = make(LONG)
    click(lab, "train")
    until(lambda: lab.trainer.step > 10)
    other = SMALL.but(depth=5, lr=0.5)
    press(lab, "open", other.share())
    assert same(lab.result(), labkit.train(other))


# Changes at once, undone and made again


def test_a_change_of_the_network_begins_anew_at_once_and_goes_on_training(make):
    lab = make(LONG)
    click(lab, "train")
    until(lambda: lab.trainer.step > 10)
    choose(lab, depth=4, seed=7)
    until(lambda: lab.trainer.step > 10)
    assert lab.state == "running" and lab.trainer.spec == LONG.but(depth=4, seed=7)
    click(lab, "pause")
    choose(lab, depth=1)
    assert lab.state == "idle" and lab.trainer.step == 0


def test_undo_and_redo_step_through_what_was_tried(make):
    lab = make()
    for changes in ({"depth": 4}, {"width": [8, 4, 2, 2]}, {"dataset": "moons"}):
        choose(lab, **changes)
    tried = [SMALL, SMALL.but(depth=4), SMALL.but(depth=4, width=(8, 4, 2, 2))]
    for spec in reversed(tried):
        click(lab, "undo")
        assert lab.trainer.spec == spec
    quiet(lab)
    assert not lab.screen.status["can_undo"] and lab.screen.status["can_redo"]
    click(lab, "undo", "redo", "redo")
    assert lab.trainer.spec == tried[2] and lab.choices.width == (8, 4, 2, 2)
    choose(lab, lr=0.5)
    quiet(lab)
    assert not lab.screen.status["can_redo"]


def test_a_choice_is_a_trait_that_is_set_heard_and_checked(make):
    lab, heard = make(), []
    lab.choices.observe(lambda change: heard.append(change["new"]), "depth")
    choose(lab, depth=5)
    lab.choices.depth = 4
    quiet(lab)
    assert heard == [5, 4] and lab.trainer.spec.depth == 4 == lab.screen.choices["depth"]
    with pytest.raises(ValueError, match=r"loss='husker' is not allowed: .*Did you mean 'huber'"):
        lab.choices.loss = "husker"
    assert lab.choices.loss == SMALL.loss


def test_an_edited_weight_is_part_of_the_recipe(make):
    lab = make()
    click(lab, "step", "step")
    press(lab, "edit", {"w1.2.3": 0.5, "b2.1": -1})
    press(lab, "edit", {"w1.2.3": 0.7})
    click(lab, "train")
    run = lab.result()
    quiet(lab)
    assert run.edits == ((2, {"w1.2.3": 0.7, "b2.1": -1}),)
    made = {}
    exec(lab.screen.status["code"], made)
    assert same(made["run"], run) and not same(labkit.train(SMALL), run)
    press(lab, "edit", {"w9.1.1": 0.5})
    quiet(lab)
    assert "names no weight of 2-8-8-2" in lab.screen.status["warning"]


def test_instant_shows_where_every_change_ends_for_eight_seeds(make):
    lab = make()
    press(lab, "instant", True)
    until(lambda: len(lab.screen.frame["others"]) == 7)
    choose(lab, width=3)
    until(lambda: lab.trainer.spec.width == 3 and len(lab.screen.frame["others"]) == 7)
    spec = SMALL.but(width=3)
    assert lab.state == "done" and same(lab.result(), labkit.train(spec))
    for other, run in zip(
        lab.screen.frame["others"], labkit.train([spec.but(seed=k) for k in range(1, 8)]), strict=True
    ):
        assert other["seed"] == run.spec.seed and other["score"] == run.score[-1]
    press(lab, "instant", False)
    choose(lab, width=4)
    quiet(lab)
    assert lab.state == "idle" and lab.screen.frame["others"] == []


@pytest.mark.parametrize("key", presets.PRESETS)
def test_a_preset_is_an_experiment_that_starts(make, key):
    lab = make()
    press(lab, "preset", key)
    until(lambda: lab.trainer.spec == presets.PRESETS[key].spec and lab.trainer.step > 0)
    assert lab.screen.status["warning"] == "" or "diverged" in lab.screen.status["warning"]


def test_a_dropped_table_is_trained_on(make):
    lab = make()
    text = "a,b,y\n" + "".join(f"{k},{k % 7},{k % 2}\n" for k in range(60))
    press(lab, "file", {"name": "../my table.csv", "text": text})
    click(lab, "train")
    assert lab.result().spec.dataset.endswith("my_table.csv") and len(lab.result().data.x_train) == 48
    press(lab, "file", {"name": "bad.csv", "text": "hello"})
    quiet(lab)
    assert "bad.csv" in lab.screen.status["warning"] and lab.choices.dataset.endswith("my_table.csv")


def test_painted_points_are_trained_on_and_undone(make):
    lab = make()
    x, y = [[k % 7 - 3, k % 5 - 2] for k in range(40)], [k % 2 for k in range(40)]
    press(lab, "paint", {"x": x, "y": y})
    click(lab, "train")
    run = lab.result()
    assert run.own == ("data",) and same(run, labkit.train(SMALL.but(batch_size=0), data=(x, y)))
    click(lab, "undo")
    quiet(lab)
    assert lab.trainer.own == () and lab.screen.scene["dataset"] == "spiral"


def test_a_goal_is_noticed_by_the_lab_itself(make):
    lab = make(goal="score >= 0.6 with < 1000 parameters")
    quiet(lab)
    assert lab.screen.status["goal"] == {"text": "score >= 0.6 with < 1000 parameters", "met": False}
    click(lab, "train")
    lab.result()
    quiet(lab)
    assert lab.screen.status["goal"]["met"]
    with pytest.raises(ValueError, match=r"goal part 'scor >= 1' is not allowed: .* Did you mean 'score'"):
        labkit.Lab(goal="scor >= 1")


# Speed


def test_the_speed_control_limits_the_steps_a_second_and_keeps_the_numbers(make):
    lab = labkit.Lab(SMALL)
    press(lab, "speed", 30)
    click(lab, "train")
    began = time.perf_counter()
    time.sleep(1)
    steps, took = lab.trainer.step, time.perf_counter() - began
    assert 3 <= steps <= 30 * took + 10
    press(lab, "speed", None)
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
    return "frame" in (message[2].get("state") or {})


def test_without_a_front_end_no_plot_library_is_sent(make, wire):
    make().run()
    assert sum(size for *_, size in wire if size < 200_000) < 300_000  # its JavaScript comes once


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
    assert 2 <= frames <= took / 0.04 + 2
    assert size / frames <= 25_000 and len(sent) / frames <= 3
    assert max(message[3] for message in sent) <= 60_000


@pytest.mark.parametrize("how", ["run", "result"])
def test_who_waits_for_a_run_gets_it_when_it_is_stopped(make, how):
    lab = make(LONG)
    got = []
    if how == "result":
        click(lab, "train")
    waiter = threading.Thread(target=lambda: got.append(getattr(lab, how)()))
    waiter.start()
    until(lambda: lab.trainer.step > 20)
    press(lab, "stop")
    waiter.join(10)
    assert len(got) == 1 and 20 < got[0].steps < LONG.steps
