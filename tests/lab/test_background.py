"""The landscape around a network in training: what is kept, what is looked at, how fine; training is left alone."""

import numpy as np
import pytest
import torch

from labkit.core.spec import Spec
from labkit.core.trainer import Trainer
from labkit.lab.background import KEPT, POINTS, POINTS_RUNNING, LandscapeWorker, Options

SPEC = Spec(samples=100, width=6, depth=2, batch_size=16, steps=400, lr=0.03)


def patient():
    return False


def trained(steps=200, every=10, spec=SPEC, **more):
    """A survey of a trainer that was watched while it trained."""
    trainer = Trainer(spec)
    survey = LandscapeWorker(trainer, more.get("interrupted", patient))
    for _ in range(0, steps, every):
        trainer.advance(every)
        survey.keep()
    return survey


def sights(survey, at_rest=True):
    """Every picture until nothing is left to compute."""
    found = []
    while survey.due(at_rest):
        sight = survey.advance(at_rest)
        found += [sight] if sight is not None else []
    return found


def loss_now(trainer):
    with torch.no_grad():
        prediction = trainer.predict(trainer.split.x_train.unsqueeze(0))[0]
        return float(trainer.loss(prediction, trainer.split.y_train))


def test_pictures_grow_from_coarse_to_fine_and_the_finest_is_the_last():
    survey = trained()
    assert [len(sight.plane.alpha) for sight in sights(survey)] == [5, 9, 17, 33, POINTS]
    assert not survey.due(True) and not survey.busy


def test_while_training_pictures_are_smaller_and_the_next_is_not_much_coarser_than_the_last():
    survey = trained()
    assert [len(sight.plane.alpha) for sight in sights(survey, at_rest=False)] == [5, 9, 17, POINTS_RUNNING]
    survey.trainer.advance(10)
    assert [len(sight.plane.alpha) for sight in sights(survey, at_rest=False)] == [17, POINTS_RUNNING]
    assert [len(sight.plane.alpha) for sight in sights(survey, at_rest=True)] == [17, 33, POINTS]


def test_the_centre_is_where_training_stands():
    survey = trained()
    for directions in ("random", "path", "Hessian"):
        survey.look(Options(directions))
        plane = sights(survey)[-1].plane
        row, column = np.abs(plane.beta).argmin(), np.abs(plane.alpha).argmin()
        if directions != "path":  # whose window lies around the path
            assert (plane.alpha[column], plane.beta[row]) == (0, 0)
            assert plane.loss[row, column] == pytest.approx(loss_now(survey.trainer), rel=1e-5)
        assert plane.facts["step"] == survey.trainer.step


