"""`Run` and `train`: what the contract promises, field by field; and a saved run comes back whole or not at all."""

import dataclasses
import json
import os
import random
import shutil

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

import labkit
from labkit.core import devices, memory, runs
from labkit.core.costs import data_bytes
from labkit.core.network import Residual
from labkit.core.spec import Spec
from labkit.storage import tensor_folder

SMALL = Spec(samples=60, width=6, depth=2, batch_size=16, steps=40)
REGRESSION = SMALL.but(dataset="bumps", loss="mse")


@pytest.fixture(scope="module")
def run():
    return labkit.train(SMALL, snapshots=5)


@pytest.fixture(scope="module")
def regression():
    return labkit.train(REGRESSION.but(steps=300, lr=0.03))


def flat(model):
    return nn.utils.parameters_to_vector(model.parameters()).detach()


# The contract, field by field


def test_a_run_holds_what_the_contract_promises(run):
    assert run.spec == SMALL and run.diverged is None and run.where in ("cpu", "cuda", "mps")
    assert 0 < run.seconds < 10
    assert isinstance(run.loss, np.ndarray) and run.loss.shape == (40,) and np.isfinite(run.loss).all()
    assert run.steps == 40
    for history in (run.test_step, run.test_loss, run.score):
        assert isinstance(history, np.ndarray) and len(history) == len(run.test_step)
    assert run.test_step[0] == 0 and run.test_step[-1] == 40 and (np.diff(run.test_step) > 0).all()
    assert (run.score >= 0).all() and (run.score <= 1).all() and run.score_name == "test accuracy"
    assert run.lr_changes == ()


def test_the_data_of_a_run_are_cpu_tensors_as_the_network_sees_them(run):
    parts = [run.data.x_train, run.data.y_train, run.data.x_test, run.data.y_test]
    assert [tuple(part.shape) for part in parts] == [(48, 2), (48,), (12, 2), (12,)]
    assert all(part.device.type == "cpu" and not part.is_inference() for part in parts)


def test_models_are_plain_modules_on_the_cpu_and_copies(run):
    for make in (run.model, run.initial_model):
        model = make()
        assert [type(layer) for layer in model] == [nn.Linear, nn.Tanh, nn.Linear, nn.Tanh, nn.Linear]
        assert all(p.device.type == "cpu" and p.requires_grad and not p.is_inference() for p in model.parameters())
        with torch.no_grad():
            model[0].weight.zero_()
        assert make()[0].weight.abs().sum() > 0
    assert not torch.equal(flat(run.model()), flat(run.initial_model()))


def test_a_model_can_be_trained_on(run):
    model = run.model()
    loss = run.loss_fn(model(run.data.x_train), run.data.y_train)
    loss.backward()
    assert all(p.grad is not None for p in model.parameters())


def test_the_first_loss_is_that_of_the_first_model():
    run = labkit.train(REGRESSION.but(batch_size=0))
    with torch.no_grad():
        first = run.loss_fn(run.initial_model()(run.data.x_train), run.data.y_train).item()
        last = run.loss_fn(run.model()(run.data.x_train), run.data.y_train).item()
    assert run.loss[0] == pytest.approx(first, rel=1e-5)
    assert last == pytest.approx(run.loss[-1], rel=0.1) and last != pytest.approx(run.loss[-1], rel=1e-6)


@pytest.mark.parametrize(
    ("loss", "plain"), [("mse", "mse_loss"), ("huber", "huber_loss"), ("cross_entropy", "cross_entropy")]
)
def test_the_loss_function_is_that_of_torch(loss, plain):
    run = labkit.train(SMALL.but(loss=loss, huber_delta=0.3, steps=1))
    prediction = run.model()(run.data.x_test)
    more = {"delta": 0.3} if loss == "huber" else {}
    theirs = getattr(nn.functional, plain)(prediction, run.data.y_test, **more)
    ours = run.loss_fn(prediction, run.data.y_test)
    assert ours.ndim == 0 and torch.equal(ours, theirs)


