"""A training in a process of its own that is killed on the way: what tests and the campaign of faults resume from."""

import os
import signal
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parent
CHUNK_WORK = 7e6  # blocks of 64 steps of the default network, in place of thousands
SCRIPT = """
import os, signal, sys, warnings
sys.path.insert(0, {tests!r})
import labkit, killed
from labkit.core import checkpoints, kernel_stepper
from labkit.core.kernel_stepper import KernelStepper
from labkit.storage import tensor_folder
from labkit.core.torch_stepper import TorchStepper

checkpoints.PAUSE, checkpoints.SHARE = 0.0, float("inf")  # one after every block of steps
kernel_stepper.CHUNK_WORK = killed.CHUNK_WORK
{bomb}
killed.train({case!r}, {folder!r})
"""
AT_STEP = """
real = TorchStepper._run_steps
def run_steps(self, first, last):
    if self._block_start + last >= {step}:
        os.kill(os.getpid(), signal.SIGKILL)
    real(self, first, last)
TorchStepper._run_steps = run_steps
real_advance = KernelStepper.advance
def advance(self, stop):
    if min(stop, self.step + self.block) >= {step}:
        os.kill(os.getpid(), signal.SIGKILL)
    return real_advance(self, stop)
KernelStepper.advance = advance
"""
WHILE_WRITING = """
real, count = tensor_folder._digest, [0]
def digest(facts, raw):
    count[0] += 1
    if count[0] == {writes}:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(facts, raw)
tensor_folder._digest = digest
"""


def cases(weights=0):
    """Trainings of every kind: (spec or specs, what else `train` is given); `weights` seeds a person's own module."""
    import torch
    from torch import nn

    import labkit

    def module():
        with torch.random.fork_rng():
            torch.manual_seed(weights)
            layers = [nn.Linear(2, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 2)]
        return nn.Sequential(*layers)

    spec = labkit.Spec(steps=1500, device="cpu")
    return {
        "adam": (spec, {}),
        "full batch": (spec.but(batch_size=0, optimizer="momentum", lr=0.05), {}),
        "changes": (spec, {"lr_changes": [(300, 0.001), (800, 0.02)], "snapshots": 7}),
        "ensemble": ([spec.but(seed=seed, noise=0.05 * seed) for seed in range(4)], {"snapshots": 3}),
        "two ensembles": ([spec.but(width=width) for width in (4, 8)], {}),
        "diverges": ([spec.but(optimizer="sgd", lr=lr, loss="mse") for lr in (0.01, 100.0)], {}),
        "module": (spec, {"model": module()}),
    }


def train(case, folder=None, weights=0):
    import labkit

    spec, given = cases(weights)[case]
    return labkit.train(spec, checkpoint=folder, **given)


def kill(case, folder, bomb):
    """Train in another process until the bomb goes off."""
    script = SCRIPT.format(tests=str(TESTS), case=case, folder=str(folder), bomb=bomb)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert done.returncode == -signal.SIGKILL, (done.returncode, done.stderr[-2000:])
    assert os.listdir(folder)


def resumed(case, rng, folder):
    """Kill a training at a random step, or while it writes, and let it go on: to the same numbers."""
    folder.mkdir()
    bombs = [AT_STEP.format(step=rng.randrange(130, 1400)), WHILE_WRITING.format(writes=rng.randrange(2, 20))]
    kill(case, folder, rng.choice(bombs))
    assert numbers(train(case, folder, weights=1)) == numbers(train(case)), f"{case} went on to other numbers"


def numbers(runs):
    """Every number of some runs, as bytes."""
    found = []
    for run in runs if isinstance(runs, list) else [runs]:
        arrays = [run.loss, run.test_step, run.test_loss, run.score]
        found += [array.tobytes() for array in arrays] + [run.diverged, run.lr_changes]
        for module in (run.model(), run.initial_model()):
            found += [part.numpy().tobytes() for part in module.state_dict().values()]
        found += [run.path.steps.tobytes(), run.path.weights.numpy().tobytes()] if run.path else []
    return found
