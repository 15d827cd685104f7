"""Data sets: what every loss is given, how it is scaled, and what a user-supplied table or arrays may hold."""

import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from labkit.core.data import load_data, teacher
from labkit.core.seeds import generator
from labkit.core.spec import DATASETS, LOSSES, Spec

NAMES = [name for name in DATASETS if name != "chebyshev"]


def spec_of(name, loss=None, **changes):
    loss = loss or ("cross_entropy" if DATASETS[name].classes else "mse")
    return Spec(dataset=name, **{"loss": loss, "samples": 200, "batch_size": 5} | changes)


def pairings():
    return [(name, loss) for name in DATASETS for loss in LOSSES if DATASETS[name].classes or loss != "cross_entropy"]


def everything(split):
    return [split.x_train, split.y_train, split.x_test, split.y_test]


def same(a, b):
    return all(torch.equal(*pair) for pair in zip(everything(a), everything(b), strict=True))


# The lab's own sets


@pytest.mark.parametrize(("name", "loss"), pairings())
def test_every_loss_is_given_the_targets_it_takes(name, loss):
    spec, known = spec_of(name, loss), DATASETS[name]
    split = load_data(spec)
    size, train = known.size or 200, spec.training_samples
    classes, y = known.classes, torch.cat([split.y_train, split.y_test])
    assert (len(split.x_train), len(split.x_test)) == (train, size - train)
    assert split.x_train.shape[1] == split.x_test.shape[1] == split.inputs == (known.inputs or spec.inputs)
    assert split.x_train.dtype == split.x_test.dtype == torch.float32
    assert split.classes == classes
    if loss == "cross_entropy":
        assert (y.dtype, y.shape, split.outputs) == (torch.int64, (size,), classes)
        assert y.unique().tolist() == list(range(classes))
        return
    assert y.dtype == torch.float32 and y.shape == (size, split.outputs)
    if classes == 2:
        assert y.unique().tolist() == [-1, 1] and split.outputs == 1
    elif classes:
        assert y.unique().tolist() == [0, 1] and (y.sum(1) == 1).all() and split.outputs == classes
    else:
        assert split.outputs == 1 and len(y.unique()) > 5


