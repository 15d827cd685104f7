"""The layer-by-layer signal: by hand on a small network, by theory on wide ones, and what has no signal."""

import pytest
import torch
from torch import nn

import labkit
from labkit.core.spec import Spec
from labkit.plots import charts

X = torch.randn(64, 5, generator=torch.Generator().manual_seed(0))


def test_it_is_what_a_loop_over_the_layers_gives():
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3))
    seen = labkit.signal(model, X)
    with torch.no_grad():
        first = model[0](X)
        sums = [first, model[2](first.relu())]
    for k, each in enumerate(sums):
        assert seen.square[k] == pytest.approx(float(each.square().mean()), rel=1e-5)
        assert seen.variance[k] == pytest.approx(float(each.var(0).mean()), rel=1e-5)
        assert seen.dead_fraction[k] == (each <= 0).all(0).float().mean()
    assert not any(module._forward_hooks for module in model.modules())


def test_a_unit_that_no_sample_switches_on_is_off_and_a_bias_does_not_vary():
    model = nn.Linear(5, 2)
    with torch.no_grad():
        model.weight.zero_()
        model.bias.copy_(torch.tensor([-1.0, 2.0]))
    seen = labkit.signal(model, X)
    assert (seen.square[0], seen.variance[0], seen.dead_fraction[0]) == (2.5, 0, 0.5)
    assert "1 layers" in repr(seen)


def test_residual_networks_of_the_lab_have_a_signal_in_every_layer():
    run = labkit.train(Spec(samples=60, width=6, depth=4, batch_size=16, steps=3, residual=True))
    assert len(labkit.signal(run.initial_model(), run.data.x_train).variance) == 5


@pytest.mark.parametrize(
    ("model", "x", "words"),
    [(nn.Linear(5, 2), X[:1], "1 samples: a variance"), (nn.ReLU(), X, "ReLU has no linear layer")],
)
def test_what_has_no_signal_is_refused(model, x, words):
    with pytest.raises(ValueError, match=words):
        labkit.signal(model, x)


def test_hooks_are_taken_away_when_the_model_fails():
    model = nn.Sequential(nn.Linear(5, 7), nn.Linear(6, 3))
    with pytest.raises(RuntimeError):
        labkit.signal(model, X)
    assert not any(module._forward_hooks for module in model.modules())


def test_the_chart_has_a_line_for_each_and_a_log_axis():
    seen = labkit.signal(nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3)), X)
    figure = charts.signal({"one": seen, "two": seen})
    assert [trace.name for trace in figure.data] == ["one", "two"] and figure.layout.yaxis.type == "log"
    assert list(figure.data[0].y) == list(seen.variance)
