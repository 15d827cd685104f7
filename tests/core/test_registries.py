"""Every option is one row of one registry, and an unknown name is refused where it is met, in every module."""

import ast

import numpy as np
import pytest
import torch
from conftest import ROOT
from torch import nn
from torch.nn import functional

import labkit
from labkit.core import costs, data, losses, network, optimizers, spec
from labkit.core.losses import Loss
from labkit.core.network import Network, count, draw, to_module
from labkit.core.optimizers import Optimizer
from labkit.landscape import batched_mlp, mode_connectivity

PAIRS = {
    "loss": (spec.LOSSES, losses.LOSSES),
    "optimizer": (spec.OPTIMIZERS, optimizers.RULES),
    "activation": (spec.ACTIVATIONS, network.ACTIVATIONS),
    "init": (spec.INITS, network.INITS),
    "dataset": (spec.DATASETS, data._MAKERS),
}
WIDTHS = (2, 3, 1)
THETA = torch.zeros(1, count(WIDTHS))
MEETS = {  # where a name is met beside `Spec`
    "Loss": ("loss", Loss),
    "outputs_of": ("loss", lambda name: costs.outputs_of(2, name)),
    "targets": ("loss", lambda name: data._targets(torch.tensor([0, 1]), 2, name)),
    "Optimizer": ("optimizer", lambda name: Optimizer(name, THETA)),
    "draw": ("init", lambda name: draw(WIDTHS, name, np.random.default_rng())),
    "Network": ("activation", lambda name: Network(WIDTHS, name, THETA)),
    "to_module": ("activation", lambda name: to_module(WIDTHS, name, THETA[0])),
    "to_module, linear": ("activation", lambda name: to_module((2, 1), name, torch.zeros(3))),
}
UNKNOWN = ["", "Adam", "MSE", "husker", "relu ", "he2", "adam_w", "selu2", "muon", None, 3, True, ["mse"]]


@pytest.mark.parametrize("kind", PAIRS)
def test_names_and_their_rows_agree(kind):
    names, rows = PAIRS[kind]
    assert list(names) == list(rows) and list(spec.RULES[kind].options) == list(names)


def test_an_optimizer_keeps_as_many_numbers_as_its_cost_counts():
    assert {name: len(rule.states) for name, rule in optimizers.RULES.items()} == {
        name: each.states for name, each in spec.OPTIMIZERS.items()
    }


@pytest.mark.parametrize("unknown", UNKNOWN, ids=repr)
@pytest.mark.parametrize("where", MEETS)
def test_an_unknown_name_is_refused_where_it_is_met(where, unknown):
    kind, meet = MEETS[where]
    with pytest.raises(
        ValueError, match=rf"^{kind}=.* is not allowed: {kind} takes one of {next(iter(PAIRS[kind][0]))}"
    ):
        meet(unknown)


@pytest.mark.parametrize("where", MEETS)
def test_every_known_name_is_taken_and_a_near_miss_is_named(where):
    kind, meet = MEETS[where]
    for name in PAIRS[kind][0]:
        meet(name)
        with pytest.raises(ValueError, match=rf"Did you mean '{name}'\?$"):
            meet(name + "x")


@pytest.mark.parametrize("kind", [kind for kind in PAIRS if kind != "dataset"])
def test_every_option_gives_numbers_of_its_own(kind):
    base = spec.Spec(
        dataset="moons", samples=60, width=5, steps=12, optimizer="momentum", lr=0.1, l2=0.01, loss="huber"
    )
    found = {labkit.train(base.but(**{kind: name})).loss.tobytes() for name in PAIRS[kind][0]}
    assert len(found) == len(PAIRS[kind][0])


def test_the_landscape_knows_every_activation_and_which_are_odd():
    z = torch.linspace(-3, 3, 13)
    for name, row in network.ACTIVATIONS.items():
        module = row.module()
        assert row.module in batched_mlp.ELEMENTWISE, name
        is_odd = torch.allclose(module(-z), -module(z))
        assert row.odd == is_odd == (row.module in mode_connectivity.ODD), name
        value = z.clone() if row.value is None else row.value(z, torch.empty_like(z))
        torch.testing.assert_close(value, module(z))


def test_the_landscape_knows_every_loss():
    of_torch = {
        "mse": (functional.mse_loss, nn.MSELoss()),
        "cross_entropy": (functional.cross_entropy, nn.CrossEntropyLoss()),
        "huber": (functional.huber_loss, nn.HuberLoss()),
    }
    assert set(of_torch) == set(spec.LOSSES)
    for name, ways in of_torch.items():
        for way in (*ways, losses.Loss(name)):
            assert batched_mlp.known(way).classes_only == spec.LOSSES[name].classes_only


@pytest.mark.parametrize("path", sorted((ROOT / "labkit").rglob("*.py")), ids=lambda path: path.stem)
def test_no_code_asks_for_an_option_by_its_name(path):
    """What differs between options stands in their rows: a chain of comparisons lets an unknown name through."""
    names = {name for kind in PAIRS if kind != "dataset" for name in PAIRS[kind][0]}
    compared = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Compare)]
    words = {part.value for node in compared for part in ast.walk(node) if isinstance(part, ast.Constant)}
    assert words & names == set()


def test_a_loss_of_a_spec_is_the_one_that_it_names():
    for name in spec.LOSSES:
        loss = Loss.of(spec.Spec(loss=name, huber_delta=0.3))
        assert (loss.name, loss.delta) == (name, 0.3)