@pytest.mark.parametrize("name", NAMES)
def test_inputs_are_standardised_by_the_training_part_alone(name):
    split = load_data(spec_of(name, samples=60, train_share=0.5))
    mean, spread = split.x_train.mean(0), split.x_train.std(0, correction=0)
    torch.testing.assert_close(mean, torch.zeros_like(mean), atol=1e-5, rtol=0)
    assert all(s == pytest.approx(1, abs=1e-4) or s < 1e-3 for s in spread.tolist())  # digits have constant pixels
    assert split.x_test.mean(0).abs().max() > 1e-3  # the test part has moments of its own
    raw = split.raw(split.x_train)
    torch.testing.assert_close(raw.mean(0), split.x_mean, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(split.scale(raw), split.x_train, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_data_and_another_seed_others(name):
    spec = spec_of(name)
    assert same(load_data(spec), load_data(spec))
    assert not torch.equal(load_data(spec).x_train, load_data(spec.but(seed=1)).x_train)
    untouched = {"lr": 0.5, "depth": 1, "init": "pytorch", "optimizer": "sgd", "batch_size": 0, "steps": 7}
    assert same(load_data(spec), load_data(spec.but(**untouched)))


@pytest.mark.parametrize("name", DATASETS)
def test_torch_own_random_numbers_are_left_alone(name):
    before = torch.random.get_rng_state()
    load_data(spec_of(name))
    assert torch.equal(before, torch.random.get_rng_state())


def test_the_three_streams_of_neighbouring_seeds_are_all_different():
    first = {generator(seed, stream).random() for seed in range(5) for stream in ("data", "init", "batches")}
    assert len(first) == 15
    assert generator(2**32 - 1, "batches")


@pytest.mark.parametrize("name", ["circle", "xor", "gauss", "spiral", "moons", "digits"])
def test_noise_spreads_the_inputs(name):
    spread = [load_data(spec_of(name, noise=noise, samples=2000)).x_scale.mean() for noise in (0, 0.5, 2)]
    assert spread[0] < spread[1] < spread[2]


@pytest.mark.parametrize("name", ["plane", "bumps", "teacher"])
def test_noise_of_a_regression_is_in_the_targets_and_of_known_size(name):
    quiet, noisy = (load_data(spec_of(name, noise=noise, samples=4000)) for noise in (0, 0.5))
    assert torch.equal(quiet.x_train, noisy.x_train)
    assert (noisy.y_train - quiet.y_train).std().item() == pytest.approx(0.5, rel=0.05)


@pytest.mark.parametrize("name", ["circle", "xor", "spiral", "moons", "gauss"])
def test_without_noise_the_classes_can_be_told_apart(name):
    split = load_data(spec_of(name, noise=0, samples=2000))
    nearest = torch.cdist(split.x_test, split.x_train).argmin(1)
    agree = (split.y_train[nearest] == split.y_test).float().mean().item()
    assert agree > 0.97


def test_two_classes_are_balanced():
    for name in ("circle", "gauss", "spiral", "moons"):
        split = load_data(spec_of(name))
        assert torch.cat([split.y_train, split.y_test]).sum() == 100


def test_chebyshev_is_the_polynomial_itself():
    for spec in (spec_of("chebyshev", noise=3, samples=1000, seed=9), spec_of("chebyshev", "huber", train_share=0.1)):
        split = load_data(spec)
        x = split.x_train[:, 0].double()
        assert torch.equal(split.x_train[:, 0], torch.linspace(-1, 1, 20, dtype=torch.float64).float())
        torch.testing.assert_close(split.y_train[:, 0].double(), torch.cos(4 * torch.acos(x)), atol=1e-6, rtol=0)
        assert len(split.x_test) == len(split.y_test) == 0
        assert torch.equal(split.scale(split.x_train), split.x_train)


def test_the_teacher_answers_with_mean_0_and_variance_1():
    for inputs in (1, 2, 50, 1024):
        x = torch.randn(20_000, inputs, generator=torch.Generator().manual_seed(5))
        y = teacher(inputs)(x)
        assert y.mean().item() == pytest.approx(0, abs=0.06)
        assert y.var().item() == pytest.approx(1, abs=0.08)
        assert torch.equal(teacher(inputs)(x[:9]), teacher(inputs)(x[:9]))


def test_no_network_beats_the_noise_of_the_teacher():
    spec = spec_of("teacher", inputs=5, noise=0.3, samples=10_000)
    split = load_data(spec)
    floor = (teacher(5)(split.raw(split.x_test).float()) - split.y_test[:, 0]).square().mean().item()
    assert floor == pytest.approx(0.3**2, rel=0.1)


def test_digits_are_those_of_sklearn():
    theirs = load_digits()
    split = load_data(spec_of("digits", noise=0))
    x = split.raw(torch.cat([split.x_train, split.x_test])).round().numpy()
    ours = sorted(zip(map(bytes, x.astype(np.uint8)), torch.cat([split.y_train, split.y_test]).tolist(), strict=True))
    assert ours == sorted(zip(map(bytes, theirs.data.astype(np.uint8)), theirs.target.tolist(), strict=True))


def test_repr_tells_the_sizes():
    assert repr(load_data(spec_of("moons"))) == "Split: 160 training and 40 test samples, 2 inputs, 2 classes"
    assert repr(load_data(spec_of("plane"))).endswith("regression")


# User-supplied tables

ROWS = [f"{row},{row * row % 7},{row % 2}" for row in range(20)]


@pytest.fixture
def table(tmp_path):
    """Writes a csv and returns the spec that reads it."""

    def write(text, **changes):
        path = tmp_path / "my table.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return Spec(dataset=f"csv:{path}", **{"batch_size": 4} | changes)

    return write


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(ROWS),
        "\n".join(ROWS) + "\n\n\n",
        "height,weight,class\n" + "\n".join(ROWS),
        "\ufeffheight,weight,class\n" + "\n".join(ROWS),
        "\ufeff" + "\n".join(ROWS),
        '"height, in m","的",class\r\n' + "\r\n".join(ROWS),
        "\n".join(",".join(f'"{cell}"' for cell in row.split(",")) for row in ROWS),
        "\n\n" + "\n , ,\n".join(row.replace(",", " , ") for row in ROWS),
    ],
    ids=["plain", "blank end", "header", "BOM and header", "BOM", "quoted header", "quoted", "blank lines"],
)
def test_a_table_is_read_however_it_was_saved(table, text):
    split = load_data(table(text))
    raw = torch.cat([split.raw(split.x_train), split.raw(split.x_test)])
    back = sorted((round(a), round(b)) for a, b in raw.tolist())
    assert back == [(row, row * row % 7) for row in range(20)]
    assert (split.classes, split.labels, len(split.x_train)) == (2, (0.0, 1.0), 16)
    assert split.y_train.dtype == torch.int64


