"""Runs, planes, checkpoints and share strings of commit 620a7d4 can still be used (fixtures/620a7d4/make.py)."""

import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from killed import numbers
from torch import nn

import labkit
from labkit.core.trainer import Trainer
from labkit.storage import tensor_folder

OLD = Path(__file__).parent / "fixtures" / "620a7d4"
CORNERS = [(a, b) for a in (-1.0, 1.0) for b in (-1.0, 1.0)] * 4
DATA = (CORNERS, [float(a * b > 0) for a, b in CORNERS])
SPEC = labkit.Spec(samples=24, width=4, depth=1, batch_size=8, steps=300, train_share=1.0, device="cpu")
MADE = 170  # steps before a checkpoint was written


def module():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Dropout(0.2), nn.Linear(4, 2))


TRAININGS = {
    "ensemble": (
        [SPEC.but(loss="mse", optimizer="momentum", lr=lr, seed=seed) for seed, lr in enumerate((0.01, 1e9))],
        {"snapshots": 4, "lr_changes": [(100, 0.005)]},
    ),
    "module": (SPEC, {"model": module()}),
    "rmsprop": (SPEC.but(optimizer="rmsprop"), {}),
}


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


@pytest.mark.parametrize("name", TRAININGS)
def test_a_checkpoint_goes_on_to_the_numbers_of_an_uninterrupted_training(name, tmp_path, monkeypatch):
    restored, real = [], Trainer.restore
    monkeypatch.setattr(Trainer, "restore", lambda self, *a: (real(self, *a), restored.append(self.step)))
    shutil.copytree(OLD / f"checkpoints_{name}", tmp_path / "copy")
    (step,) = (tmp_path / "copy").glob("*/step-*")
    saved, _ = tensor_folder.read(step, "checkpoint")
    spec, given = TRAININGS[name]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* not the same to the last bit")  # another version of torch
        went_on = labkit.train(spec, data=DATA, checkpoint=tmp_path / "copy", **given)
    whole = labkit.train(spec, data=DATA, **given)
    one, other = (runs[0] if isinstance(runs, list) else runs for runs in (went_on, whole))
    assert restored == [MADE]
    np.testing.assert_array_equal(one.loss[:MADE], saved["losses"][:, 0])
    if np.array_equal(other.loss[:MADE], saved["losses"][:, 0]):  # this processor rounds as that one did
        assert numbers(went_on) == numbers(whole)
    np.testing.assert_allclose(one.loss, other.loss, rtol=1e-3)


def test_a_share_string_is_still_the_spec_that_it_was():
    lines = (OLD / "share.txt").read_text().splitlines()
    assert len(lines) == 5
    for line in lines:
        text, code = line.split(" ", 1)
        assert labkit.Spec.from_share(text) == eval(code, {"labkit": labkit})
