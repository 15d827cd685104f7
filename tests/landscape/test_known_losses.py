"""Losses of torch.nn: as modules they are measured, refused and as quick as the functions are."""

import pytest
import torch
from torch import nn
from torch.nn import functional

import labkit
from labkit.landscape.batched_mlp import known

NET = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))
X, Y = torch.randn(40, 3), 2 * torch.randn(40, 2)
CLASSES = torch.arange(40) % 2


def plane_of(loss, y):
    u, v = labkit.random_directions(NET, seed=0)
    return labkit.plane(NET, loss, X, y, u, v, points=5).loss


@pytest.mark.parametrize(
    "module",
    [nn.MSELoss(), nn.HuberLoss(delta=0.3), nn.L1Loss(), nn.SmoothL1Loss(), nn.SmoothL1Loss(beta=0.2)],
    ids=repr,
)
def test_a_loss_of_numbers_is_known_and_right(module):
    assert known(module)
    assert plane_of(module, Y) == pytest.approx(plane_of(lambda p, t: module(p, t), Y), rel=1e-5)


def test_cross_entropy_is_known_without_options_alone():
    assert known(nn.CrossEntropyLoss()) and not known(nn.CrossEntropyLoss(label_smoothing=0.1))
    assert not known(nn.CrossEntropyLoss(weight=torch.ones(2))) and not known(nn.MSELoss(reduction="sum"))
    expected = plane_of(functional.cross_entropy, CLASSES)
    assert plane_of(nn.CrossEntropyLoss(), CLASSES) == pytest.approx(expected, rel=1e-6)
    smoothed = nn.CrossEntropyLoss(label_smoothing=0.1)
    assert plane_of(smoothed, CLASSES) == pytest.approx(plane_of(lambda p, t: smoothed(p, t), CLASSES), rel=1e-5)


@pytest.mark.parametrize(
    "loss",
    [nn.MSELoss(), nn.L1Loss(), nn.HuberLoss(), functional.l1_loss],
    ids=["MSELoss", "L1Loss", "HuberLoss", "l1_loss"],
)
def test_targets_that_torch_would_broadcast_are_refused(loss):
    with pytest.raises(ValueError, match="shape"):
        plane_of(loss, Y[:, 0])
