"""Every update rule against `torch.optim`, over 200 steps."""

import pytest
import torch

from labkit.core.optimizers import Optimizer
from labkit.core.spec import OPTIMIZERS


def theirs(name, parameters, lr, l2):
    adam = {"lr": lr, "betas": (0.9, 0.999), "weight_decay": l2}
    return {
        "sgd": lambda: torch.optim.SGD(parameters, lr=lr, weight_decay=l2),
        "momentum": lambda: torch.optim.SGD(parameters, lr=lr, momentum=0.9, weight_decay=l2),
        "rmsprop": lambda: torch.optim.RMSprop(parameters, lr=lr, weight_decay=l2),
        "adam": lambda: torch.optim.Adam(parameters, **adam),
        "adamw": lambda: torch.optim.AdamW(parameters, **adam),
    }[name]()


def slope(w):  # of a bowl that is steep one way and flat another, with ripples
    return torch.linspace(0.1, 3, w.shape[-1], dtype=w.dtype) * w + 0.3 * torch.cos(3 * w)


@pytest.mark.parametrize("l2", [0.0, 0.1])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_rules_are_those_of_torch(name, l2):
    start = torch.randn(2, 11, generator=torch.Generator().manual_seed(0)).double()
    rates = torch.tensor([[0.01], [0.1]], dtype=torch.float64)
    ours = Optimizer(name, start.clone(), l2=l2)
    coefficients = ours.schedule(0, 200, rates)
    for step in range(200):
        ours.step(slope(ours.parameters), *coefficients[step])
    for member, lr in enumerate(rates[:, 0].tolist()):
        w = start[member].clone().requires_grad_()
        optimizer = theirs(name, [w], lr, l2)
        for _ in range(200):
            w.grad = slope(w.detach())
            optimizer.step()
        torch.testing.assert_close(ours.parameters[member], w.detach(), rtol=1e-6, atol=1e-9)


def test_l1_pulls_every_weight_towards_zero():
    ours = Optimizer("sgd", torch.tensor([[2.0, -3.0, 0.0]]), l1=0.5)
    ours.step(torch.zeros(1, 3), *ours.schedule(0, 1, torch.tensor([[0.1]]).double())[0].float())
    assert ours.parameters.tolist() == [[pytest.approx(1.95), pytest.approx(-2.95), 0.0]]


def test_schedule_goes_on_where_it_stopped():
    rule = Optimizer("adam", torch.zeros(1, 3))
    rate = torch.tensor([[0.01]], dtype=torch.float64)
    assert torch.equal(rule.schedule(0, 10, rate)[4:], rule.schedule(4, 6, rate))
