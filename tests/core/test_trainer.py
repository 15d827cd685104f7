"""The `Trainer`: the same numbers however it is driven, those of plain PyTorch, and a clean stop at divergence."""

import hashlib
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

import labkit
from labkit.core import devices
from labkit.core import trainer as trainer_module
from labkit.core.batches import BatchSampler
from labkit.core.costs import cost
from labkit.core.history import next_evaluation
from labkit.core.memory import DoesNotFit, same_ensemble
from labkit.core.seeds import STREAMS
from labkit.core.spec import DATASETS, LOSSES, OPTIMIZERS, Spec
from labkit.core.torch_stepper import TorchStepper
from labkit.core.trainer import Trainer

SMALL = Spec(samples=100, width=8, depth=2, batch_size=16, steps=300)
BLOWS_UP = Spec(dataset="plane", loss="mse", depth=0, optimizer="sgd", samples=100, batch_size=16, steps=300)


@pytest.fixture(params=["kernel", "torch"])
def both_ways(request, monkeypatch):
    """By the compiled loop, and by torch's operations, which are the way of a GPU."""
    if request.param == "torch":

        def stepper(specs, splits, initial, work):
            return TorchStepper(specs, splits, initial, torch.device("cpu"), work)

        monkeypatch.setattr(trainer_module, "KernelStepper", stepper)


# What is driven in several ways must come to the same numbers, to the last bit.

DRIVEN = {
    "default": SMALL,
    "whole set": SMALL.but(batch_size=0, optimizer="momentum", lr=0.1),
    "one sample": SMALL.but(batch_size=1, optimizer="sgd", init="pytorch", loss="mse"),
    "digits": SMALL.but(dataset="digits", activation="relu", batch_size=50),
    "digits, whole set": SMALL.but(dataset="digits", batch_size=0, steps=90),
    "regression": SMALL.but(dataset="bumps", loss="huber", optimizer="rmsprop", activation="gelu"),
    "no test set": SMALL.but(dataset="chebyshev", loss="mse", optimizer="adamw", l2=0.1, l1=0.01),
    "residual": SMALL.but(depth=4, residual=True, shape="funnel", activation="sigmoid"),
    "linear": SMALL.but(depth=0),
}


def left_by(trainer):
    """Everything that training left, as one list of tensors."""
    members = range(len(trainer.specs))
    looks = [part for look in trainer.evaluations for part in (torch.tensor(look[0]), *look[1:])]
    return [*map(trainer.loss_of, members), *map(trainer.theta_of, members), *looks]


def identical(a, b):
    return len(a) == len(b) and all(torch.equal(x.nan_to_num(), y.nan_to_num()) for x, y in zip(a, b, strict=True))