def test_a_residual_run_gives_a_module_that_answers_the_same(run):
    spec = SMALL.but(residual=True, depth=3)
    residual = labkit.train(spec)
    assert any(isinstance(layer, Residual) for layer in residual.model())
    with torch.no_grad():
        prediction = residual.model()(residual.data.x_test)
    assert residual.test_loss[-1] == pytest.approx(residual.loss_fn(prediction, residual.data.y_test).item(), rel=1e-5)


def test_the_path_is_in_the_order_of_the_model(run):
    assert run.path.steps.tolist() == [0, 10, 20, 30, 40]
    assert run.path.weights.shape == (5, len(flat(run.model())))
    assert torch.equal(run.path.weights[0], flat(run.initial_model()))
    assert torch.equal(run.path.weights[-1], flat(run.model()))
    assert not run.path.weights.is_inference()
    assert repr(run.path) == f"WeightPath: 5 points in a space of {len(flat(run.model())):,} weights"
    assert labkit.train(SMALL).path is None


def test_without_a_test_set_the_score_is_that_of_training():
    run = labkit.train(Spec(dataset="chebyshev", loss="mse", batch_size=0, steps=20))
    assert np.isnan(run.test_loss).all() and np.isfinite(run.score).all()
    assert run.score_name == "training R²" and "nan" not in repr(run)


def test_the_score_of_a_regression_is_r_squared(regression):
    y, answer = regression.data.y_test, regression.model()(regression.data.x_test).detach()
    expected = 1 - ((answer - y) ** 2).sum() / ((y - y.mean()) ** 2).sum()
    assert regression.score[-1] == pytest.approx(expected.item(), abs=1e-4)
    assert regression.score_name == "test R²"


def test_repr_is_one_line_with_the_result(run):
    assert repr(run).startswith(
        f"Run: test loss {run.test_loss[-1]:.4g}, test accuracy {run.score[-1]:.3f} after 40 steps"
    )
    assert "\n" not in repr(run)
    broken = labkit.train(REGRESSION.but(depth=0, optimizer="sgd", lr=50.0))
    assert repr(broken).startswith(f"Run: diverged at step {broken.diverged}, last finite loss")
    assert broken.divergence().endswith("try a smaller lr") and run.divergence() == ""


def test_the_first_step_is_taken_at_the_first_look():
    with_one = labkit.train(SMALL.but(steps=1))
    assert with_one.test_step.tolist() == [0, 1] and len(with_one.loss) == 1


# Answers to raw inputs


def test_predict_on_raw_inputs_is_the_model_on_scaled_ones(run):
    raw = run.data.raw(run.data.x_test)
    answer = run.predict(raw.numpy())
    assert isinstance(answer, np.ndarray) and answer.shape == (12, 2)
    np.testing.assert_allclose(answer, run.model()(run.data.x_test).detach(), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(run.predict(raw.tolist()), run.predict(raw))


def test_predict_answers_a_regression_in_raw_units():
    rng = np.random.default_rng(0)
    x = rng.normal(50, 9, (200, 1))
    y = 1000 + 30 * x[:, 0]
    run = labkit.train(REGRESSION.but(depth=0, lr=0.05, steps=400), data=(x, y))
    np.testing.assert_allclose(run.predict(x)[:, 0], y, rtol=0.01)
    assert run.predict(x).shape == (200, 1) and run.score[-1] > 0.99


@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_classify_answers_with_the_labels_of_the_person(loss):
    x = np.repeat([[-3.0, 0.0], [3.0, 1.0]], 30, 0) + np.random.default_rng(0).normal(0, 0.1, (60, 2))
    y = np.repeat([7, 3], 30)
    run = labkit.train(SMALL.but(loss=loss, lr=0.05, steps=100), data=(x, y))
    assert run.data.labels == (3.0, 7.0)
    np.testing.assert_array_equal(run.classify(x), y)


def test_classify_agrees_with_the_score(run):
    right = run.classify(run.data.raw(run.data.x_test)) == run.data.y_test.numpy()
    assert run.score[-1] == pytest.approx(right.mean())


def test_classify_of_a_regression_says_what_to_use(regression):
    with pytest.raises(ValueError, match=r"bumps is a regression and has no classes; use run.predict"):
        regression.classify([[0, 0]])


@pytest.mark.parametrize("x", [[[1.0, 2, 3]], [1.0, 2.0], 5, np.zeros((3, 2, 1)), []], ids=repr)
def test_inputs_of_another_width_are_refused(run, x):
    with pytest.raises(ValueError, match=r"this run takes \(N, 2\)"):
        run.predict(x)


# User-supplied modules


class Convolution(nn.Module):
    """Reads the 64 pixels of a digit as an image."""

    def __init__(self):
        super().__init__()
        self.look = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))

    def forward(self, x):
        return self.look(x.view(-1, 1, 8, 8))


