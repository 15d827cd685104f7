"""A network cut over two processes trains to the numbers of one, and leaves nothing behind when it fails."""

import os
import signal
import time

import numpy as np
import psutil
import pytest
import torch

import labkit
from labkit.core import sharded
from labkit.core.sharded import train_sharded
from labkit.core.spec import Spec

SPEC = Spec(
    dataset="teacher", inputs=16, samples=500, loss="mse", depth=2, width=64, activation="relu", batch_size=32,
    steps=100, lr=0.003, device="cpu",
)  # fmt: skip
LONG = 10_000  # steps: half a minute and more


def ours():
    """The processes that a training over ranks has started and not ended."""
    return [
        each for each in psutil.Process().children(recursive=True) if "labkit.core.sharded" in " ".join(each.cmdline())
    ]


@pytest.fixture(scope="module")
def two():
    return train_sharded(SPEC)


def test_two_ranks_train_to_the_numbers_of_one_process(two):
    run = labkit.train(SPEC)
    np.testing.assert_allclose(two.loss, run.loss, rtol=1e-4)
    assert two.diverged is None and two.ranks == 2 and two.where == "cpu" and two.loss[-1] < 0.5 * two.loss[0]


@pytest.mark.parametrize("changes", [{}, {"residual": True, "depth": 3, "optimizer": "momentum"}])
def test_the_network_comes_back_whole_and_is_that_of_one_process(changes, two):
    spec = SPEC.but(**changes)
    together, alone = two if not changes else train_sharded(spec), labkit.train(spec)
    one, other = together.model(), alone.model()
    for mine, its in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(one(alone.data.x_test), other(alone.data.x_test), rtol=1e-3, atol=1e-4)


def test_each_rank_holds_half_of_weights_gradients_and_state(two):
    whole = 16 * labkit.cost(SPEC).parameters
    assert len(two.bytes_per_rank) == 2 and sum(two.bytes_per_rank) == whole
    assert max(two.bytes_per_rank) < 0.55 * whole
    assert "s on 2 ranks (cpu), which hold 0.04" in repr(two) and ours() == []


def test_classes_a_residual_network_penalties_and_whole_batches_come_out_the_same():
    spec = Spec(
        dataset="moons", samples=100, depth=3, width=8, residual=True, loss="cross_entropy", optimizer="momentum",
        lr=0.05, l1=0.001, l2=0.01, batch_size=0, steps=60, device="cpu",
    )  # fmt: skip
    np.testing.assert_allclose(train_sharded(spec).loss, labkit.train(spec).loss, rtol=1e-4)


@pytest.mark.parametrize("at_the_end", [False, True])  # where no loss follows to show what the last update broke
def test_a_divergence_is_no_failure_and_ends_the_training(at_the_end):
    spec = SPEC.but(optimizer="sgd", lr=30.0, steps=400)
    run = labkit.train(spec)
    found = train_sharded(spec.but(steps=run.diverged) if at_the_end else spec)
    assert found.diverged == run.diverged and len(found.loss) == run.diverged
    assert repr(found).startswith(f"Sharded: diverged at step {run.diverged:,} after")


@pytest.mark.parametrize(
    ("whom", "said"),
    [
        ("labkit.core.sharded", r"a rank of 2 failed, and the others with it: Signal 9 \(SIGKILL\) received by PID"),
        ("torch.distributed.run", r"torchrun was killed by signal 9"),
    ],
)
def test_a_killed_process_ends_them_all_and_is_said(whom, said, monkeypatch):
    family, struck = [], []

    def strike(process, steps):
        next(line for line in process.stdout if line.startswith("step "))
        family.extend(ours())  # kept: who has lost torchrun is no child of ours any more
        next(each for each in reversed(family) if whom in each.cmdline()).send_signal(signal.SIGKILL)
        struck.append(time.monotonic())
        list(process.stdout)

    monkeypatch.setattr(sharded, "_watch", strike)
    with pytest.raises(RuntimeError, match=said):
        train_sharded(SPEC.but(steps=LONG))
    assert time.monotonic() - struck[0] < 15  # not at the end of the training
    assert len(family) == 3 and psutil.wait_procs(family, 5)[1] == []


def test_the_reason_is_the_error_that_came_first(tmp_path):
    (tmp_path / "said").write_text("W: a word of warning\n")
    for rank, (at, error) in enumerate([(2, "RuntimeError: the other one is gone"), (1, "MemoryError: too big")]):
        (tmp_path / f"error-{rank}").write_text(error)
        os.utime(tmp_path / f"error-{rank}", (at, at))
    assert sharded._reason(tmp_path, 1) == "MemoryError: too big"


def test_the_last_words_of_a_process_that_aborted_are_said(tmp_path):
    (tmp_path / "said").write_text(
        "terminate called after throwing an instance of 'gloo::IoException'\n  what():  Connection closed by peer\n"
        "    error_msg: Signal 6 (SIGABRT) received by PID 21\n"
    )
    assert sharded._reason(tmp_path, 1) == (
        "Signal 6 (SIGABRT) received by PID 21; terminate called after throwing an instance of 'gloo::IoException'; "
        "  what():  Connection closed by peer"
    )


def test_what_a_rank_could_not_do_reaches_the_person(monkeypatch, tmp_path):
    table = tmp_path / "table.csv"
    np.savetxt(table, np.random.default_rng(0).normal(size=(90, 3)), delimiter=",")
    spec = SPEC.but(dataset=f"csv:{table}")
    monkeypatch.setattr(sharded, "_checked", lambda spec, ranks: table.unlink() or "cpu")  # gone before a rank reads it
    with pytest.raises(RuntimeError, match=r"a rank of 1 failed.+: ValueError: dataset='csv:.+' is not allowed"):
        train_sharded(spec, ranks=1)


def test_an_interruption_leaves_no_process(monkeypatch):
    def interrupted(process, steps):
        next(line for line in process.stdout if line.startswith("step "))
        assert ours()
        raise KeyboardInterrupt

    monkeypatch.setattr(sharded, "_watch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_sharded(SPEC.but(steps=LONG), ranks=1)
    assert ours() == []


@pytest.mark.parametrize(
    ("changes", "ranks", "words"),
    [
        ({}, 0, "ranks=0 is not allowed: ranks takes a whole number from 1"),
        ({}, 2.0, "ranks=2.0 is not allowed"),
        ({}, 3, "ranks=3 is not allowed: a batch of 32 samples has no 3 equal shares. Take ranks=2, or a batch_size"),
        ({"batch_size": 0, "samples": 499}, 2, "a batch of 399 samples has no 2 equal shares"),
        ({"batch_size": 5000}, 2, "batch_size=5000 is not allowed"),
    ],
)
def test_ranks_that_cannot_be_are_refused_before_anything_starts(changes, ranks, words, monkeypatch):
    monkeypatch.setattr(sharded, "_started", lambda *_: pytest.fail("started"))
    with pytest.raises(ValueError, match=words):
        train_sharded(SPEC.but(**changes), ranks=ranks)


def test_what_is_no_spec_is_refused():
    with pytest.raises(ValueError, match="train_sharded takes a Spec, not 'moons'"):
        train_sharded("moons")


@pytest.mark.gpu
def test_more_ranks_than_gpus_are_refused():
    with pytest.raises(ValueError, match="each takes a GPU"):
        train_sharded(SPEC.but(device="cuda"), ranks=99)


@pytest.mark.gpu
def test_one_gpu_is_one_rank():
    spec = SPEC.but(device="cuda")
    np.testing.assert_allclose(train_sharded(spec, ranks=1).loss, labkit.train(spec).loss, rtol=1e-3)