def test_a_moved_slider_looks_around_an_earlier_place():
    survey = trained()
    step = survey.steps[7]
    losses = Trainer(SPEC)
    losses.advance(step)
    survey.look(Options(at=7))
    sight = sights(survey)[-1]
    assert sight.step == step == sight.trail.steps[-1]
    assert sight.plane.loss[POINTS // 2, POINTS // 2] == pytest.approx(loss_now(losses), rel=1e-5)


def test_the_path_ends_at_the_centre_and_its_true_losses_are_those_of_training():
    survey = trained()
    survey.look(Options("path"))
    sight = sights(survey)[-1]
    trail = sight.trail
    assert (trail.alpha[-1], trail.beta[-1], trail.distance[-1]) == pytest.approx((0, 0, 0), abs=1e-4)
    assert (
        trail.loss[-1]
        == pytest.approx(trail.plane_loss[-1], rel=1e-4)
        == pytest.approx(loss_now(survey.trainer), rel=1e-5)
    )
    assert (trail.alpha > sight.plane.alpha[0]).all() and (trail.alpha < sight.plane.alpha[-1]).all()
    assert (trail.beta > sight.plane.beta[0]).all() and (trail.beta < sight.plane.beta[-1]).all()
    assert "%" in sight.note


def test_before_there_is_a_path_its_directions_are_random_and_the_note_says_so():
    survey = LandscapeWorker(Trainer(SPEC), patient)
    survey.look(Options("path"))
    sight = sights(survey)[-1]
    assert "press Train" in sight.note and "random" in sight.plane.facts["axes"]["u"]


def test_along_the_top_eigenvector_the_ground_bends_most():
    survey = trained(steps=400)
    survey.look(Options("Hessian", span=0.05))
    plane = sights(survey)[-1].plane
    middle = POINTS // 2
    along_u, along_v = plane.loss[middle], plane.loss[:, middle]
    bends = [side[-1] - 2 * side[middle] + side[0] for side in (along_u, along_v)]
    assert bends[0] > bends[1] > 0


def test_a_wider_span_shows_more():
    survey = trained()
    spans = {}
    for directions in ("random", "path", "Hessian"):
        for span in (1.0, 2.0):
            survey.look(Options(directions, span=span))
            spans[span] = np.ptp(sights(survey)[-1].plane.alpha)
        assert spans[2.0] == pytest.approx(2 * spans[1.0], rel=1e-3)


def test_few_places_are_kept_the_first_among_them_and_the_path_stays_whole():
    survey = trained(steps=400, every=1)
    assert len(survey.steps) == KEPT and survey.steps[0] == 0 and survey.steps == sorted(set(survey.steps))
    every = [np.linalg.norm(b - a) for a, b in zip(survey._weights, survey._weights[1:], strict=False)]
    assert max(every) < 6 * np.median(every)  # the fast beginning is not skipped


def test_somebody_who_waits_interrupts_the_search_for_eigenvectors():
    asked = iter([False] * 6)  # nobody waits during the first products
    survey = trained(interrupted=lambda: next(asked, True))
    survey.look(Options("Hessian"))
    assert survey.advance(True) is None and survey.due(True) and not survey.busy
    assert next(asked, None) is None
    survey._interrupted = patient
    assert len(sights(survey)[-1].plane.alpha) == POINTS


def test_while_training_a_slow_search_is_not_repeated(monkeypatch):
    survey = trained()
    survey.look(Options("Hessian"))
    monkeypatch.setattr("labkit.lab.background.PATIENCE", 0.0)  # every search is slow
    assert sights(survey, at_rest=False)[-1].note == ""
    first = survey._top
    survey.trainer.advance(100)
    sight = sights(survey, at_rest=False)[-1]
    assert survey._top is first and "those of step 200" in sight.note and sight.step == 300
    assert sights(survey, at_rest=True)[-1].note == "" and survey._top is not first


def test_training_is_the_same_with_and_without_somebody_looking():
    survey = LandscapeWorker(Trainer(SPEC), patient)
    for k in range(20):
        survey.trainer.advance(20)
        survey.keep()
        survey.look(Options(("random", "path", "Hessian")[k % 3], seed=k))
        survey.advance(False)
        survey.advance(False)
    alone = Trainer(SPEC)
    alone.advance(400)
    assert torch.equal(survey.trainer.loss_of(), alone.loss_of())
    assert torch.equal(survey.trainer.theta_of(), alone.theta_of())


@pytest.mark.parametrize(
    "changes", [{"residual": True, "depth": 3}, {"dataset": "bumps", "loss": "huber"}, {"depth": 0}]
)
def test_other_networks_are_looked_at_too(changes):
    survey = trained(steps=50, spec=SPEC.but(**changes))
    plane = sights(survey)[-1].plane
    assert plane.loss[POINTS // 2, POINTS // 2] == pytest.approx(loss_now(survey.trainer), rel=1e-5)


def test_a_diverged_run_is_looked_at_where_its_loss_was_last_finite():
    spec = Spec(dataset="plane", loss="mse", depth=0, optimizer="sgd", lr=1e6, samples=100, batch_size=16, steps=300)
    survey = trained(steps=300, spec=spec)
    assert survey.trainer.diverged[0] is not None
    assert np.isfinite(sights(survey)[-1].plane.loss).any()
