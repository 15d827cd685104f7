"""The landscape around a network in training: what is kept, what is looked at, how fine; training is left alone."""

import numpy as np
import pytest
import torch

from labkit.core.spec import Spec
from labkit.core.trainer import Trainer
from labkit.lab.background import PATH_POINTS, POINTS, POINTS_RUNNING, LandscapeWorker, Options

SPEC = Spec(samples=100, width=6, depth=2, batch_size=16, steps=400, lr=0.03)


def nobody_waits():
    return False


def trained(steps=200, every=10, spec=SPEC, **more):
    """A worker that kept its trainer's path."""
    trainer = Trainer(spec)
    worker = LandscapeWorker(trainer, more.get("interrupted", nobody_waits))
    for _ in range(0, steps, every):
        trainer.advance(every)
        worker.keep()
    return worker


def views(worker, at_rest=True):
    """Every picture until nothing is left to compute."""
    found = []
    while worker.due(at_rest):
        view = worker.advance(at_rest)
        found += [view] if view is not None else []
    return found


def loss_now(trainer):
    with torch.no_grad():
        prediction = trainer.predict(trainer.split.x_train.unsqueeze(0))[0]
        return float(trainer.loss(prediction, trainer.split.y_train))


def test_pictures_grow_from_coarse_to_fine_and_the_finest_is_the_last():
    worker = trained()
    assert [len(view.plane.alpha) for view in views(worker)] == [5, 9, 17, 33, POINTS]
    assert not worker.due(True) and not worker.busy


def test_while_training_pictures_are_smaller_and_the_next_is_not_much_coarser_than_the_last():
    worker = trained()
    assert [len(view.plane.alpha) for view in views(worker, at_rest=False)] == [5, 9, 17, POINTS_RUNNING]
    worker.trainer.advance(10)
    assert [len(view.plane.alpha) for view in views(worker, at_rest=False)] == [17, POINTS_RUNNING]
    assert [len(view.plane.alpha) for view in views(worker, at_rest=True)] == [17, 33, POINTS]


def test_the_centre_is_where_training_stands():
    worker = trained()
    for directions in ("random", "path", "Hessian"):
        worker.look(Options(directions))
        plane = views(worker)[-1].plane
        row, column = np.abs(plane.beta).argmin(), np.abs(plane.alpha).argmin()
        if directions != "path":  # whose window lies around the path
            assert (plane.alpha[column], plane.beta[row]) == (0, 0)
            assert plane.loss[row, column] == pytest.approx(loss_now(worker.trainer), rel=1e-5)
        assert plane.facts["step"] == worker.trainer.step


