"""Checkpoints: training killed anywhere goes on to the same numbers, and nothing damaged is ever loaded."""

import random
import shutil
import warnings

import killed
import mutated
import pytest
import torch
from torch import nn

import labkit
from labkit.core import checkpoints, kernel_stepper
from labkit.core.kernel_stepper import KernelStepper
from labkit.core.trainer import Trainer
from labkit.storage import atomic, tensor_folder


@pytest.fixture
def often(monkeypatch):
    """A checkpoint after every block of steps."""
    monkeypatch.setattr(checkpoints, "PAUSE", 0.0)
    monkeypatch.setattr(checkpoints, "SHARE", float("inf"))
    monkeypatch.setattr(kernel_stepper, "CHUNK_WORK", killed.CHUNK_WORK)


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def steps_in(folder):
    return sorted(int(path.name[5:]) for path in folder.glob("*/step-*"))


@pytest.mark.parametrize("case", killed.cases())
def test_a_training_killed_at_a_step_goes_on_to_the_same_numbers(case, tmp_path):
    whole = killed.numbers(killed.train(case))
    killed.kill(case, tmp_path, killed.AT_STEP.format(step=random.Random(case).randrange(200, 1400)))
    assert killed.numbers(killed.train(case, tmp_path, weights=1)) == whole
    assert killed.numbers(killed.train(case, tmp_path, weights=2)) == whole  # all is done: it is read back


def test_a_training_killed_while_it_writes_goes_on_from_the_checkpoint_before(tmp_path):
    killed.kill("adam", tmp_path, killed.WHILE_WRITING.format(writes=6))
    assert steps_in(tmp_path) == [256, 320] and list(tmp_path.glob("*/.step-*"))
    assert killed.numbers(killed.train("adam", tmp_path)) == killed.numbers(killed.train("adam"))
    assert not list(tmp_path.glob("*/.step-*"))


def test_trainers_go_on_from_any_step(tmp_path):
    spec = labkit.Spec(steps=500, device="cpu")
    for step in (1, 63, 64, 65, 200, 499):
        first, second = Trainer(spec), Trainer(spec)
        first.advance(step)
        tensor_folder.write(tmp_path / "state", "state", *first.state())
        first.advance(500)
        second.restore(*tensor_folder.read(tmp_path / "state", "state"))
        assert second.step == step
        second.advance(500)
        assert torch.equal(first.theta, second.theta)
        assert torch.equal(first.loss_of(), second.loss_of())


def test_the_last_two_are_kept_and_a_folder_takes_many_trainings(often, tmp_path):
    spec = labkit.Spec(steps=300, device="cpu")
    for lr in (0.01, 0.02):
        labkit.train(spec.but(lr=lr), checkpoint=tmp_path)
    assert steps_in(tmp_path) == [256, 256, 300, 300]


def test_more_steps_train_on(often, tmp_path, monkeypatch):
    short, long = labkit.Spec(steps=300, device="cpu"), labkit.Spec(steps=700, device="cpu")
    labkit.train(short, checkpoint=tmp_path)
    whole, made = killed.numbers(labkit.train(long)), []
    real = KernelStepper.advance

    def advance(self, stop):
        losses = real(self, stop)
        made.append(len(losses))
        return losses

    monkeypatch.setattr(KernelStepper, "advance", advance)
    assert killed.numbers(labkit.train(long, checkpoint=tmp_path)) == whole and sum(made) == 400
    assert killed.numbers(labkit.train(short, checkpoint=tmp_path)) == killed.numbers(labkit.train(short))


def test_other_data_of_ones_own_are_another_training(often, tmp_path):
    spec, x = labkit.Spec(steps=100, device="cpu"), torch.randn(80, 2).numpy()
    for sign in (1, -1):
        y = sign * x[:, 0] > 0
        got, alone = labkit.train(spec, data=(x, y), checkpoint=tmp_path), labkit.train(spec, data=(x, y))
        assert killed.numbers(got) == killed.numbers(alone)
    assert len(list(tmp_path.glob("*/"))) == 2


def test_another_model_of_ones_own_is_another_training(often, tmp_path):
    spec = labkit.Spec(steps=100, device="cpu")
    for width in (4, 5):
        labkit.train(
            spec, model=nn.Sequential(nn.Linear(2, width), nn.Tanh(), nn.Linear(width, 2)), checkpoint=tmp_path
        )
    assert steps_in(tmp_path) == [64, 64, 100, 100]