def seeded(make):
    torch.manual_seed(0)
    return make()


def with_batch_norm():
    return seeded(lambda: nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2)))


def test_a_convolution_learns_the_digits():
    spec = SMALL.but(dataset="digits", lr=0.01, batch_size=50, steps=60)
    run = labkit.train(spec, model=seeded(Convolution))
    assert run.score[-1] > 0.8 > run.score[0]
    assert isinstance(run.model(), Convolution)


@pytest.mark.parametrize("mode", [True, False])
def test_the_module_of_the_caller_is_left_as_it_was(mode):
    module = with_batch_norm().train(mode)
    module(torch.ones(4, 2)).sum().backward()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    gradients = [p.grad.clone() for p in module.parameters()]
    run = labkit.train(SMALL, model=module)
    assert module.training is mode
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert all(torch.equal(p.grad, gradient) for p, gradient in zip(module.parameters(), gradients, strict=True))
    assert run.model().training is mode and not torch.equal(flat(run.model()), flat(module))
    assert torch.equal(flat(run.initial_model()), flat(module))


def test_batch_norm_is_used_in_eval_mode_to_predict_and_keeps_its_statistics():
    run = labkit.train(SMALL, model=with_batch_norm())
    raw = run.data.raw(run.data.x_test).numpy()
    one_by_one = np.concatenate([run.predict(raw[place : place + 1]) for place in range(len(raw))])
    np.testing.assert_allclose(run.predict(raw), one_by_one, rtol=1e-4, atol=1e-5)
    right = run.classify(raw) == run.data.y_test.numpy()
    assert run.score[-1] == pytest.approx(right.mean())
    assert run.model()[1].num_batches_tracked == 40
    assert not torch.equal(run.model()[1].running_mean, torch.zeros(8))


def test_the_same_network_as_a_module_learns_the_same():
    ours = labkit.train(SMALL)
    theirs = labkit.train(SMALL, model=ours.initial_model(), snapshots=3)
    np.testing.assert_allclose(theirs.loss, ours.loss, rtol=1e-4)
    np.testing.assert_allclose(theirs.test_loss, ours.test_loss, rtol=1e-3)
    assert torch.equal(theirs.path.weights[-1], flat(theirs.model()))


def test_a_frozen_part_of_a_module_stays_frozen():
    module = with_batch_norm()
    module[0].requires_grad_(False)
    run = labkit.train(SMALL, model=module)
    assert torch.equal(run.model()[0].weight, module[0].weight)
    assert not torch.equal(run.model()[3].weight, module[3].weight)


def test_a_module_with_another_number_of_answers_is_refused():
    with pytest.raises(ValueError, match=r"the model answers with shape \(12, 3\) where the targets need \(12, 2\)"):
        labkit.train(SMALL, model=nn.Linear(2, 3))
    for flat_or_wide in (nn.Sequential(nn.Linear(2, 1), nn.Flatten(0)), nn.Linear(2, 3)):
        with pytest.raises(ValueError, match="the model answers with shape"):
            labkit.train(REGRESSION, model=flat_or_wide)
    with pytest.raises(ValueError, match="no parameters to train"):
        labkit.train(SMALL, model=nn.Flatten())


