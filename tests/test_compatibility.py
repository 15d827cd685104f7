"""Runs, planes and share strings of commit 620a7d4 can still be used (fixtures/620a7d4/make.py)."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import labkit
from labkit.storage import tensor_folder

OLD = Path(__file__).parent / "fixtures" / "620a7d4"


def module():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Dropout(0.2), nn.Linear(4, 2))


@pytest.mark.parametrize("name", ["run", "run_of_a_model"])
def test_a_run_has_the_numbers_that_were_saved(name):
    saved, facts = tensor_folder.read(OLD / name, "run")
    run = labkit.load_run(OLD / name, model=module() if "model" in name else None)
    assert run.steps == facts["spec"]["steps"] and run.spec.samples == 24 and run.diverged is None
    for part in ("loss", "test_step", "test_loss", "score"):
        assert np.array_equal(getattr(run, part), saved[f"history.{part}"].numpy(), equal_nan=True)
    for part, model in (("final", run.model()), ("initial", run.initial_model())):
        assert all(torch.equal(value, saved[f"{part}.{key}"]) for key, value in model.state_dict().items())
    if "model" not in name:
        tested = run.loss_fn(run.model()(run.data.x_test), run.data.y_test)
        assert tested.item() == pytest.approx(run.test_loss[-1], rel=1e-4)
        assert torch.equal(run.path.weights, saved["path.weights"]) and run.path.steps.tolist() == [0, 100, 200]


def test_a_plane_is_that_of_its_run():
    plane, run = labkit.load_plane(OLD / "plane"), labkit.load_run(OLD / "run")
    u, v = labkit.random_directions(run.model(), seed=0, normalize="filter")
    again = labkit.plane(run.model(), run.loss_fn, run.data.x_train, run.data.y_train, u, v, points=5)
    assert plane.done and plane.loss.shape == (5, 5)
    np.testing.assert_allclose(plane.loss, again.loss, rtol=1e-4)


def test_a_share_string_is_still_the_spec_that_it_was():
    lines = (OLD / "share.txt").read_text().splitlines()
    assert len(lines) == 5
    for line in lines:
        text, code = line.split(" ", 1)
        assert labkit.Spec.from_share(text) == eval(code, {"labkit": labkit})
