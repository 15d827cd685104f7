"""The ensemble's forward and backward pass against a naive reference: torch's autograd."""

import numpy as np
import pytest
import torch

from labkit.core.losses import Loss, as_columns
from labkit.core.network import ModuleNetwork, Network, count, draw, to_module, torch_order
from labkit.core.spec import ACTIVATIONS, LOSSES

MEMBERS, N, OUT = 3, 7, 4


def ensemble(depth, activation, residual=False, shape="constant"):
    hidden = [8 // 2**layer if shape == "funnel" else 6 for layer in range(depth)]
    widths = (5, *hidden, OUT)
    theta = torch.stack([draw(widths, "pytorch", np.random.default_rng(depth + k)) for k in range(MEMBERS)]).double()
    return Network(widths, activation, theta, residual=residual), torch.Generator().manual_seed(depth)


def by_hand(network, loss, x, target):
    prediction = network.forward(x, torch.empty_like(target))
    delta = loss.slope(prediction, target, network.delta).mul_(loss.scale(N, OUT))
    return network.backward(delta)


def by_autograd(network, member, loss, x, target):
    module = to_module(network.widths, network.activation, network.theta[member], residual=network.residual)
    loss(module(x[member]), target[member]).backward()
    linears = [layer for layer in module.modules() if isinstance(layer, torch.nn.Linear)]
    return torch.cat([part for layer in linears for part in (layer.weight.grad.T.reshape(-1), layer.bias.grad)])


def random_batch(rng, loss):
    x = torch.randn(MEMBERS, N, 5, generator=rng, dtype=torch.float64)
    if loss == "cross_entropy":
        return x, as_columns(torch.randint(OUT, (MEMBERS * N,), generator=rng), OUT).double().view(MEMBERS, N, OUT)
    return x, 2 * torch.randn(MEMBERS, N, OUT, generator=rng, dtype=torch.float64)


@pytest.mark.parametrize("depth", range(5))
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("loss", LOSSES)
def test_backward_by_hand_is_what_autograd_gives(loss, activation, depth):
    network, rng = ensemble(depth, activation)
    x, target = random_batch(rng, loss)
    loss = Loss(loss, huber_delta=0.7)
    ours = by_hand(network, loss, x, target)
    for member in range(MEMBERS):
        theirs = by_autograd(network, member, loss, x, target)
        torch.testing.assert_close(ours[member], theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("shape", ["constant", "funnel"])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("depth", [1, 2, 4])
def test_residual_backward_is_what_autograd_gives(depth, activation, shape):
    network, rng = ensemble(depth, activation, residual=True, shape=shape)
    x, target = random_batch(rng, "mse")
    ours = by_hand(network, Loss("mse"), x, target)
    for member in range(MEMBERS):
        theirs = by_autograd(network, member, Loss("mse"), x, target)
        torch.testing.assert_close(ours[member], theirs, rtol=1e-10, atol=1e-12)


def test_first_layer_of_equal_width_is_residual_too():
    theta = torch.randn(1, count((3, 3, 3, 1)), dtype=torch.float64)
    network = Network((3, 3, 3, 1), "tanh", theta, residual=True)
    x, target = torch.randn(1, N, 3).double(), torch.randn(1, N, 1).double()
    prediction = network.forward(x, torch.empty_like(target))
    ours = network.backward(Loss("mse").slope(prediction, target, network.delta).mul_(2 / N))[0]
    torch.testing.assert_close(ours, by_autograd(network, 0, Loss("mse"), x, target), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_are_those_of_torch(loss):
    rng = torch.Generator().manual_seed(0)
    _, target = random_batch(rng, loss)
    prediction = 3 * torch.randn(MEMBERS, N, OUT, generator=rng, dtype=torch.float64)
    loss = Loss(loss, huber_delta=0.7)
    theirs = torch.stack([loss(p, t) for p, t in zip(prediction, target, strict=True)])
    torch.testing.assert_close(loss.values(prediction, target), theirs)


def test_predict_agrees_with_forward_and_with_the_module():
    for residual in (False, True):
        network, rng = ensemble(3, "gelu", residual=residual)
        x, target = random_batch(rng, "mse")
        assert torch.equal(network.predict(x), network.forward(x, torch.empty_like(target)))
        module = to_module(network.widths, "gelu", network.theta[1], residual=residual)
        torch.testing.assert_close(network.predict(x)[1], module(x[1]).detach())


def test_a_module_goes_the_general_way_to_the_same_gradient():
    network, rng = ensemble(2, "tanh")
    x, target = random_batch(rng, "mse")
    module = to_module(network.widths, "tanh", network.theta[0])
    general = ModuleNetwork(module, torch.device("cpu"))
    prediction = general.forward(x[:1], torch.empty_like(target[:1]))
    slope = Loss("mse").slope(prediction, target[:1], general.delta).mul_(Loss("mse").scale(N, OUT))
    general.backward(slope)
    theirs = torch.cat([p.grad.reshape(-1) for p in module.parameters()])
    assert torch.equal(general.gradient[0], theirs)
    ours = by_hand(network, Loss("mse"), x, target)[0]
    torch.testing.assert_close(ours[torch_order(network.widths)], theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("init", "variance"), [("he", 2 / 200), ("xavier", 2 / 500), ("pytorch", 1 / 600)])
def test_first_weights_have_the_variance_they_claim(init, variance):
    theta = draw((200, 300), init, np.random.default_rng(0))
    assert theta[:60_000].var().item() == pytest.approx(variance, rel=0.02)
    assert (theta[60_000:].abs().max() == 0) == (init != "pytorch")