def test_a_module_whose_first_loss_is_not_finite_diverges_at_step_0():
    module = nn.Linear(2, 2)
    nn.init.constant_(module.weight, float("nan"))
    run = labkit.train(SMALL, model=module)
    assert (run.diverged, len(run.loss)) == (0, 0)


def test_a_module_that_diverges_keeps_its_last_finite_weights():
    spec = REGRESSION.but(depth=0, optimizer="sgd", lr=50.0)
    run = labkit.train(spec, model=seeded(lambda: nn.Linear(2, 1)))
    before = labkit.train(spec.but(steps=run.diverged - 1), model=seeded(lambda: nn.Linear(2, 1)))
    assert 2 < run.diverged < 40 and len(run.loss) == run.diverged
    assert torch.equal(flat(run.model()), flat(before.model()))


# Lists


def test_a_list_comes_back_in_its_order():
    specs = [SMALL.but(width=width, lr=lr, seed=seed) for width in (4, 6) for lr in (0.1, 0.01) for seed in (0, 1)] + [
        REGRESSION
    ]
    random.Random(0).shuffle(specs)
    together = labkit.train(specs)
    assert [run.spec for run in together] == specs
    for run, spec in zip(together, specs, strict=True):
        np.testing.assert_allclose(run.loss, labkit.train(spec).loss, rtol=1e-4)
    assert labkit.train([]) == []
    assert [type(each) for each in labkit.train([SMALL])] == [labkit.Run]
    assert [each.spec for each in labkit.train(spec for spec in specs[:2])] == specs[:2]


def test_a_list_too_big_for_one_ensemble_is_parted(monkeypatch):
    made = []
    inner = runs.Trainer
    monkeypatch.setattr(runs, "Trainer", lambda specs, **own: (made.append(len(specs)), inner(specs, **own))[1])
    each = labkit.cost(SMALL).bytes_training + memory.DATA_COPIES * data_bytes(SMALL)
    monkeypatch.setattr(devices, "free_bytes", lambda device: 4 * 3 * each)
    specs = [SMALL.but(seed=seed) for seed in range(8)]
    assert [run.spec for run in labkit.train(specs)] == specs
    assert made == [3, 3, 2]


def test_modules_in_a_list_are_trained_one_by_one():
    specs = [SMALL.but(lr=lr) for lr in (0.1, 0.01)]
    many = labkit.train(specs, model=with_batch_norm())
    for run, spec in zip(many, specs, strict=True):
        np.testing.assert_array_equal(run.loss, labkit.train(spec, model=with_batch_norm()).loss)


@pytest.mark.parametrize(
    "wrong", [None, 5, "spiral", {"depth": 3}, [SMALL, None], [[SMALL]], Spec, object()], ids=range(8)
)
def test_what_is_no_spec_is_refused(wrong):
    with pytest.raises(ValueError, match=r"train takes a Spec or a list of them, not .+ Write labkit.Spec\(…\)."):
        labkit.train(wrong)


def test_every_spec_of_a_list_is_looked_at_before_the_first_is_trained(monkeypatch):
    monkeypatch.setattr(runs, "Trainer", lambda *_, **__: pytest.fail("training began"))
    with pytest.raises(ValueError, match="train takes"):
        labkit.train([SMALL, SMALL, "spiral"])
    with pytest.raises(ValueError, match="lr=-1"):
        labkit.train(SMALL, lr_changes=[(5, 0.1), (9, -1)])


# The recipe


@pytest.mark.parametrize("lr_changes", [[], [(0, 0.5), (7, 0.1), (33, 0.001)]])
def test_the_code_of_a_run_makes_it_again(lr_changes):
    run = labkit.train(SMALL, lr_changes=lr_changes)
    names = {}
    exec(run.code(), names)
    np.testing.assert_array_equal(names["run"].loss, run.loss)
    assert torch.equal(flat(names["run"].model()), flat(run.model()))
    assert names["run"].lr_changes == run.lr_changes == tuple(lr_changes)