def changed(row, text):
    return "\n".join([*ROWS[:row], text, *ROWS[row + 1 :]])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (changed(4, "1,red,0"), ["line 5, column 2", "'red'", "not a finite number", "Write text as numbers"]),
        (changed(4, "1,nan,0"), ["line 5, column 2", "'nan'", "not a finite number"]),
        (changed(4, "1,-inf,0"), ["line 5, column 2", "'-inf'", "not a finite number"]),
        (changed(4, "1,1e400,0"), ["line 5, column 2", "'1e400'", "not a finite number"]),
        (changed(4, "1,1e39,0"), ["line 5, column 2", "'1e39'", "not a finite number"]),
        (changed(4, "1,,0"), ["line 5, column 2", "is empty", "Fill the gap, or leave the line out"]),
        (changed(4, "1,2, "), ["line 5, column 3", "is empty"]),
        (changed(4, "1,2"), ["line 5", "2 cells where the first has 3", "Mend that line"]),
        (changed(4, "1,2,0,5"), ["line 5", "4 cells where the first has 3"]),
        ("a,b,c\n" + changed(4, "1,red,0"), ["line 6, column 2"]),
        ("\n\n" + changed(4, "1,red,0"), ["line 7, column 2"]),
        ('"a\nb",b,c\n' + changed(4, "1,red,0"), ["line 7, column 2"]),
        ("a,b,1\n" + "\n".join(ROWS), ["line 1, column 1", "'a'"]),
        ("\n".join(f"{row},3" for row in range(20)), ["every target is 3", "one class", "at least two"]),
        ("\n".join(ROWS[:9]), ["9 rows", "at least 10"]),
        ("", ["0 rows", "at least 10"]),
        ("\n" * 50, ["0 rows"]),
        ("\n".join(map(str, range(20))), ["one column", "the target last", "commas"]),
        ("\n".join(row.replace(",", ";") for row in ROWS), ["one column", "commas"]),
        ("\n".join(ROWS).encode("utf-16"), ["not a text table", "Save it as CSV in UTF-8"]),
        ("größe,b,c\n".encode("latin-1") + "\n".join(ROWS).encode(), ["not a text table", "Save it as CSV in UTF-8"]),
        (bytes(range(256)) * 9, ["not a text table"]),
    ],
)
def test_what_is_wrong_with_a_table_is_told_with_its_place(table, text, words):
    spec = table(text)
    with pytest.raises(ValueError) as refused:
        load_data(spec)
    said = str(refused.value)
    assert [word for word in ["my table.csv", *words] if word not in said] == []
    assert "\n" not in said


def test_a_batch_larger_than_a_table_is_refused(table):
    with pytest.raises(ValueError, match=r"batch_size=17 is not allowed: there are 16 training samples. Take 1 to 16"):
        load_data(table("\n".join(ROWS), batch_size=17))
    assert len(load_data(table("\n".join(ROWS), batch_size=16)).x_train) == 16


def test_a_table_with_a_regression_takes_no_cross_entropy(table):
    text = "\n".join(f"{row},{row / 3}" for row in range(20))
    with pytest.raises(ValueError, match="cross_entropy' is not allowed: the targets are no classes"):
        load_data(table(text))
    split = load_data(table(text, loss="mse"))
    assert (split.classes, split.outputs) == (0, 1)


