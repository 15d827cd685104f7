"""Directions: what they are drawn from, how long they are, and which plane lies closest to a path."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import nn
from torch.nn.utils import parameters_to_vector
from torch.utils.flop_counter import FlopCounterMode

import labkit
from labkit.core import devices
from labkit.core.runs import WeightPath
from labkit.core.seeds import STREAMS, generator
from labkit.landscape.directions import check, flat, moved, shaped, weights_of

SPEC = labkit.Spec(samples=80, width=6, depth=2, batch_size=16, steps=60, lr=0.02)
NORMALIZATIONS = ("filter", "layer", "none")


def convolutions(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = [nn.Conv2d(2, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Flatten(), nn.LayerNorm(20), nn.Linear(20, 3)]
        return nn.Sequential(*layers)


def filters(part):
    """The rows that belong to one unit each; a parameter with one dimension is one row."""
    return (part.flatten(1) if part.ndim > 1 else part.reshape(1, -1)).double()


def cosine(one, two):
    one, two = one.double().flatten(), two.double().flatten()
    return float(one @ two / (one.norm() * two.norm()))


@pytest.fixture(scope="module")
def run():
    return labkit.train(SPEC, snapshots=12)


@pytest.fixture(scope="module")
def sgd():
    return labkit.train(SPEC.but(optimizer="sgd", lr=0.1), snapshots=9)


# Random directions


def test_a_direction_has_an_entry_like_every_named_parameter():
    model = convolutions()
    for direction in labkit.random_directions(model):
        assert list(direction) == [name for name, _ in model.named_parameters()]
        for name, parameter in model.named_parameters():
            part = direction[name]
            assert (part.shape, part.dtype, part.device) == (parameter.shape, parameter.dtype, parameter.device)
            assert not part.requires_grad and not part.is_inference()


@pytest.mark.parametrize("normalize", NORMALIZATIONS)
def test_the_same_seed_draws_the_same_numbers_and_another_seed_others(normalize):
    model = convolutions()
    first, again = (torch.cat([flat(d) for d in labkit.random_directions(model, 3, normalize)]) for _ in range(2))
    other = torch.cat([flat(d) for d in labkit.random_directions(model, 4, normalize)])
    assert torch.equal(first, again)
    assert abs(cosine(first, other)) < 0.2  # of some 500 independent numbers


def test_what_is_drawn_does_not_depend_on_the_weights_or_their_precision():
    drawn = [labkit.random_directions(convolutions(seed), normalize="none")[0] for seed in (0, 1)]
    assert torch.equal(flat(drawn[0]), flat(drawn[1]))
    double = labkit.random_directions(convolutions().double(), normalize="none")[0]
    assert torch.equal(flat(double).float(), flat(drawn[0]))


def test_the_global_generators_are_left_alone():
    model = convolutions()
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    labkit.random_directions(model, seed=5)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)


def test_no_seed_draws_what_data_weights_or_batches_are_drawn_from():
    model = nn.Linear(3, 4, bias=False)  # so few numbers that torch draws the same in both precisions
    drawn = {flat(labkit.random_directions(model, seed, "none")[0])[:8].numpy().tobytes() for seed in range(9)}
    ours = {
        generator(seed, stream).normal(size=12).astype(np.float32)[:8].tobytes()
        for seed in range(3)
        for stream in STREAMS
    }
    assert len(drawn) == len(ours) == 9 and not drawn & ours


@pytest.mark.parametrize("orthogonal", [False, True])
def test_every_filter_is_as_long_as_the_models_own(orthogonal):
    model = convolutions()
    for direction in labkit.random_directions(model, orthogonal=orthogonal):
        for name, weight in weights_of(model).items():
            torch.testing.assert_close(
                filters(direction[name]).norm(dim=1), filters(weight).norm(dim=1), rtol=1e-6, atol=0
            )


@pytest.mark.parametrize("orthogonal", [False, True])
def test_every_layer_is_as_long_as_the_models_own(orthogonal):
    model = convolutions()
    for direction in labkit.random_directions(model, normalize="layer", orthogonal=orthogonal):
        for name, weight in weights_of(model).items():
            assert float(direction[name].double().norm()) == pytest.approx(float(weight.double().norm()), rel=1e-6)
    rows = filters(labkit.random_directions(model, normalize="layer")[0]["5.weight"]).norm(dim=1)
    assert (rows / filters(model[5].weight.detach()).norm(dim=1)).std() > 0.01  # which filters alone would not be


def test_without_normalisation_the_numbers_are_standard_normal():
    u, v = labkit.random_directions(nn.Linear(300, 200), normalize="none")
    for part in (flat(u).double(), flat(v).double()):
        assert abs(float(part.mean())) < 0.02 and float(part.std()) == pytest.approx(1, abs=0.01)
        assert float((part.abs() < 1).double().mean()) == pytest.approx(0.6827, abs=0.01)


@pytest.mark.parametrize("normalize", NORMALIZATIONS)
def test_two_random_directions_are_never_collinear(normalize):
    for seed in range(20):
        u, v = labkit.random_directions(convolutions(), seed, normalize)
        assert abs(cosine(flat(u), flat(v))) < 0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("normalize", NORMALIZATIONS)
def test_orthogonal_directions_are_truly_so(normalize, dtype):
    for model in (convolutions(), nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 2))):
        for seed in range(5):
            u, v = labkit.random_directions(model.to(dtype), seed, normalize, orthogonal=True)
            assert abs(cosine(flat(u), flat(v))) < 1e-7


def test_orthogonal_directions_are_so_in_every_filter():
    u, v = labkit.random_directions(convolutions(), orthogonal=True)
    for name in ("0.weight", "5.weight"):
        for one, two in zip(filters(u[name]), filters(v[name]), strict=True):
            assert abs(cosine(one, two)) < 1e-6
    rough, _ = labkit.random_directions(convolutions())
    assert torch.equal(flat(u), flat(rough))  # only the second is turned


def test_a_filter_of_one_number_leaves_no_room_for_a_second_direction():
    u, v = labkit.random_directions(nn.Linear(1, 4, bias=False), orthogonal=True)
    assert u["weight"].abs().min() > 0 and not v["weight"].any()


def test_biases_stay_where_they_are_on_request():
    model = convolutions()
    for direction in labkit.random_directions(model, biases=False):
        moving = {name for name, part in direction.items() if part.any()}
        assert moving == {"0.weight", "5.weight"}  # the scales of both norms have one dimension too


def test_zero_weights_give_a_zero_direction():
    model = convolutions()
    with torch.no_grad():
        model[5].bias.zero_()
        model[0].weight[2].zero_()
    u, v = labkit.random_directions(model)
    for direction in (u, v):
        assert not direction["5.bias"].any() and not direction["0.weight"][2].any()
        assert direction["0.weight"][1].any() and flat(direction).isfinite().all()


def test_a_parameter_without_dimensions_counts_as_one_number():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(-2.0))

    u, _ = labkit.random_directions(Scaled())
    assert u["scale"].shape == () and abs(float(u["scale"])) == pytest.approx(2)


def test_the_model_is_left_as_it_is():
    model = convolutions()
    before = [part.clone() for part in model.state_dict().values()]
    labkit.random_directions(model)
    assert all(torch.equal(*pair) for pair in zip(model.state_dict().values(), before, strict=True))


def test_weights_that_are_not_finite_make_directions_that_say_so_when_used():
    model = nn.Linear(2, 2)
    with torch.no_grad():
        model.weight.fill_(torch.inf)
    with pytest.raises(ValueError, match="not finite at 'weight': make it of a model whose weights are finite"):
        check(labkit.random_directions(model)[0], model, "u")


# Vectors and directions


def test_a_vector_and_a_direction_turn_into_each_other():
    model = convolutions().double()
    vector = torch.arange(sum(p.numel() for p in model.parameters()), dtype=torch.float64)
    assert torch.equal(flat(shaped(vector, model)), vector)
    assert torch.equal(flat(weights_of(model)), parameters_to_vector(model.parameters()))
    assert torch.equal(parameters_to_vector(moved(model, vector).parameters()), vector)


def test_a_direction_given_in_another_order_is_put_in_the_models():
    model = convolutions()
    u, _ = labkit.random_directions(model)
    assert torch.equal(flat(check(dict(reversed(u.items())), model, "u")), flat(u))


def test_a_step_along_the_way_between_two_models_arrives():
    a, b, c = (convolutions(seed).double() for seed in range(3))
    to_b, to_c = labkit.between(a, b, c)
    for way, other in ((to_b, b), (to_c, c)):
        torch.testing.assert_close(flat(weights_of(a)) + flat(way), flat(weights_of(other)), rtol=0, atol=1e-15)


# The principal plane of paths


def assert_same_up_to_sign(direction, axis):
    vector = flat(direction).double().numpy()
    assert min(np.abs(vector - axis).max(), np.abs(vector + axis).max()) < 1e-6


def test_principal_directions_are_those_of_sklearn(run):
    found = labkit.principal_directions(run.model(), run.path)
    pca = PCA(svd_solver="full").fit(run.path.weights.double().numpy())
    assert_same_up_to_sign(found.u, pca.components_[0])
    assert_same_up_to_sign(found.v, pca.components_[1])
    assert len(found.explained) == len(run.path.steps) and found.explained.sum() == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(found.explained, pca.explained_variance_ratio_, atol=1e-12)
    np.testing.assert_allclose(flat(weights_of(found.centre)).numpy(), pca.mean_, atol=1e-6)


def test_principal_directions_in_float64_are_those_of_sklearn_to_rounding():
    rng = np.random.default_rng(0)
    points = rng.standard_normal((15, 51)) * np.r_[5, 3, np.ones(49)]
    found = labkit.principal_directions(nn.Linear(16, 3).double(), WeightPath(np.arange(15), torch.tensor(points)))
    pca = PCA(svd_solver="full").fit(points)
    for direction, axis in zip((found.u, found.v), pca.components_, strict=False):
        vector = flat(direction).numpy()
        assert min(np.abs(vector - axis).max(), np.abs(vector + axis).max()) < 1e-12
    np.testing.assert_allclose(found.explained, pca.explained_variance_ratio_, atol=1e-14)


def test_one_plane_is_fitted_to_several_paths_together(run, sgd):
    found = labkit.principal_directions(run.model(), run.path, sgd.path)
    pca = PCA(svd_solver="full").fit(torch.cat([run.path.weights, sgd.path.weights]).double().numpy())
    assert_same_up_to_sign(found.u, pca.components_[0])
    assert_same_up_to_sign(found.v, pca.components_[1])
    np.testing.assert_allclose(found.explained, pca.explained_variance_ratio_, atol=1e-12)


def test_principal_directions_have_length_1_and_are_perpendicular(run):
    found = labkit.principal_directions(run.model(), run.path)
    assert float(flat(found.u).norm()) == pytest.approx(1, abs=1e-6)
    assert float(flat(found.v).norm()) == pytest.approx(1, abs=1e-6)
    assert abs(cosine(flat(found.u), flat(found.v))) < 1e-6


def test_the_principal_plane_does_not_depend_on_the_model_that_is_given(run):
    ends = [labkit.principal_directions(model, run.path) for model in (run.model(), run.initial_model())]
    assert torch.equal(flat(ends[0].u), flat(ends[1].u))
    assert torch.equal(flat(weights_of(ends[0].centre)), flat(weights_of(ends[1].centre)))


def test_threads_for_the_principal_plane_follow_the_work(run, monkeypatch):
    asked = []
    monkeypatch.setattr(devices, "threads_for", lambda flops: asked.append(flops) or 1)
    with FlopCounterMode(display=False) as counted:
        labkit.principal_directions(run.model(), run.path)
    (work,) = asked
    assert counted.get_total_flops() / 2 < work < counted.get_total_flops()  # the products of all pairs of points


# What is refused


def no_parameters():
    labkit.random_directions(nn.ReLU())


def two_devices():
    labkit.random_directions(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2, device="meta")))


def two_dtypes():
    labkit.random_directions(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).double()))


def no_floats():
    labkit.random_directions(nn.Linear(2, 2, dtype=torch.complex64))


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (no_parameters, "no parameters"),
        (two_devices, "several devices: cpu, meta"),
        (two_dtypes, "several dtypes: torch.float32, torch.float64"),
        (no_floats, "not floating-point"),
        (lambda: labkit.random_directions(labkit.Spec()), "a Spec; give a torch.nn.Module"),
        (
            lambda: labkit.random_directions(nn.Linear(2, 2), normalize="fliter"),
            "normalize takes one of filter, layer, none. Did you mean 'filter'",
        ),
        (lambda: labkit.random_directions(nn.Linear(2, 2), normalize=None), "takes one of filter, layer, none"),
        (lambda: labkit.random_directions(nn.Linear(2, 2), seed=-1), "seed=-1 is not allowed"),
        (lambda: labkit.random_directions(nn.Linear(2, 2), seed=True), "seed=True is not allowed"),
        (lambda: labkit.random_directions(nn.Linear(2, 2), seed=0.5), "seed=0.5 is not allowed"),
        (lambda: shaped(torch.zeros(5), nn.Linear(2, 2)), r"shape \(5,\); this model needs \(6,\)"),
        (lambda: labkit.between(nn.Linear(2, 2), nn.Linear(2, 3)), "towards model 2 has shape"),
        (lambda: labkit.between(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2, bias=False)), "model 3 .* in bias"),
        (lambda: labkit.between(nn.Linear(2, 2), nn.Linear(2, 2).double()), "towards model 2 has dtype"),
    ],
)
def test_what_makes_no_direction_is_refused(call, says):
    with pytest.raises(ValueError, match=says):
        call()


def straight(points, like, stride=1.0):
    """A path that leads from a network straight on."""
    start, way = like.weights[0], torch.randn(like.weights.shape[1], generator=torch.Generator().manual_seed(0))
    return WeightPath(np.arange(points), torch.stack([start + k * stride * way for k in range(points)]))


def test_paths_that_span_no_plane_are_refused(run):
    model = run.model()
    for points in (1, 2, 7):
        with pytest.raises(ValueError, match=f"{points} points that span no plane"):
            labkit.principal_directions(model, straight(points, run.path))
    with pytest.raises(ValueError, match="span no plane"):  # here rounding is all that leads off the line
        labkit.principal_directions(model, straight(7, run.path, stride=1e-4))
    standing = WeightPath(np.arange(4), run.path.weights[:1].expand(4, -1))
    with pytest.raises(ValueError, match="span no plane"):
        labkit.principal_directions(model, standing)


def test_what_is_no_path_of_the_model_is_refused(run):
    for paths in ((), (None,), (run.path, None), ([run.path],), (run,)):
        with pytest.raises(ValueError, match="a path is missing"):
            labkit.principal_directions(run.model(), *paths)
    wider = labkit.train(SPEC.but(width=7, steps=2), snapshots=2)
    with pytest.raises(ValueError, match="the path is of 93 weights and the model has 74"):
        labkit.principal_directions(run.model(), run.path, wider.path)