# Saved and loaded


def check_same(a, b):
    assert (a.spec, a.seconds, a.diverged, a.where, a.lr_changes) == (
        b.spec,
        b.seconds,
        b.diverged,
        b.where,
        b.lr_changes,
    )
    for name in ("loss", "test_step", "test_loss", "score"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
        assert getattr(a, name).dtype == getattr(b, name).dtype
    for ours, theirs in ((a.model(), b.model()), (a.initial_model(), b.initial_model())):
        assert repr(ours) == repr(theirs)
        states = ours.state_dict(), theirs.state_dict()
        assert list(states[0]) == list(states[1])
        assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    for each in dataclasses.fields(a.data):
        ours, theirs = getattr(a.data, each.name), getattr(b.data, each.name)
        assert torch.equal(ours, theirs) if isinstance(ours, torch.Tensor) else ours == theirs
    assert (a.path is None) == (b.path is None)
    if a.path:
        assert np.array_equal(a.path.steps, b.path.steps) and torch.equal(a.path.weights, b.path.weights)
    raw = a.data.raw(a.data.x_train)
    np.testing.assert_array_equal(a.predict(raw), b.predict(raw))


@pytest.mark.parametrize(
    "spec",
    [
        SMALL,
        REGRESSION,
        SMALL.but(residual=True, depth=3, shape="funnel", width=8),
        SMALL.but(depth=0),
        SMALL.but(dataset="digits"),
        Spec(dataset="chebyshev", loss="mse", batch_size=0, steps=9),
        REGRESSION.but(depth=0, optimizer="sgd", lr=50.0),
    ],
    ids=repr,
)
def test_a_saved_run_comes_back_the_same(tmp_path, spec):
    run = labkit.train(spec, snapshots=4, lr_changes=[(3, spec.lr)])
    folder = run.save(tmp_path / "new" / "my run 数据")
    assert sorted(path.name for path in folder.iterdir()) == ["run.json", "run.safetensors"]
    check_same(run, labkit.load_run(folder))
    check_same(run, labkit.load_run(str(folder)))
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_run_of_own_data_comes_back_with_its_labels(tmp_path):
    rng = np.random.default_rng(0)
    for y in (rng.integers(0, 3, 60) * 2 + 5, rng.normal(50, 9, 60)):
        run = labkit.train(SMALL.but(loss="mse"), data=(rng.normal(size=(60, 4)), y))
        check_same(run, labkit.load_run(run.save(tmp_path / "run")))


def test_a_run_of_a_table_comes_back_where_the_table_is_gone(tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("\n".join(f"{row},{row % 3},{row % 2}" for row in range(30)))
    run = labkit.train(SMALL.but(dataset=f"csv:{table}"))
    folder = run.save(tmp_path / "run")
    check_same(run, labkit.load_run(folder))
    table.unlink()
    check_same(run, labkit.load_run(folder))


def test_a_run_of_an_own_module_asks_for_one_like_it(tmp_path):
    run = labkit.train(SMALL, model=with_batch_norm(), snapshots=2)
    folder = run.save(tmp_path / "run")
    other = with_batch_norm()
    check_same(run, labkit.load_run(folder, model=other))
    assert torch.equal(flat(other), flat(run.initial_model()))
    for wrong in (None, nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 9), nn.BatchNorm1d(9), nn.ReLU(), nn.Linear(9, 2))):
        with pytest.raises(ValueError, match=r"this run is of a model of its own: load_run\(folder, model=…\)"):
            labkit.load_run(folder, model=wrong)


def test_an_own_module_with_the_names_of_ours_is_not_taken_for_it(tmp_path):
    layers = [nn.Linear(2, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 2)]
    run = labkit.train(SMALL, model=nn.Sequential(*layers))
    folder = run.save(tmp_path / "run")
    with pytest.raises(ValueError, match="this run is of a model of its own"):
        labkit.load_run(folder)  # the spec says tanh
    check_same(run, labkit.load_run(folder, model=nn.Sequential(*layers)))