# User-supplied arrays

X = np.random.default_rng(0).normal(5, 3, (40, 3))
CLASSES = np.tile([3, 7], 20)


def own(x, y, **changes):
    return load_data(Spec(**{"batch_size": 4} | changes), (x, y))


@pytest.mark.parametrize(
    "wrap",
    [np.asarray, list, torch.as_tensor, lambda a: np.asarray(a, dtype=np.float16)],
    ids=["array", "list", "tensor", "float16"],
)
def test_classes_keep_their_labels(wrap):
    split = own(wrap(X), wrap(CLASSES))
    assert (split.classes, split.labels, split.outputs) == (2, (3.0, 7.0), 2)
    assert torch.cat([split.y_train, split.y_test]).bincount().tolist() == [20, 20]
    assert own(X, CLASSES, loss="mse").y_train.unique().tolist() == [-1, 1]


def test_rows_and_targets_stay_together():
    x = np.arange(40.0).reshape(-1, 1)
    split = own(x, x[:, 0] % 2, train_share=0.5)
    assert torch.equal(split.raw(split.x_train).round().long()[:, 0] % 2, split.y_train)
    assert torch.equal(split.raw(split.x_test).round().long()[:, 0] % 2, split.y_test)


@pytest.mark.parametrize(("loss", "outputs"), [("cross_entropy", 3), ("mse", 3), ("huber", 3)])
def test_one_hot_targets_are_classes(loss, outputs):
    number = np.arange(40) % 3
    split, plain = own(X, np.eye(3)[number], loss=loss), own(X, number, loss=loss)
    assert (split.classes, split.outputs) == (3, outputs)
    assert same(split, plain)


@pytest.mark.parametrize("column", [False, True])
def test_a_regression_is_scaled_from_its_training_part(column):
    y = 100 + 20 * np.random.default_rng(1).normal(size=(40, 1) if column else 40)
    split = own(X, y, loss="huber")
    assert split.y_train.shape == (32, 1)
    assert split.y_train.mean().item() == pytest.approx(0, abs=1e-5)
    assert split.y_train.std(correction=0).item() == pytest.approx(1, abs=1e-5)
    assert abs(split.y_test.mean().item()) > 1e-3
    back = torch.cat([split.y_train, split.y_test]) * split.y_scale + split.y_mean
    assert sorted(back[:, 0].tolist()) == pytest.approx(sorted(y.reshape(-1)), rel=1e-5)


def test_a_constant_column_is_no_division_by_zero():
    split = own(np.column_stack([X, np.full(40, 9.0)]), CLASSES)
    assert split.x_train.isfinite().all() and (split.x_train[:, 3] == 0).all()


def test_flat_and_deep_inputs_become_rows():
    assert own(X[:, 0], CLASSES).inputs == 1
    assert own(X.reshape(40, 3, 1), CLASSES).inputs == 3


def test_the_seed_shuffles_a_persons_own_data():
    assert same(own(X, CLASSES), own(X, CLASSES))
    assert not torch.equal(own(X, CLASSES).x_train, own(X, CLASSES, seed=1).x_train)


