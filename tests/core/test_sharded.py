"""The torchrun example of notebook 07: a network cut over two processes trains to the numbers of one."""

import importlib.util
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT
from safetensors.torch import load_file

import labkit

SCRIPT = ROOT / "notebooks" / "sharded_training.py"
SPEC = labkit.Spec(
    dataset="moons", samples=100, depth=3, width=8, residual=True, batch_size=16, l1=0.001, l2=0.01, steps=60,
    device="cpu",
)  # fmt: skip


def test_two_processes_train_to_the_numbers_of_one(tmp_path):
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", SCRIPT, SPEC.share(), tmp_path]
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, *command], env=env, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    run, facts = labkit.train(SPEC), json.loads((tmp_path / "facts.json").read_text())
    np.testing.assert_allclose(facts["loss"], run.loss, rtol=1e-4)
    assert run.loss[-1] < 0.7 * run.loss[0]
    weights = load_file(tmp_path / "weights.safetensors")
    for name, value in run.model().state_dict().items():
        torch.testing.assert_close(weights[name], value, rtol=1e-3, atol=1e-4)
    whole = 16 * labkit.cost(SPEC).parameters  # weights, gradients and two moments
    assert sum(facts["bytes"]) == whole and max(facts["bytes"]) < 0.6 * whole


def test_a_batch_that_has_no_equal_shares_is_refused_in_a_sentence():
    example = importlib.util.spec_from_file_location("sharded_training", SCRIPT)
    module = importlib.util.module_from_spec(example)
    example.loader.exec_module(module)
    with pytest.raises(ValueError, match=r"2 processes cannot share a batch of 31 equally\. Choose a number that"):
        next(module.shares(SPEC.but(batch_size=31), 80, rank=0, ranks=2))
    rows = [next(module.shares(SPEC.but(batch_size=0), 80, rank, ranks=2)).tolist() for rank in (0, 1)]
    assert rows[0] + rows[1] == list(range(80))


def test_it_knows_every_optimizer():
    assert all(f'"{name}"' in SCRIPT.read_text() for name in labkit.core.spec.OPTIMIZERS)
