"""The compiled kernel: its functions, its gradients, that it trains as PyTorch does, and that its bits are the same."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from kernel_bits import SPECS, fingerprint
from numba import njit
from torch import nn

import labkit
from labkit.core import kernel_cache, kernel_math
from labkit.core.batches import BatchSampler
from labkit.core.kernel_stepper import KernelStepper
from labkit.core.network import to_module
from labkit.core.spec import ACTIVATIONS, INITS, LOSSES, OPTIMIZERS, Spec
from labkit.core.trainer import Trainer

RECORDED = json.loads(Path(__file__).with_name("kernel_bits.json").read_text())
SMALL = Spec(samples=60, depth=2, width=6, batch_size=12, steps=100)


def over(function, values, dtype):
    """A scalar function of the kernel, over an array."""

    @njit
    def loop(x, out):
        for i in range(len(x)):
            out[i] = function(x[i])

    values = np.asarray(values, dtype)
    out = np.empty_like(values)
    loop(values, out)
    return out


def test_functions_are_right_to_a_few_units_of_the_last_place():
    x = np.linspace(-80, 80, 100_001).astype(np.float32)
    exact = np.exp(x.astype(float))
    assert np.abs(over(kernel_math.exp, x, np.float32) / exact - 1).max() < 2e-7
    x = np.concatenate([np.linspace(-12, 12, 100_000), np.geomspace(1e-30, 1, 1000)]).astype(np.float32)
    assert np.abs(over(kernel_math.tanh, x, np.float32) / np.tanh(x.astype(float)) - 1).max() < 6e-7
    x = np.geomspace(1e-30, 1e30, 100_001)
    assert np.abs(over(kernel_math.log, x, float) - np.log(x)).max() < 2e-14


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_and_its_slope_are_those_of_torch(name):
    z = np.linspace(-8, 8, 4001).astype(np.float32)
    exact = torch.tensor(z, dtype=torch.float64, requires_grad=True)
    answer = to_module((1, 1, 1), name, torch.zeros(4))[1](exact)
    answer.sum().backward()
    a, slope = z.copy(), np.empty_like(z)
    kernel_math.activate(getattr(kernel_math, name.upper()), a, slope)
    assert np.abs(a - answer.detach().numpy()).max() < 1e-6
    assert np.abs(slope - exact.grad.numpy()).max() < 1e-6


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_what_is_not_a_number_stays_so(name):
    a, slope = np.array([np.nan, 1], np.float32), np.empty(2, np.float32)
    kernel_math.activate(getattr(kernel_math, name.upper()), a, slope)
    assert np.isnan(a[0]) and np.isfinite(a[1])


def by_torch(spec):
    """The losses of the same training by autograd and torch.optim in float64: what rounding leaves is the kernel's."""
    run = labkit.train(spec.but(steps=1))
    model, loss_fn, x, y = run.initial_model().double(), run.loss_fn, run.data.x_train.double(), run.data.y_train
    y = y.double() if y.is_floating_point() else y
    shared = {"params": model.parameters(), "lr": spec.lr, "weight_decay": spec.l2}
    optimizer = {
        "sgd": lambda: torch.optim.SGD(**shared),
        "momentum": lambda: torch.optim.SGD(**shared, momentum=spec.momentum),
        "rmsprop": lambda: torch.optim.RMSprop(**shared),
        "adam": lambda: torch.optim.Adam(**shared, betas=(spec.momentum, 0.999)),
        "adamw": lambda: torch.optim.AdamW(**shared, betas=(spec.momentum, 0.999)),
    }[spec.optimizer]()
    order, losses = BatchSampler(spec.seed, len(x)), []
    for _ in range(spec.steps):
        rows = torch.from_numpy(order.take(spec.batch_size)).long() if spec.batch_size else slice(None)
        loss = loss_fn(model(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return np.array(losses)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_it_trains_as_torch_does(activation, loss, optimizer):
    """Some of the inits, depths, shortcuts and penalties for each; all of them over the whole."""
    draw = random.Random(f"{activation} {loss} {optimizer}")
    for depth in range(5):
        spec = SMALL.but(
            activation=activation, loss=loss, optimizer=optimizer, depth=depth, init=draw.choice(list(INITS)),
            residual=draw.random() < 0.5, shape=draw.choice(["constant", "funnel"]), lr=0.003,
            l2=draw.choice([0, 0.01]), dataset=draw.choice(["moons", "circle"]), batch_size=draw.choice([0, 1, 12]),
        )  # fmt: skip
        # A sum that rounds to the other side of 0 is another kink of ReLU; RMSprop's first steps divide by nearly 0.
        spec = spec.but(steps=10 if activation == "relu" or optimizer == "rmsprop" else 100)
        ours, exact = labkit.train(spec).loss, by_torch(spec)
        assert np.allclose(ours, exact, rtol=1e-5, atol=1e-6 * exact.max()), spec  # of a sum, all addends round


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_are_those_of_autograd_in_float64(activation, loss):
    spec = SMALL.but(
        activation=activation, loss=loss, optimizer="sgd", batch_size=0, lr=1e-3, steps=1, depth=3, residual=True
    )
    run = labkit.train(spec)
    model = run.initial_model().double()
    x, y = run.data.x_train.double(), run.data.y_train
    run.loss_fn(model(x), y.double() if y.is_floating_point() else y).backward()
    ends = zip(run.initial_model().parameters(), run.model().parameters(), model.parameters(), strict=True)
    for first, last, exact in ends:
        moved = (first.detach().double() - last.detach().double()) / 1e-3
        error = (moved - exact.grad).norm() / exact.grad.norm()
        assert error < 1e-5 + 1e-4 * float(first.detach().norm() / exact.grad.norm())  # the step is rounded to float32


# The same bits


@pytest.mark.parametrize("name", SPECS)
def test_the_bits_are_those_on_record(name):
    assert fingerprint(labkit.train(SPECS[name])) == RECORDED[name]


@pytest.mark.parametrize("processor", ["generic", "haswell"])
def test_the_bits_are_the_same_without_this_processors_instructions(processor, tmp_path):
    if processor == "haswell" and "avx2" not in Path("/proc/cpuinfo").read_text():
        pytest.skip("this processor has no AVX2")
    env = os.environ | {"NUMBA_CPU_NAME": processor, "LABKIT_CACHE": str(tmp_path)}
    code = "import json, kernel_bits; print(json.dumps(kernel_bits.fingerprints()))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, env=env, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == RECORDED


def test_the_bits_are_the_same_in_a_list_in_any_order_and_on_any_number_of_threads():
    names = list(SPECS)
    random.Random(0).shuffle(names)
    before = torch.get_num_threads()
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        try:
            runs = labkit.train([SPECS[name] for name in names])
        finally:
            torch.set_num_threads(before)
        assert {name: fingerprint(run) for name, run in zip(names, runs, strict=True)} == RECORDED


def test_members_that_are_trained_together_have_the_bits_of_each_alone():
    specs = [SMALL.but(lr=lr, seed=seed) for lr in (0.001, 0.01, 0.1) for seed in range(3)]
    for spec, run in zip(specs, labkit.train(specs), strict=True):
        assert fingerprint(run) == fingerprint(labkit.train(spec))


def test_the_bits_do_not_depend_on_the_chunks():
    spec = SMALL.but(steps=300)
    whole, parts = Trainer(spec), Trainer(spec)
    whole.advance(300)
    for steps in (1, 2, 3, 50, 100, 300):
        parts.advance(steps)
    assert torch.equal(whole.theta, parts.theta) and torch.equal(whole.loss_of(), parts.loss_of())


def test_a_wide_network_has_the_same_bits_on_a_team_of_threads():
    spec = Spec(dataset="digits", depth=2, width=128, batch_size=128, steps=12)
    before, prints = torch.get_num_threads(), set()
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        try:
            prints.add(fingerprint(labkit.train(spec)))
        finally:
            torch.set_num_threads(before)
    assert len(prints) == 1


def test_a_fully_connected_network_on_a_cpu_goes_by_the_kernel_and_a_module_by_torch():
    assert isinstance(Trainer(SMALL).stepper, KernelStepper)
    module = nn.Sequential(nn.Linear(2, 2))
    assert labkit.train(SMALL.but(device="cpu")).way == "kernel"
    assert labkit.train(SMALL, model=module).way == "torch"


# The machine code on the disk

TRAIN = "import labkit; print(len(labkit.train(labkit.Spec(steps=5)).loss))"


def trained(folder, **env):
    env = os.environ | {"LABKIT_CACHE": str(folder)} | env
    return subprocess.run([sys.executable, "-c", TRAIN], env=env, capture_output=True, text=True)


def test_damaged_machine_code_is_compiled_anew(tmp_path):
    assert trained(tmp_path).stdout.strip() == "5"
    files = sorted(tmp_path.rglob("*.nb*"))
    assert files
    for file in files:
        file.write_bytes(b"\x80\x04not what was written")
    done = trained(tmp_path)
    assert done.returncode == 0 and done.stdout.strip() == "5"
    assert "cannot keep its compiled training loop" in done.stderr


def test_a_folder_that_takes_nothing_costs_one_line(tmp_path):
    place = tmp_path / "file"
    place.write_text("in the way")
    done = trained(place)
    assert done.stdout.strip() == "5"
    assert "LABKIT_CACHE" in done.stderr and len([line for line in done.stderr.splitlines() if "labkit" in line]) <= 2


def test_fifty_threads_train_at_once():
    from concurrent.futures import ThreadPoolExecutor

    expected = fingerprint(labkit.train(SMALL))
    with ThreadPoolExecutor(50) as pool:
        prints = set(pool.map(lambda _: fingerprint(labkit.train(SMALL)), range(50)))
    assert prints == {expected}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_trains_too():
    code = (
        "import os, labkit, torch; from labkit.core.spec import Spec\n"
        "spec = Spec(dataset='digits', depth=2, width=128, batch_size=128, steps=4); torch.set_num_threads(2)\n"
        "first = labkit.train(spec).loss[-1]; child = os.fork()\n"
        "if not child: os._exit(int(labkit.train(spec).loss[-1] != first))\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "0", done.stderr


def test_ctrl_c_ends_a_training_soon():
    code = (
        "import labkit, signal, threading, time, os\n"
        "spec = labkit.Spec(dataset='teacher', inputs=256, samples=2000, loss='mse', depth=3, width=256)\n"
        "spec = spec.but(steps=100_000)\n"
        "labkit.train(spec.but(steps=2))\n"
        "threading.Timer(1.0, lambda: os.kill(os.getpid(), signal.SIGINT)).start()\n"
        "began = time.perf_counter()\n"
        "try: labkit.train(spec)\n"
        "except KeyboardInterrupt: print(time.perf_counter() - began)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert float(done.stdout) < 1.0 + 3.0  # the target is 0.3 s after the signal; a test fails at ten times that


def test_the_kernel_is_loaded_once_for_all_functions():
    kernel_cache.load()
    assert all(len(function.signatures) == 1 for function in kernel_cache.SIGNATURES)