def test_a_persons_own_arrays_are_left_as_they_are():
    x, y = torch.as_tensor(X, dtype=torch.float32), torch.as_tensor(CLASSES, dtype=torch.float32)
    before = x.clone(), y.clone()
    own(x, y).x_train.add_(1)
    assert torch.equal(x, before[0]) and torch.equal(y, before[1])


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (X, CLASSES[:-1], "x has 40 rows and y has 39"),
        (X, np.eye(2)[CLASSES % 2] * 2, "y has 2 columns and is not one-hot"),
        (X, np.eye(2)[np.zeros(39, int)], "x has 40 rows and y has 39"),
        (X, np.ones((40, 2)), "y has 2 columns and is not one-hot"),
        (X, X, "y has 3 columns and is not one-hot"),
        (X, np.zeros((40, 2, 2)), "y has 160"),
        (X, np.where(CLASSES == 3, np.nan, 1), "y must be an array of finite numbers"),
        (np.where(X > 5, np.nan, X), CLASSES, "x must be an array of finite numbers"),
        (np.where(X > 5, np.inf, X), CLASSES, "drop rows with gaps"),
        (np.where(X > 5, 1e300, X), CLASSES, "x must be an array of finite numbers"),
        ([["a", "b"]] * 40, CLASSES, "x is not an array of numbers"),
        ([[1, 2], [3]] * 20, CLASSES, "x is not an array of numbers"),
        (X, ["yes", "no"] * 20, "y is not an array of numbers"),
        (torch.ones(40, 3, requires_grad=True), CLASSES, "x is not an array of numbers"),
        (None, CLASSES, "x must be an array"),
        (X, None, "y must be an array"),
        (5, CLASSES, "x must be an array"),
        ([], [], "x"),
        (np.zeros((0, 3)), np.zeros(0), "x"),
        (np.zeros((40, 0)), CLASSES, "x"),
        (X, [], "y"),
        (X, np.zeros((40, 0)), "y"),
        (X[:1], CLASSES[:1], "at least 2"),
        (X, np.full(40, 3), "every target is 3"),
        (X, np.arange(40) / 7, "the targets are no classes"),
        (X, np.arange(40), "at most 20"),
    ],
)
def test_arrays_that_cannot_be_used_are_refused_with_the_reason(x, y, words):
    with pytest.raises(ValueError) as refused:
        own(x, y)
    assert words in str(refused.value) and "\n" not in str(refused.value)


def test_a_batch_larger_than_own_data_is_refused():
    with pytest.raises(ValueError, match="batch_size=33 is not allowed: there are 32 training samples"):
        own(X, CLASSES, batch_size=33)


def test_numbers_far_from_zero_are_standardised_too():
    x = 1.7e9 + 86_400 * np.arange(40.0).reshape(-1, 1)  # days, as seconds since 1970
    split = own(x, CLASSES)
    assert split.x_train.mean().item() == pytest.approx(0, abs=1e-2)
    assert split.x_train.std(correction=0).item() == pytest.approx(1, abs=1e-2)
    assert math.isfinite(split.x_test.sum().item())


def test_small_differences_on_a_large_offset_are_not_lost():
    x = 1e8 + np.linspace(0, 1, 1000)
    split = load_data(Spec(loss="mse"), (x, 1e9 + np.linspace(0, 1e-3, 1000)))
    assert len(split.x_train.unique()) == len(split.x_train)
    assert split.y_train.std(correction=0).item() == pytest.approx(1, rel=1e-3)


def test_small_units_are_scaled_like_any_other():
    split = load_data(Spec(loss="mse"), (1e-7 * np.arange(100.0), 1e-7 * np.arange(100.0) ** 2))
    assert split.x_train.std(correction=0).item() == pytest.approx(1, rel=1e-5)
    assert split.y_train.std(correction=0).item() == pytest.approx(1, rel=1e-5)


def test_long_labels_keep_every_digit():
    labels = np.repeat([20240101, 20240102, 20240103], 20)
    split = load_data(Spec(batch_size=0), (np.arange(60.0), labels))
    assert split.labels == (20240101, 20240102, 20240103)


@pytest.mark.parametrize("wrap", [np.asarray, lambda y: np.eye(3)[y]])
def test_a_class_that_no_training_sample_shows_is_said(wrap):
    seed = next(s for s in range(999) if generator(s, "data").permutation(40)[-1] == 0)
    rare = wrap(np.array([2] + [0, 1] * 19 + [0]))  # the only one of class 2 comes last
    with pytest.raises(ValueError, match=r"class 2 has no training sample \(1 in all\). Give it more rows or leave it"):
        load_data(Spec(seed=seed), (np.arange(40.0), rare))
    assert load_data(Spec(seed=seed, train_share=1.0), (np.arange(40.0), rare)).classes == 3


def test_one_hot_targets_keep_the_classes_that_are_not_there():
    one_hot = np.eye(5)[np.arange(60) % 3]
    split = load_data(Spec(batch_size=0), (np.arange(60.0), one_hot))
    assert split.classes == split.outputs == 5