def test_two_processes_do_not_train_the_same(often, tmp_path):
    spec = labkit.Spec(steps=100, device="cpu")
    with (
        checkpoints.checkpointing(tmp_path, Trainer(spec)),
        pytest.raises(atomic.OutputLocked, match="is being written by process"),
    ):
        labkit.train(spec, checkpoint=tmp_path)


def test_another_machine_is_named_where_it_matters(often, tmp_path, monkeypatch):
    spec, model = labkit.Spec(steps=100, device="cpu"), nn.Linear(2, 2)
    labkit.train(spec, checkpoint=tmp_path / "kernel")
    labkit.train(spec, model=model, checkpoint=tmp_path / "torch")
    monkeypatch.setattr(torch, "__version__", "3.0")
    labkit.train(spec, checkpoint=tmp_path / "kernel")  # the same bits on every machine: nothing to warn of
    with pytest.warns(UserWarning, match="and going on with 3.0, cpu, .* threads: not the same to the last bit"):
        labkit.train(spec, model=model, checkpoint=tmp_path / "torch")


def test_a_trainer_that_refuses_a_state_is_as_it_was():
    spec = labkit.Spec(steps=100, device="cpu")
    trainer, other = Trainer(spec), Trainer(spec.but(width=4))
    other.advance(10)
    with pytest.raises(ValueError, match="another architecture's"):
        trainer.restore(*other.state())
    trainer.advance(100)
    assert torch.equal(trainer.loss_of(), torch.as_tensor(labkit.train(spec).loss))


# Nothing damaged is loaded


def kept_in(folder):
    """A spec, its checkpoints after a whole training, and its numbers."""
    spec = labkit.Spec(steps=200, width=4, depth=1, device="cpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints, "PAUSE", 0.0)
        patch.setattr(checkpoints, "SHARE", float("inf"))
        patch.setattr(kernel_stepper, "CHUNK_WORK", 1.6e5)  # 64 steps, so that there is more than one
        run = labkit.train(spec, checkpoint=folder)
    run.save(folder / "run")
    return spec, folder, killed.numbers(run)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return kept_in(tmp_path_factory.mktemp("kept"))


def mutate(kept, place, number):
    """Damage a copy of the newest checkpoint, or of both, and train; return the warnings."""
    spec, folder, whole = kept
    rng, mark = random.Random(number), place / "code was run"
    shutil.copytree(folder, place / "copy")
    (home,) = (place / "copy").glob("*/step-*200")
    both = rng.random() < 0.2
    for step in sorted(home.parent.glob("step-*"))[-1 - both :]:
        mutated.KINDS[number % len(mutated.KINDS)](step, rng, mark)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert killed.numbers(labkit.train(spec, checkpoint=place / "copy")) == whole
    assert not mark.exists()
    assert [str(each.message).startswith("Refused: ") for each in said] == [True] * (1 + both)
    assert len(list(home.parent.glob("refused-*"))) == 1 + both  # nothing is thrown away
    assert home.exists()


@pytest.mark.parametrize("number", range(64))
def test_a_damaged_checkpoint_is_refused_and_the_one_before_is_used(number, kept, tmp_path):
    mutate(kept, tmp_path, number)


@pytest.mark.parametrize("number", range(64))
def test_a_damaged_run_is_refused(number, kept, tmp_path):
    rng, mark, copy = random.Random(number), tmp_path / "code was run", tmp_path / "run"
    shutil.copytree(kept[1] / "run", copy)
    mutated.KINDS[number % len(mutated.KINDS)](copy, rng, mark)
    with pytest.raises(ValueError):
        labkit.load_run(copy)
    assert not mark.exists()


def test_a_refusal_says_why_and_where_the_refused_one_lies(kept, tmp_path):
    spec, folder, _ = kept
    shutil.copytree(folder, tmp_path / "copy")
    (newest,) = (tmp_path / "copy").glob("*/step-*200")
    raw = (newest / "checkpoint.safetensors").read_bytes()
    (newest / "checkpoint.safetensors").write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    with pytest.warns(UserWarning, match="Refused: .* its checksum differs.* It lies in .*refused-.*; the one before"):
        labkit.train(spec, checkpoint=tmp_path / "copy")
