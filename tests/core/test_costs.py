"""Costs by formula against what torch itself counts."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import labkit
from labkit.core.costs import outputs_of, widest, widths_of
from labkit.core.network import count, to_module
from labkit.core.spec import OPTIMIZERS, Spec

SPECS = {
    "the article's": Spec.article(),
    "the default": Spec(),
    "linear": Spec(depth=0, batch_size=7),
    "linear, many classes": Spec(dataset="digits", depth=0),
    "one hidden layer": Spec(dataset="plane", loss="huber", depth=1, width=5, batch_size=1),
    "a funnel down to one unit": Spec(dataset="digits", depth=7, width=20, shape="funnel", batch_size=0),
    "one input": Spec(dataset="chebyshev", loss="mse", batch_size=0, width=33),
    "two classes, one output": Spec(dataset="moons", loss="mse", samples=100, batch_size=0),
}


def torch_counts(spec):
    """Parameters, forward and step operations as torch counts them."""
    widths = widths_of(spec)
    model = to_module(widths, spec.activation, torch.zeros(count(widths)))
    x = torch.zeros(spec.batch_size or spec.training_samples, widths[0])
    with FlopCounterMode(display=False) as forward:
        out = model(x)
    with FlopCounterMode(display=False) as backward:
        out.sum().backward()
    return (
        sum(p.numel() for p in model.parameters()),
        forward.get_total_flops(),
        forward.get_total_flops() + backward.get_total_flops(),
    )


@pytest.mark.parametrize("name", SPECS)
def test_counts_are_those_of_torch(name):
    cost = labkit.cost(SPECS[name])
    assert (cost.parameters, cost.flops_forward, cost.flops_step) == torch_counts(SPECS[name])
    assert cost.bytes == 4 * cost.parameters
    assert {type(number) for number in vars(cost).values()} == {int}


def test_the_article_network_costs_what_its_notebook_says():
    cost = labkit.cost(Spec.article())
    assert (cost.parameters, cost.bytes, cost.flops_step) == (699_905, 2_799_620, 805_068_800)
    assert cost.flops_forward == 2 * 256 * (cost.parameters - 1009)  # 1,009 biases


def test_operations_grow_with_the_batch_alone():
    one, ten = (labkit.cost(Spec(), batch=batch) for batch in (1, 10))
    assert (ten.flops_step, ten.flops_forward) == (10 * one.flops_step, 10 * one.flops_forward)
    assert ten.parameters == one.parameters and ten.bytes_training > one.bytes_training


def test_training_needs_room_for_the_optimizer_too():
    need = {name: labkit.cost(Spec(optimizer=name, width=500, batch_size=1)).bytes_training for name in OPTIMIZERS}
    assert need["sgd"] < need["momentum"] == need["rmsprop"] < need["adam"] == need["adamw"]
    assert need["sgd"] > 3 * labkit.cost(Spec(width=500)).bytes


@pytest.mark.parametrize(
    ("classes", "loss", "outputs"),
    [(0, "mse", 1), (0, "huber", 1), (2, "mse", 1), (2, "huber", 1), (2, "cross_entropy", 2), (3, "mse", 3)],
)
def test_outputs_follow_the_classes_and_the_loss(classes, loss, outputs):
    assert outputs_of(classes, loss) == outputs


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("1,2,3\n" * 10)
    return Spec(dataset=f"csv:{path}", batch_size=5)


def test_the_cost_of_a_csv_asks_for_its_ends(table):
    for ends in ({}, {"inputs": 2}, {"outputs": 2}):
        with pytest.raises(ValueError, match="depends on its columns: give inputs and outputs too"):
            labkit.cost(table, **ends)
    with pytest.raises(ValueError, match="give batch too"):
        labkit.cost(table.but(batch_size=0), inputs=2, outputs=2)


def test_the_cost_of_a_csv_with_its_ends_is_that_of_the_same_network(table):
    assert labkit.cost(table, inputs=2, outputs=2) == labkit.cost(Spec(batch_size=5))
    assert labkit.cost(table.but(batch_size=0), inputs=2, outputs=2, batch=5) == labkit.cost(Spec(batch_size=5))


@pytest.mark.parametrize("shape", ["constant", "funnel"])
def test_widest_is_the_last_width_that_fits(shape):
    spec = Spec(width=1000, shape=shape)
    for allowance in (10_000, 300_000, 5_000_000):
        fits = widest(spec, allowance)
        assert labkit.cost(spec.but(width=fits)).bytes_training <= allowance
        assert labkit.cost(spec.but(width=fits + 1)).bytes_training > allowance
    assert widest(spec, 10) == 0
    assert widest(spec, 10**12) == 1000