def trained(spec, chunks=None, **more):
    trainer = Trainer(spec, **more)
    for chunk in chunks or [trainer.total]:
        trainer.advance(chunk)
    while not trainer.done:
        trainer.advance(trainer.total)
    trainer.finish()
    return trainer


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("name", DRIVEN)
def test_chunks_do_not_change_a_bit(name):
    spec = DRIVEN[name]
    whole = left_by(trained(spec))
    for chunks in ([1] * spec.steps, [7] * (spec.steps // 7), [63, 1, 64, 65, 3], [0, 5, 0, spec.steps]):
        assert identical(left_by(trained(spec, chunks)), whole)


def test_chunks_do_not_change_a_bit_where_a_mean_is_shared_among_threads(monkeypatch):
    monkeypatch.setattr(devices, "WORK_PER_THREAD", 1.0)
    spec = SMALL.but(samples=40_000, train_share=1, batch_size=0, steps=20)
    module = nn.Linear(2, 2)
    assert Trainer(spec, model=module).threads == torch.get_num_threads()
    assert identical(left_by(trained(spec, [1] * 20, model=module)), left_by(trained(spec, model=module)))


@pytest.mark.usefixtures("both_ways")
def test_chunks_do_not_change_a_bit_of_an_ensemble():
    specs = [SMALL.but(seed=seed, lr=lr, noise=noise) for seed, lr, noise in [(0, 0.01, 0.1), (1, 0.1, 0), (1, 0.1, 1)]]
    assert identical(left_by(trained(specs, [1] * 300)), left_by(trained(specs)))


def test_the_same_spec_again_is_the_same_to_the_last_bit():
    for spec in (DRIVEN["digits"], DRIVEN["regression"]):
        assert identical(left_by(trained(spec)), left_by(trained(spec)))
        assert not identical(left_by(trained(spec)), left_by(trained(spec.but(seed=1))))


def test_another_process_comes_to_the_same_numbers_to_the_last_bit():
    code = (
        "import hashlib, labkit, torch\n"
        "torch.manual_seed(99); torch.rand(5)\n"
        f"run = labkit.train({SMALL.code()})\n"
        "weights = torch.nn.utils.parameters_to_vector(run.model().parameters()).detach().numpy()\n"
        "print(hashlib.sha256(run.loss.tobytes() + run.test_loss.tobytes() + weights.tobytes()).hexdigest())"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    run = labkit.train(SMALL)
    weights = nn.utils.parameters_to_vector(run.model().parameters()).detach().numpy()
    assert hashlib.sha256(run.loss.tobytes() + run.test_loss.tobytes() + weights.tobytes()).hexdigest() == there


def test_torch_own_random_numbers_are_left_alone():
    before = torch.random.get_rng_state()
    trained(SMALL)
    assert torch.equal(before, torch.random.get_rng_state())


def test_the_seed_drives_data_weights_and_order_apart():
    assert len(STREAMS) == 3
    one, other = Trainer(SMALL), Trainer(SMALL.but(init="xavier", batch_size=8))
    assert torch.equal(one.split.x_train, other.split.x_train)
    assert np.array_equal(one.stepper.samplers[0].take(80), other.stepper.samplers[0].take(80))


def test_every_epoch_sees_every_sample_once():
    order = BatchSampler(seed=5, samples=30)
    taken = np.concatenate([order.take(many) for many in (7, 7, 7, 7, 100, 1, 51)]).reshape(-1, 30)
    assert np.array_equal(np.sort(taken, 1), np.tile(np.arange(30), (6, 1)))
    assert not np.array_equal(taken[0], taken[1])
    again = BatchSampler(seed=5, samples=30)
    again.go_to(47)
    assert np.array_equal(again.take(60), taken.ravel()[47:107])


# Against plain PyTorch


def torch_optimizer(spec, model):
    shared = {"params": model.parameters(), "lr": spec.lr, "weight_decay": spec.l2}
    adam = {**shared, "betas": (spec.momentum, 0.999)}
    return {
        "sgd": lambda: torch.optim.SGD(**shared),
        "momentum": lambda: torch.optim.SGD(**shared, momentum=spec.momentum),
        "rmsprop": lambda: torch.optim.RMSprop(**shared),
        "adam": lambda: torch.optim.Adam(**adam),
        "adamw": lambda: torch.optim.AdamW(**adam),
    }[spec.optimizer]()


def plain_loop(spec):
    """The losses of an ordinary PyTorch training loop on the same start, data and batches."""
    run = labkit.train(spec.but(steps=1))
    data, model = run.data, run.initial_model()
    optimizer, order = torch_optimizer(spec, model), BatchSampler(spec.seed, len(data.x_train))
    losses = []
    with devices.threads(1):
        for _ in range(spec.steps):
            batch = order.take(spec.batch_size).astype(int) if spec.batch_size else slice(None)
            loss = run.loss_fn(model(data.x_train[batch]), data.y_train[batch])
            optimizer.zero_grad()
            loss.backward()
            for p in model.parameters():
                p.grad += spec.l1 * p.detach().sign()
            optimizer.step()
            losses.append(loss.item())
    return losses


RATES = {"sgd": 0.1, "momentum": 0.02, "rmsprop": 0.002, "adam": 0.01, "adamw": 0.01}
PAIRS = [("moons", loss) for loss in LOSSES] + [("bumps", "mse"), ("bumps", "huber"), ("digits", "mse")]


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("optimizer", RATES)
@pytest.mark.parametrize(("dataset", "loss"), PAIRS)
def test_losses_are_those_of_a_plain_torch_loop(dataset, loss, optimizer):
    spec = SMALL.but(dataset=dataset, loss=loss, optimizer=optimizer, lr=RATES[optimizer], huber_delta=0.7, steps=100)
    np.testing.assert_allclose(labkit.train(spec).loss, plain_loop(spec), rtol=1e-4, atol=1e-7)


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize(
    "changes",
    [
        {"l2": 0.1},
        {"l1": 0.01, "steps": 50},  # then a weight is 0 but for its rounding, and its sign chance
        {"l1": 0.01, "l2": 0.1, "optimizer": "momentum"},
        {"l2": 0.5, "optimizer": "adamw"},
        {"l1": 0.003, "l2": 0.01, "optimizer": "rmsprop", "lr": 0.001},
        {"momentum": 0.0},
        {"momentum": 0.5, "optimizer": "momentum"},
        {"batch_size": 0, "residual": True, "depth": 4},
        {"batch_size": 1, "lr": 0.001, "loss": "mse"},
        {"dataset": "teacher", "loss": "mse", "inputs": 30, "shape": "funnel", "activation": "gelu", "init": "pytorch"},
        {"depth": 0},
    ],
    ids=str,
)
def test_penalties_and_shapes_are_those_of_a_plain_torch_loop(changes):
    spec = SMALL.but(dataset="moons", steps=100).but(**changes)
    np.testing.assert_allclose(labkit.train(spec).loss, plain_loop(spec), rtol=1e-4, atol=1e-7)


def test_the_loss_is_recorded_without_its_penalties():
    without, with_l2 = (labkit.train(SMALL.but(l2=l2, steps=2)).loss for l2 in (0.0, 5.0))
    assert with_l2[0] == without[0] and with_l2[1] != without[1]


@pytest.mark.parametrize("name", ["l1", "l2"])
def test_penalties_make_the_weights_small(name):
    small, large = (trained(SMALL.but(**{name: much})).theta_of().abs().sum() for much in (0.1, 0.0))
    assert small < 0.5 * large


@pytest.mark.parametrize("dataset", DATASETS)
def test_every_data_set_is_learned_a_little(dataset):
    loss = "cross_entropy" if DATASETS[dataset].classes else "mse"
    run = labkit.train(SMALL.but(dataset=dataset, loss=loss, lr=0.02, steps=600))
    assert run.loss[-20:].mean() < 0.7 * run.loss[0]


# Ensembles

MIXED = [
    SMALL.but(lr=lr, seed=seed, noise=noise, init=init, steps=100)
    for lr, seed, noise, init in [
        (0.01, 0, 0.1, "he"),
        (0.03, 0, 0.1, "he"),
        (0.01, 1, 0.1, "xavier"),
        (0.001, 1, 0.5, "pytorch"),
        (0.01, 2, 0.0, "he"),
    ]
]


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("changes", [{}, {"batch_size": 0}, {"optimizer": "momentum"}, {"dataset": "digits"}], ids=str)
def test_a_member_of_an_ensemble_agrees_with_itself_alone(changes):
    specs = [spec.but(**changes) for spec in MIXED]
    together = trained(specs)
    for member, spec in enumerate(specs):
        alone = trained(spec)
        torch.testing.assert_close(together.loss_of(member), alone.loss_of(), rtol=1e-4, atol=1e-7)
        assert together.splits[member].x_train.equal(alone.split.x_train)
        looks = zip(together.evaluations, alone.evaluations, strict=True)
        for (step, loss, score), (step_alone, loss_alone, score_alone) in looks:
            assert step == step_alone
            torch.testing.assert_close(loss[member], loss_alone[0], rtol=1e-3, atol=1e-6)
            assert abs(score[member] - score_alone[0]) <= 1 / 20


def test_what_members_do_not_share_is_refused_in_one_ensemble():
    assert same_ensemble(MIXED[0]) == same_ensemble(MIXED[3])
    with pytest.raises(ValueError, match="may differ in lr, seed, noise, init only"):
        Trainer([SMALL, SMALL.but(width=9)])


# Divergence


def last_finite(spec, step, **more):
    """The weights of a trainer that was advanced to one step before the loss broke."""
    trainer = Trainer(spec, **more)
    trainer.advance(max(0, step - 1))
    return trainer.theta[0].clone()


def breaking_at(step):
    """A spec whose loss breaks at that step, found by halving: the larger the rate, the sooner."""
    low, high = 1.0, 1e20
    for _ in range(200):
        lr = (low * high) ** 0.5
        found = trained(BLOWS_UP.but(lr=lr)).diverged[0] or 300
        if found == step:
            return BLOWS_UP.but(lr=lr)
        low, high = (lr, high) if found > step else (low, lr)
    pytest.fail(f"no learning rate breaks at step {step}")


def check_broken(trainer, spec, step):
    assert trainer.diverged == [step] and trainer.step == step and trainer.done
    losses = trainer.loss_of()
    assert len(losses) == step and losses.isfinite().all()
    assert trainer.theta_of().isfinite().all()
    assert torch.equal(trainer.theta_of(), last_finite(spec, step))
    assert torch.equal(trainer.theta[0], trainer.theta_of())


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize(
    "changes", [{}, {"optimizer": "momentum"}, {"batch_size": 0}, {"depth": 2}, {"loss": "huber", "l2": 9.0}], ids=str
)
def test_training_stops_at_the_step_where_the_loss_broke(changes):
    spec = BLOWS_UP.but(lr=1.6).but(**changes)
    trainer = trained(spec)
    step = trainer.diverged[0]
    assert 1 < step < 300
    check_broken(trainer, spec, step)
    theta = trainer.theta.clone()
    trainer.advance(100)
    assert trainer.step == step and torch.equal(trainer.theta, theta)


def test_the_step_of_divergence_is_that_of_a_plain_torch_loop():
    spec = BLOWS_UP.but(lr=1.6)
    losses = torch.tensor(plain_loop(spec))
    first = int((~losses.isfinite()).nonzero()[0])
    assert first <= trained(spec).diverged[0] <= first + 2  # PyTorch's sum of squares overflows before its mean does


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 8, 64])
def test_divergence_is_the_same_in_any_chunks(chunk):
    for spec in (BLOWS_UP.but(lr=1.3), BLOWS_UP.but(lr=50.0), BLOWS_UP.but(lr=1e6)):
        whole = trained(spec)
        parts = trained(spec, [chunk] * (300 // chunk))
        assert parts.diverged == whole.diverged != [None]
        assert identical(left_by(parts), left_by(whole))
        check_broken(parts, spec, whole.diverged[0])


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("step", [2, 3, 15, 16, 17, 32, 33, 63, 64, 65])
def test_divergence_around_the_start_of_a_chunk_or_a_block_keeps_the_weights_before_it(step):
    spec = breaking_at(step)
    for chunks in ([300], [step], [step - 1, 1, 1], [step, 1], [step + 1]):
        check_broken(trained(spec, chunks), spec, step)


@pytest.mark.usefixtures("both_ways")
def test_divergence_at_step_1_keeps_the_first_weights():
    spec = breaking_at(1)
    for chunks in ([300], [1, 1]):
        trainer = trained(spec, chunks)
        check_broken(trainer, spec, 1)
        assert torch.equal(trainer.theta_of(), trainer.initial[0])


@pytest.mark.usefixtures("both_ways")
def test_a_first_loss_that_is_not_finite_is_divergence_at_step_0(monkeypatch):
    monkeypatch.setattr(
        trainer_module, "draw", lambda widths, init, rng: torch.full((labkit.cost(BLOWS_UP).parameters,), 1e30)
    )
    trainer = trained(BLOWS_UP)
    check_broken(trainer, BLOWS_UP, 0)
    run = labkit.train(BLOWS_UP)
    assert (run.diverged, len(run.loss), run.test_step.tolist()) == (0, 0, [0])
    assert "diverged at step 0, the first loss already" in repr(run)
    assert torch.equal(run.model()[0].weight, run.initial_model()[0].weight)


@pytest.mark.usefixtures("both_ways")
def test_diverged_members_leave_the_others_alone():
    specs = [
        BLOWS_UP.but(lr=lr, seed=seed) for lr, seed in [(0.01, 0), (1.3, 0), (0.003, 2), (1.6, 0), (1.61, 0), (1e9, 4)]
    ]
    together, sound = trained(specs), trained([specs[0], specs[2]])
    steps = together.diverged
    assert [step is None for step in steps] == [True, False, True, False, False, False]
    assert together.step == 300 and steps[5] < steps[4] <= steps[3] < 64 < steps[1]
    for member, other in ((0, 0), (2, 1)):
        torch.testing.assert_close(together.loss_of(member), sound.loss_of(other), rtol=1e-4, atol=1e-7)
        torch.testing.assert_close(together.theta_of(member), sound.theta_of(other), rtol=1e-4, atol=1e-6)
    for member in (1, 3, 4, 5):
        assert trained(specs[member]).diverged == [steps[member]]
        assert len(together.loss_of(member)) == steps[member]
        kept = last_finite(specs[member], steps[member])
        torch.testing.assert_close(together.theta_of(member), kept, rtol=1e-3, atol=0)
    assert identical(left_by(trained(specs, [1] * 300))[:12], left_by(together)[:12])


@pytest.mark.usefixtures("both_ways")
def test_an_ensemble_of_broken_members_stops():
    specs = [BLOWS_UP.but(lr=lr) for lr in (1.6, 50.0, 1.3, 1e6)]
    trainer = trained(specs)
    assert trainer.done and trainer.step == max(trainer.diverged) == trainer.diverged[2] < 300
    for member, spec in enumerate(specs):
        kept = last_finite(spec, trainer.diverged[member])
        torch.testing.assert_close(trainer.theta_of(member), kept, rtol=1e-3, atol=0)
        assert torch.equal(trainer.theta[member], trainer.theta_of(member))


@pytest.mark.usefixtures("both_ways")
def test_the_path_of_a_diverged_member_is_finite_to_its_end():
    specs = [BLOWS_UP.but(lr=lr, steps=60) for lr in (0.01, 50.0)]
    for run in (*labkit.train(specs, snapshots=61), labkit.train(specs[1], snapshots=61)):
        assert run.path.weights.isfinite().all()
        end = nn.utils.parameters_to_vector(run.model().parameters())
        assert torch.equal(run.path.weights[-1], end.detach())


# The learning rate on the way


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_change_of_the_learning_rate_is_part_of_the_recipe(optimizer):
    spec = SMALL.but(optimizer=optimizer, lr=0.01)
    live = Trainer(spec)
    live.advance(70)
    live.set_lr(0.03)
    live.advance(13)
    live.set_lr(0.001)
    live.advance(300)
    run = labkit.train(spec, lr_changes=live.lr_changes)
    assert live.lr_changes == [(70, 0.03), (83, 0.001)] == list(run.lr_changes)
    assert torch.equal(live.loss_of(), torch.from_numpy(run.loss))
    plain = labkit.train(spec).loss
    assert np.array_equal(plain[:71], run.loss[:71]) and not np.array_equal(plain[71:], run.loss[71:])


def test_a_learning_rate_set_before_the_first_step_is_that_of_the_spec():
    trainer = Trainer(SMALL.but(lr=1.0))
    trainer.set_lr(0.01)
    trainer.advance(300)
    assert torch.equal(trainer.loss_of(), trained(SMALL.but(lr=0.01)).loss_of())


@pytest.mark.parametrize("lr", [0, -1, float("nan"), float("inf"), "0.1", True, None])
def test_a_wrong_learning_rate_is_refused_and_nothing_changes(lr):
    trainer = Trainer(SMALL)
    with pytest.raises(ValueError, match=r"^lr="):
        trainer.set_lr(lr)
    assert trainer.lr_changes == [] and trainer.lr == 0.01


@pytest.mark.usefixtures("both_ways")
def test_a_change_of_the_learning_rate_reaches_every_member():
    specs = [SMALL.but(lr=lr) for lr in (0.01, 0.03)]
    trainer = Trainer(specs)
    trainer.set_lr(0.02)
    trainer.advance(50)
    torch.testing.assert_close(trainer.loss_of(0), trainer.loss_of(1), rtol=1e-4, atol=0)


# What a run may ask for


def refusal(free, spec, monkeypatch, **more):
    monkeypatch.setattr(devices, "free_bytes", lambda device: free)
    with pytest.raises(DoesNotFit) as refused:
        Trainer(spec, **more)
    return str(refused.value)


@pytest.mark.parametrize(
    "spec",
    [SMALL.but(width=5000), Spec.article().but(samples=10), [SMALL.but(width=5000, seed=seed) for seed in range(4)]],
)
def test_a_run_that_is_too_big_names_its_need_and_the_width_that_fits(spec, monkeypatch):
    first, members = (spec[0], len(spec)) if isinstance(spec, list) else (spec, 1)
    monkeypatch.setattr(trainer_module, "draw", lambda *_: pytest.fail("weights were drawn before the check"))
    text = refusal(2_000_000, spec, monkeypatch)
    need, free, fits = (
        int(number.replace(",", "")) for number in re.findall(r"\d[\d,]*\d", text.partition("training")[2])
    )
    batch = first.batch_size or first.training_samples
    assert f"width={first.width} is not allowed" in text
    assert need == members * cost(first, batch=batch).bytes_training
    assert free == int(0.9 * 2_000_000)
    monkeypatch.undo()
    monkeypatch.setattr(devices, "free_bytes", lambda device: 2_000_000)
    specs = spec if isinstance(spec, list) else [spec]
    assert Trainer([each.but(width=fits) for each in specs]).theta.shape[0] == members
    with pytest.raises(DoesNotFit):
        Trainer([each.but(width=fits + 1) for each in specs])


def test_a_module_that_is_too_big_is_refused_before_it_is_copied(monkeypatch):
    monkeypatch.setattr(trainer_module, "deepcopy", lambda _: pytest.fail("the module was copied before the check"))
    assert "take a smaller model" in refusal(1_000_000, SMALL, monkeypatch, model=nn.Linear(2, 100_000))


def test_data_that_are_too_big_are_refused_before_they_are_made(monkeypatch):
    monkeypatch.setattr(trainer_module, "load_data", lambda *_: pytest.fail("data were made before the check"))
    huge = Spec(dataset="teacher", loss="mse", inputs=100_000, samples=1_000_000, width=1, batch_size=1)
    refusal(10**9, huge, monkeypatch)


def test_a_run_that_does_not_fit_is_a_wrong_value_and_a_lack_of_memory(monkeypatch):
    monkeypatch.setattr(devices, "free_bytes", lambda device: 1000)
    for kind in (ValueError, MemoryError):
        with pytest.raises(kind):
            labkit.train(SMALL)


@pytest.mark.parametrize("name", ["mps", "cuda"])
def test_a_device_that_this_machine_lacks_is_refused(name):
    if name in devices.available():
        pytest.skip(f"this machine has {name}")
    with pytest.raises(ValueError, match=rf"device='{name}' is not allowed: .+ This machine has .*cpu; take one of"):
        Trainer(SMALL.but(device=name))


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("three_threads")
def test_the_caller_thread_setting_is_given_back(monkeypatch):
    used = []
    inner = TorchStepper._run_steps
    monkeypatch.setattr(
        TorchStepper, "_run_steps", lambda self, *a: (used.append(torch.get_num_threads()), inner(self, *a))[1]
    )
    trained(SMALL, model=nn.Linear(2, 2))
    assert set(used) == {1} and torch.get_num_threads() == 3
    monkeypatch.setattr(TorchStepper, "_run_steps", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        trained(SMALL, model=nn.Linear(2, 2))
    assert torch.get_num_threads() == 3


@pytest.mark.usefixtures("three_threads")
def test_threads_follow_the_work_in_a_step():
    assert [devices.threads_for(work) for work in (0, 1e6, 3.9e7, 4e7, 5e9)] == [1, 1, 1, 2, 3]


# What is looked at on the way


def test_the_test_set_is_looked_at_eight_times_in_every_doubling():
    looks = [0]
    while looks[-1] < 100_000:
        looks.append(next_evaluation(looks[-1]))
    assert looks[:20] == [*range(17), 18, 20, 22]
    for power in range(4, 16):
        assert sum(2**power <= look < 2 ** (power + 1) for look in looks) == 8


def test_the_schedule_of_looks_does_not_depend_on_where_training_ends():
    steps = {total: [look[0] for look in trained(SMALL.but(steps=total)).evaluations] for total in (100, 300)}
    assert steps[100] == [look for look in steps[300] if look < 100] + [100]
    short, long = (labkit.train(SMALL.but(steps=total)) for total in (100, 300))
    assert np.array_equal(short.test_loss[:-1], long.test_loss[: len(short.test_loss) - 1])


def test_the_end_of_training_may_be_moved_on_the_way():
    trainer = Trainer(SMALL.but(steps=100))
    trainer.advance(1000)
    assert trainer.step == 100 and trainer.done
    trainer.total = 300
    assert not trainer.done
    trainer.advance(1000)
    assert trainer.step == 300
    assert torch.equal(trainer.loss_of(), trained(SMALL).loss_of())
    trainer.total = 50
    trainer.advance(10)
    assert trainer.done and trainer.step == 300


def test_looking_in_between_changes_nothing_that_is_learned():
    trainer = Trainer(SMALL)
    for _ in range(30):
        trainer.advance(10)
        trainer.finish()
        trainer.predict(torch.zeros(1, 5, 2))
        labkit.core.runs.run_of(trainer)
    whole = trained(SMALL)
    assert torch.equal(trainer.loss_of(), whole.loss_of()) and torch.equal(trainer.theta_of(), whole.theta_of())


def test_what_was_looked_at_is_the_loss_and_the_score_of_the_model():
    run = labkit.train(SMALL)
    prediction = run.model()(run.data.x_test)
    assert run.test_loss[-1] == pytest.approx(run.loss_fn(prediction, run.data.y_test).item(), rel=1e-5)
    assert run.score[-1] == pytest.approx((prediction.argmax(1) == run.data.y_test).float().mean().item())


def test_seconds_count_training_alone(monkeypatch):
    trainer = Trainer(SMALL)
    assert trainer.seconds == 0
    trainer.advance(100)
    assert 0 < trainer.seconds < 5
    before = trainer.seconds
    trainer.finish()
    assert trainer.seconds == before


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize(
    ("snapshots", "steps"), [(1, [0]), (2, [0, 300]), (4, [0, 100, 200, 300]), (1000, [*range(301)])]
)
def test_weights_are_kept_along_the_way_first_and_last_among_them(snapshots, steps):
    for chunks in (None, [1] * 300):
        trainer = trained(SMALL, chunks, snapshots=snapshots)
        assert [step for step, _ in trainer.history.snapshots] == steps
        assert torch.equal(trainer.history.snapshots[0][1], trainer.initial)
        if steps[-1] == 300:
            assert torch.equal(trainer.history.snapshots[-1][1][0], trainer.theta_of())


@pytest.mark.parametrize("wrong", [-1, 1.5, True, "2", None, np.float64(2)])
def test_a_wrong_number_of_snapshots_is_refused_and_any_whole_number_taken(wrong):
    with pytest.raises(ValueError, match=r"^snapshots=.* is not allowed: snapshots takes a whole number from 0 to"):
        labkit.train(SMALL.but(steps=2), snapshots=wrong)
    run = labkit.train(SMALL.but(steps=np.int64(2)), snapshots=np.int64(2), lr_changes=[(np.int64(1), 0.1)])
    assert run.path.steps.tolist() == [0, 2] and run.lr_changes == ((1, 0.1),)


def test_kept_weights_are_those_of_a_trainer_advanced_to_that_step():
    trainer = trained(SMALL, snapshots=4)
    other = Trainer(SMALL)
    other.advance(200)
    assert torch.equal(trainer.history.snapshots[2][1], other.theta)


def test_repr_tells_where_training_stands():
    trainer = Trainer(SMALL)
    trainer.advance(40)
    assert repr(trainer).startswith("Trainer: step 40 of 300, 1 members of Spec: spiral")


def test_dropout_follows_from_the_seed_and_leaves_the_global_generator_alone():
    model = nn.Sequential(nn.Linear(2, 16), nn.Dropout(0.5), nn.Tanh(), nn.Linear(16, 2))
    before = torch.get_rng_state()
    losses = []
    for chunks in ([60], [1, 7, 52]):
        trainer = Trainer(SMALL.but(seed=3), model=model)
        for steps in chunks:
            trainer.advance(steps)
        losses.append(trainer.loss_of()[:60])
    assert torch.equal(*losses)
    assert torch.equal(before, torch.get_rng_state())


def test_data_that_are_no_pair_are_refused_in_a_sentence():
    with pytest.raises(ValueError, match=r"data must be a pair \(x, y\)"):
        Trainer(SMALL, data=torch.ones(10, 2))


def test_a_last_update_that_breaks_the_weights_is_a_divergence():
    spec = Spec(dataset="plane", loss="mse", optimizer="sgd", lr=1e20, steps=1)
    trainer = Trainer(spec)
    trainer.advance(1)
    trainer.finish()
    assert trainer.diverged == [1] and trainer.done
    assert torch.equal(trainer.theta_of(), trainer.initial[0])  # the weights of the last finite loss


def test_a_look_between_two_of_the_schedule_leaves_no_trace():
    looked, plain = Trainer(SMALL), Trainer(SMALL)
    looked.advance(37)
    looked.finish()
    for trainer in (looked, plain):
        trainer.advance(10_000)
        trainer.finish()
    assert [step for step, *_ in looked.evaluations] == [step for step, *_ in plain.evaluations]


def test_a_dropout_module_goes_back_to_the_weights_of_its_last_finite_loss():
    model = nn.Sequential(nn.Linear(2, 16), nn.Dropout(0.5), nn.ReLU(), nn.Linear(16, 1))
    spec = Spec(dataset="plane", loss="mse", optimizer="sgd", lr=3.0, batch_size=32, steps=500)
    broken = Trainer(spec, model=model)
    broken.advance(500)
    (at,) = broken.diverged
    assert at is not None and at > 1
    short = Trainer(spec.but(steps=at - 1), model=model)
    short.advance(at - 1)
    assert torch.equal(broken.theta_of(), short.theta_of())


# On a GPU


@pytest.mark.gpu
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "rmsprop", "adam", "adamw"])
@pytest.mark.parametrize("loss", ["mse", "cross_entropy", "huber"])
def test_a_cuda_graph_gives_the_numbers_of_plain_steps(loss, optimizer):
    spec = SMALL.but(device="cuda", steps=1500, loss=loss, optimizer=optimizer, l2=0.001, lr=0.003)
    graph, plain = Trainer(spec), Trainer(spec)
    plain.stepper.wants_graph = False
    for trainer in (graph, plain):
        trainer.advance(1500)
    assert graph.stepper._graph is not None and plain.stepper._graph is None
    assert torch.equal(graph.loss_of(), plain.loss_of())
    assert torch.equal(graph.theta_of(), plain.theta_of())


@pytest.mark.gpu
def test_cuda_agrees_with_the_cpu():
    on_gpu, on_cpu = (Trainer(SMALL.but(device=device, steps=100)) for device in ("cuda", "cpu"))
    for trainer in (on_gpu, on_cpu):
        trainer.advance(100)
    torch.testing.assert_close(on_gpu.loss_of(), on_cpu.loss_of(), rtol=1e-3, atol=1e-5)