def test_a_moved_slider_looks_around_an_earlier_place():
    worker = trained()
    step = worker.steps[7]
    losses = Trainer(SPEC)
    losses.advance(step)
    worker.look(Options(at=7))
    view = views(worker)[-1]
    assert view.step == step == view.trail.steps[-1]
    assert view.plane.loss[POINTS // 2, POINTS // 2] == pytest.approx(loss_now(losses), rel=1e-5)


def test_the_path_ends_at_the_centre_and_its_true_losses_are_those_of_training():
    worker = trained()
    worker.look(Options("path"))
    view = views(worker)[-1]
    trail = view.trail
    assert (trail.alpha[-1], trail.beta[-1], trail.distance[-1]) == pytest.approx((0, 0, 0), abs=1e-4)
    assert (
        trail.loss[-1]
        == pytest.approx(trail.plane_loss[-1], rel=1e-4)
        == pytest.approx(loss_now(worker.trainer), rel=1e-5)
    )
    assert (trail.alpha > view.plane.alpha[0]).all() and (trail.alpha < view.plane.alpha[-1]).all()
    assert (trail.beta > view.plane.beta[0]).all() and (trail.beta < view.plane.beta[-1]).all()
    assert "%" in view.note


def test_before_there_is_a_path_its_directions_are_random_and_the_note_says_so():
    worker = LandscapeWorker(Trainer(SPEC), nobody_waits)
    worker.look(Options("path"))
    view = views(worker)[-1]
    assert "press Train" in view.note and "random" in view.plane.facts["axes"]["u"]


def test_along_the_top_eigenvector_the_loss_bends_most():
    worker = trained(steps=400)
    worker.look(Options("Hessian", span=0.05))
    plane = views(worker)[-1].plane
    middle = POINTS // 2
    along_u, along_v = plane.loss[middle], plane.loss[:, middle]
    bends = [side[-1] - 2 * side[middle] + side[0] for side in (along_u, along_v)]
    assert bends[0] > bends[1] > 0


def test_a_wider_span_shows_more():
    worker = trained()
    spans = {}
    for directions in ("random", "path", "Hessian"):
        for span in (1.0, 2.0):
            worker.look(Options(directions, span=span))
            spans[span] = np.ptp(views(worker)[-1].plane.alpha)
        assert spans[2.0] == pytest.approx(2 * spans[1.0], rel=1e-3)


def test_few_places_are_kept_the_first_among_them_and_the_path_stays_whole():
    worker = trained(steps=400, every=1)
    assert len(worker.steps) == PATH_POINTS and worker.steps[0] == 0 and worker.steps == sorted(set(worker.steps))
    every = [np.linalg.norm(b - a) for a, b in zip(worker._weights, worker._weights[1:], strict=False)]
    assert max(every) < 6 * np.median(every)  # the fast beginning is not skipped


def test_somebody_who_waits_interrupts_the_search_for_eigenvectors():
    asked = iter([False] * 6)  # nobody waits during the first products
    worker = trained(interrupted=lambda: next(asked, True))
    worker.look(Options("Hessian"))
    assert worker.advance(True) is None and worker.due(True) and not worker.busy
    assert next(asked, None) is None
    worker._interrupted = nobody_waits
    assert len(views(worker)[-1].plane.alpha) == POINTS


def test_while_training_a_slow_search_is_not_repeated(monkeypatch):
    worker = trained()
    worker.look(Options("Hessian"))
    monkeypatch.setattr("labkit.lab.background.SEARCH_SECONDS", 0.0)  # every search is slow
    assert views(worker, at_rest=False)[-1].note == ""
    first = worker._top
    worker.trainer.advance(100)
    view = views(worker, at_rest=False)[-1]
    assert worker._top is first and "those of step 200" in view.note and view.step == 300
    assert views(worker, at_rest=True)[-1].note == "" and worker._top is not first


def test_training_is_the_same_with_and_without_somebody_looking():
    worker = LandscapeWorker(Trainer(SPEC), nobody_waits)
    for k in range(20):
        worker.trainer.advance(20)
        worker.keep()
        worker.look(Options(("random", "path", "Hessian")[k % 3], seed=k))
        worker.advance(False)
        worker.advance(False)
    alone = Trainer(SPEC)
    alone.advance(400)
    assert torch.equal(worker.trainer.loss_of(), alone.loss_of())
    assert torch.equal(worker.trainer.theta_of(), alone.theta_of())


@pytest.mark.parametrize(
    "changes", [{"residual": True, "depth": 3}, {"dataset": "bumps", "loss": "huber"}, {"depth": 0}]
)
def test_other_networks_are_looked_at_too(changes):
    worker = trained(steps=50, spec=SPEC.but(**changes))
    plane = views(worker)[-1].plane
    assert plane.loss[POINTS // 2, POINTS // 2] == pytest.approx(loss_now(worker.trainer), rel=1e-5)


def test_a_diverged_run_is_looked_at_where_its_loss_was_last_finite():
    spec = Spec(dataset="plane", loss="mse", depth=0, optimizer="sgd", lr=50.0, samples=100, batch_size=16, steps=300)
    worker = trained(steps=300, spec=spec)
    assert worker.trainer.diverged[0] is not None
    assert np.isfinite(views(worker)[-1].plane.loss).any()


def test_an_unknown_kind_of_directions_is_refused():
    with pytest.raises(ValueError, match=r"directions takes one of random, path, Hessian\. Did you mean 'path'"):
        Options("paths")


def test_how_far_a_picture_is_is_one_state():
    worker = trained()
    assert (worker.busy, worker.due(True), worker.blank(True)) == (False, True, True)
    while worker.advance(True) is None:
        assert (worker.busy, worker.due(True), worker.blank(True)) == (True, True, True)
    assert (worker.busy, worker.due(True), worker.blank(True)) == (True, True, False)
    assert worker.due(False) and worker.blank(False)  # it is of another size while training
    views(worker)
    assert (worker.busy, worker.due(True), worker.blank(True)) == (False, False, False)
    worker.trainer.advance(1)
    assert (worker.busy, worker.due(True), worker.blank(True)) == (False, True, True)
    views(worker)
    assert worker.look(Options(seed=1)) and not worker.look(Options(seed=1))
    assert (worker.busy, worker.due(True), worker.blank(True)) == (False, True, True)