@pytest.fixture
def saved(run, tmp_path):
    return run.save(tmp_path / "run")


def refused(folder):
    with pytest.raises(ValueError) as said:
        labkit.load_run(folder)
    assert str(folder) in str(said.value) and "\n" not in str(said.value)
    return str(said.value)


@pytest.mark.parametrize("name", ["run.json", "run.safetensors"])
def test_a_flipped_byte_is_never_loaded(saved, name):
    whole = (saved / name).read_bytes()
    rng = random.Random(0)
    for place in rng.sample(range(len(whole)), 60):
        flipped = bytearray(whole)
        flipped[place] ^= rng.choice([1, 2, 4, 16, 64, 128])
        (saved / name).write_bytes(flipped)
        assert "cannot be read" in refused(saved)
    (saved / name).write_bytes(whole)
    assert labkit.load_run(saved).spec == SMALL


@pytest.mark.parametrize("name", ["run.json", "run.safetensors"])
def test_a_truncated_file_is_never_loaded(saved, name):
    whole = (saved / name).read_bytes()
    for length in [0, 1, 8, 9, len(whole) // 2, len(whole) - 1]:
        (saved / name).write_bytes(whole[:length])
        assert "cannot be read" in refused(saved)
    (saved / name).write_bytes(whole + b"x")
    assert "cannot be read" in refused(saved)


def test_files_of_two_runs_are_never_loaded_together(saved, tmp_path):
    other = labkit.train(SMALL.but(seed=1)).save(tmp_path / "other")
    shutil.copy(other / "run.safetensors", saved)
    assert "checksum" in refused(saved)


@pytest.mark.parametrize("name", ["run.json", "run.safetensors"])
def test_a_missing_file_is_named(saved, name):
    (saved / name).unlink()
    assert name in refused(saved) and "holds no saved run" in refused(saved)


def test_what_is_no_saved_run_is_refused(saved, tmp_path):
    refused(tmp_path)
    refused(tmp_path / "nothing")
    refused(saved / "run.json")
    for text in (
        "[]",
        "{}",
        "3",
        '"a"',
        "null",
        "[" * 100_000,
        '{"format": 1}',
        '{"sha256": 5, "format": 1}',
        "not json",
    ):
        (saved / "run.json").write_text(text)
        assert "cannot be read" in refused(saved)


def test_a_run_of_a_later_format_is_refused_as_such(run, tmp_path, monkeypatch):
    monkeypatch.setattr(tensor_folder, "FORMAT", 99)
    folder = run.save(tmp_path / "run")
    monkeypatch.undo()
    assert "format 99" in refused(folder)


def test_saved_json_says_what_it_is(saved):
    facts = json.loads((saved / "run.json").read_text())
    assert facts["spec"] == json.loads(json.dumps(dataclasses.asdict(SMALL))) and facts["torch"] == torch.__version__


def test_saving_again_takes_the_place_of_the_earlier_run(saved, tmp_path):
    other = labkit.train(SMALL.but(seed=1))
    other.save(saved)
    check_same(other, labkit.load_run(saved))
    assert os.listdir(tmp_path) == ["run"]


@pytest.mark.parametrize("content", ["notes.txt", "run.json and notes.txt", "a file"])
def test_saving_over_something_else_is_refused_and_nothing_is_lost(run, tmp_path, content):
    folder = tmp_path / "precious"
    if content == "a file":
        folder.write_text("mine")
    else:
        folder.mkdir()
        for name in content.split(" and "):
            (folder / name).write_text("mine")
    with pytest.raises(FileExistsError, match=r"holds something else than a run\. Choose another folder"):
        run.save(folder)
    kept = [folder] if folder.is_file() else sorted(folder.iterdir())
    assert [path.read_text() for path in kept] == ["mine"] * len(kept) and kept
    assert os.listdir(tmp_path) == ["precious"]


def test_an_empty_folder_may_be_saved_to(run, tmp_path):
    check_same(run, labkit.load_run(run.save(tmp_path)))


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("at", ["save_file", "first replace", "second replace", "write_text"])
def test_an_interrupted_save_leaves_the_earlier_run_whole(run, saved, tmp_path, monkeypatch, at, error):
    calls = []

    def stop(*args, **kwargs):
        calls.append(args)
        if at == "second replace" and len(calls) != 2:
            return replace(*args)
        raise error

    replace = os.replace
    if at == "save_file":
        monkeypatch.setattr(safetensors.torch, "save_file", stop)
    elif at == "write_text":
        monkeypatch.setattr(tensor_folder.Path, "write_text", stop)
    else:
        monkeypatch.setattr(tensor_folder.os, "replace", stop)
    other = labkit.train(SMALL.but(seed=1))
    with pytest.raises(type(error)):
        other.save(saved)
    monkeypatch.undo()
    assert calls
    check_same(run, labkit.load_run(saved))
    assert os.listdir(tmp_path) == ["run"]
    other.save(saved)
    check_same(other, labkit.load_run(saved))


def test_a_csv_that_goes_away_while_training_costs_nothing(tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("\n".join(f"{row},{row % 3},{row % 2}" for row in range(30)))
    trainer = runs.Trainer(SMALL.but(dataset=f"csv:{table}"))
    table.unlink()
    trainer.advance(5)
    run = runs.run_of(trainer)
    assert run.steps == 5 and str(table) in run.code()


def test_the_code_of_a_run_of_own_data_says_that_they_are_needed():
    x, y = np.arange(40.0), np.arange(40) % 2
    run = labkit.train(SMALL.but(steps=3), data=(x, y))
    assert "data=data" in run.code()
    found = {"data": (x, y)}
    exec(run.code().removesuffix("run"), found)
    assert np.array_equal(found["run"].loss, run.loss)


@pytest.mark.parametrize("wrong", [[(5.9, 0.1)], [(-1, 0.1)], [(5, -0.1)], [(True, 0.1)]])
def test_changes_of_the_learning_rate_are_checked(wrong):
    with pytest.raises(ValueError, match="is not allowed"):
        labkit.train(SMALL, lr_changes=wrong)


def test_changes_of_the_learning_rate_may_come_in_any_order():
    one, other = (labkit.train(SMALL, lr_changes=c) for c in ([(5, 0.2), (20, 0.1)], [(20, 0.1), (5, 0.2)]))
    assert np.array_equal(one.loss, other.loss) and one.lr_changes == ((5, 0.2), (20, 0.1))


def test_each_spec_of_a_list_may_have_learning_rates_of_its_own_on_the_way():
    specs = [SMALL.but(lr=0.01), SMALL.but(depth=2), SMALL.but(lr=0.03)]  # two ensembles
    rates = [0.005, 0.002, 0.001]
    together = labkit.train(specs, lr_changes=[(20, rates), (30, 0.0001)])
    for spec, rate, run in zip(specs, rates, together, strict=True):
        alone = labkit.train(spec, lr_changes=[(20, rate), (30, 0.0001)])
        assert run.lr_changes == alone.lr_changes == ((20, rate), (30, 0.0001))
        np.testing.assert_allclose(run.loss, alone.loss, rtol=1e-4)


def test_a_list_of_learning_rates_has_one_for_each_spec():
    with pytest.raises(ValueError, match=r"lr_changes has 3 learning rates for 2 specs: give one number, or one"):
        labkit.train([SMALL, SMALL], lr_changes=[(5, [0.1, 0.2, 0.3])])
    with pytest.raises(ValueError, match=r"lr=\[0\.1\]"):
        labkit.train(SMALL, lr_changes=[(5, [0.1])])
    with pytest.raises(ValueError, match="lr=-1"):
        labkit.train([SMALL, SMALL], lr_changes=[(5, [0.1, -1])])
