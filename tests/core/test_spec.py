"""`Spec`: every wrong value gets one sentence, every right one survives a trip through a share string."""

import base64
import dataclasses
import json
import random
import re
import reprlib
import string
import subprocess
import sys
import zlib
from fractions import Fraction

import numpy as np
import pytest

import labkit
from labkit.core.rules import Menu, Number, Whole
from labkit.core.spec import DATASETS, FEATURES, INITS, LOSSES, OPTIMIZERS, PLAIN, RULES, SHAPES, VERSION, Spec

WHOLES = [name for name, rule in RULES.items() if isinstance(rule, Whole)]
NUMBERS = [name for name, rule in RULES.items() if isinstance(rule, Number)]
MENUS = [name for name, rule in RULES.items() if isinstance(rule, Menu)]
NAN, INF = float("nan"), float("inf")

NEVER_A_WHOLE = [True, False, np.True_, 3.0, np.float64(3), NAN, INF, -INF, "3", "", "1e-3", "三", None, [3], (3,), 2j]
NEVER_A_NUMBER = [True, np.False_, NAN, INF, -INF, np.float32("nan"), "0.1", "1e-3", "", "½", None, [0.1], {}, 1j]
NEVER_ON_A_MENU = [0, 1.5, True, None, [], ["mse"], b"mse", "", " ", "тест", "../x", "1e-3", object]

WRONG = [
    *[("depth", value) for value in NEVER_A_WHOLE],
    *[("lr", value) for value in NEVER_A_NUMBER],
    *[("loss", value) for value in NEVER_ON_A_MENU],
    *[(name, True) for name in WHOLES + NUMBERS + MENUS],
    *[(name, 10**400) for name in WHOLES + NUMBERS],
    *[(name, -(10**400)) for name in WHOLES + NUMBERS],
    *[(name, -1) for name in WHOLES + NUMBERS],
    *[(name, None) for name in RULES],
    *[(name, np.ones((2, 1))) for name in RULES],  # its repr has two lines
    *[("residual", value) for value in (0, 1, None, "True", "", np.True_, 1.0, [True])],
    ("depth", 101), ("depth", 10**5000), ("width", 0), ("width", 100_001), ("inputs", 0), ("inputs", 100_001),
    ("samples", 9), ("samples", 1_000_001), ("steps", 0), ("steps", 10_000_001), ("seed", 2**32), ("seed", 0.0),
    ("batch_size", 1_000_001), ("noise", -1e-9), ("noise", 10.001), ("train_share", 0), ("train_share", 0.0999),
    ("train_share", 1.0001), ("lr", 0), ("lr", 0.0), ("lr", -0.0), ("lr", 1.01e20), ("lr", -1e-3), ("l1", 11),
    ("l2", -0.1), ("huber_delta", 0), ("huber_delta", 1e7), ("momentum", 1), ("momentum", 1.0),
    ("momentum", Fraction(3, 2)),
    ("dataset", "csv:"), ("dataset", "csv:no/such/file.csv"), ("dataset", "csv:."), ("dataset", "csv:\0"),
    ("dataset", "CSV:x"), ("dataset", "../x"), ("dataset", "Spiral"), ("dataset", "spiral "), ("activation", "ReLU"),
    ("shape", "Funnel"), ("init", "He"), ("optimizer", "Adam"), ("device", "cuda:0"), ("device", "gpu"),
]  # fmt: skip


def sentence(make):
    """What the one ValueError says, in one line."""
    with pytest.raises(ValueError) as refused:
        make()
    assert refused.type is ValueError
    text = str(refused.value)
    assert "\n" not in text and len(text) < 500
    return text


def shown(value):
    try:
        return reprlib.repr(value).replace("\n", "")
    except ValueError:  # more digits than Python writes
        return "a number of thousands of digits"


def test_the_table_of_wrong_values_is_long():
    assert len(WRONG) > 150


@pytest.mark.parametrize(("name", "value"), WRONG, ids=lambda value: ascii(shown(value))[:40])
def test_a_wrong_value_is_named_with_what_is_allowed(name, value):
    text = sentence(lambda: Spec(**{name: value}))
    assert text.startswith(f"{name}={shown(value)}")
    assert "is not allowed" in text
    rule = RULES[name]
    if isinstance(rule, Menu) and not str(value).startswith("csv:"):
        assert all(option in text for option in rule.options)
    elif isinstance(rule, Whole):
        assert f"{rule.low:,}" in text and f"{rule.high:,}" in text
    elif isinstance(rule, Number):
        assert f"{rule.low:g}" in text and f"{rule.high:g}" in text


@pytest.mark.parametrize(
    ("name", "typo", "meant"),
    [
        ("loss", "husker", "huber"),
        ("loss", "crossentropy", "cross_entropy"),
        ("loss", "MSE", None),
        ("dataset", "spirl", "spiral"),
        ("dataset", "moon", "moons"),
        ("optimizer", "adamm", "adam"),
        ("optimizer", "rms_prop", "rmsprop"),
        ("activation", "tahn", "tanh"),
        ("init", "xaver", "xavier"),
        ("shape", "funel", "funnel"),
        ("device", "cud", "cuda"),
        ("activation", "质量", None),
    ],
)
def test_a_typo_gets_its_nearest_match(name, typo, meant):
    text = sentence(lambda: Spec(**{name: typo}))
    assert text.endswith(f" Did you mean {meant!r}?") if meant else "Did you mean" not in text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dataset": "plane"}, ["loss='cross_entropy'", "dataset='plane'", "regression", "loss='mse'"]),
        ({"dataset": "teacher"}, ["loss='cross_entropy'", "dataset='teacher'", "loss='huber'"]),
        ({"dataset": "chebyshev", "batch_size": 0}, ["loss='cross_entropy'", "dataset='chebyshev'"]),
        ({"batch_size": 401}, ["batch_size=401", "400 training samples", "Take 1 to 400", "0 for all"]),
        ({"samples": 10, "batch_size": 9}, ["batch_size=9", "8 training samples"]),
        ({"dataset": "chebyshev", "loss": "mse", "batch_size": 21}, ["batch_size=21", "20 training samples"]),
        ({"dataset": "digits", "batch_size": 1439}, ["batch_size=1439", "1,438 training samples"]),
        ({"dataset": "csv:gone.csv"}, ["dataset='csv:gone.csv'", "a file that exists", "Looked in"]),
    ],
)
def test_choices_that_do_not_go_together_are_refused_with_the_reason(changes, words):
    text = sentence(lambda: Spec(**changes))
    assert [word for word in words if word not in text] == []


@pytest.mark.parametrize(
    "changes",
    [
        {"batch_size": 400},
        {"dataset": "chebyshev", "loss": "mse", "batch_size": 20, "samples": 10},
        {"dataset": "digits", "batch_size": 1438, "samples": 10},
        {"seed": 2**32 - 1},
        {"train_share": 1},
        {"momentum": 0},
        {"lr": 1e20},
        {"noise": Fraction(1, 4)},
    ],
)
def test_bounds_themselves_are_allowed(changes):
    spec = Spec(**changes)
    assert {name: getattr(spec, name) for name in changes} == changes


def test_numpy_numbers_are_taken_and_become_plain_ones():
    spec = Spec(depth=np.int64(2), seed=np.uint8(7), lr=np.float32(0.5), noise=np.int32(1), loss=np.str_("mse"), l2=0)
    kinds = {name: type(getattr(spec, name)) for name in ("depth", "seed", "lr", "noise", "loss", "l2")}
    assert kinds == {"depth": int, "seed": int, "lr": float, "noise": float, "loss": str, "l2": float}
    assert spec == Spec(depth=2, seed=7, lr=0.5, noise=1.0, loss="mse")


def test_a_csv_that_exists_is_allowed_whatever_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "数 据,1.csv"
    path.write_text("")
    for dataset in (f"csv:{path}", f"csv:{path.name}"):
        assert Spec.from_share(Spec(dataset=dataset, batch_size=10**6).share()).dataset == dataset


def test_nothing_can_be_changed_in_place():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Spec().lr = 1.0


def test_but_changes_a_copy():
    spec = Spec()
    assert (spec.but(width=64).width, spec.width) == (64, 16)
    assert spec.but() == spec and hash(spec.but()) == hash(spec)


@pytest.mark.parametrize(("name", "meant"), [("widht", "width"), ("learning_rate", None), ("batchsize", "batch_size")])
def test_but_with_an_unknown_name_lists_the_names(name, meant):
    text = sentence(lambda: Spec().but(**{name: 1}))
    assert text.startswith(f"{name!r} is not a choice of Spec: dataset, samples,")
    assert text.endswith(f" Did you mean {meant!r}?") if meant else text.endswith("device.")


def test_but_checks_its_values():
    assert sentence(lambda: Spec().but(depth=-1)).startswith("depth=-1")
    assert sentence(lambda: Spec(loss="mse", dataset="plane").but(loss="cross_entropy")).startswith("loss=")


def test_every_choice_has_a_rule_and_a_meaning_in_one_line():
    assert list(RULES) == [choice.name for choice in dataclasses.fields(Spec)]
    for rule in RULES.values():
        assert len(rule.about) > 10 and "\n" not in rule.about
    options = [menu.options for menu in RULES.values() if isinstance(menu, Menu)]
    for about in [about for menu in options for about in menu.values()]:
        assert str(getattr(about, "about", about)).strip()


def test_every_default_passes_its_own_rule():
    for name, rule in RULES.items():
        assert rule.check(name, getattr(Spec, name)) == getattr(Spec, name)


def test_the_defaults_of_this_share_version_are_pinned():
    """A share string leaves the defaults out: change one here only together with VERSION."""
    assert VERSION == "lab1."
    assert dataclasses.asdict(Spec()) == {
        "dataset": "spiral", "samples": 500, "noise": 0.1, "train_share": 0.8, "inputs": 2,
        "features": ("x1", "x2"), "depth": 3, "width": 16,
        "shape": "constant", "activation": "tanh", "init": "he", "residual": False, "loss": "cross_entropy",
        "huber_delta": 1.0, "l1": 0.0, "l2": 0.0, "optimizer": "adam", "lr": 0.01, "momentum": 0.9, "batch_size": 32,
        "steps": 2000, "seed": 0, "device": "auto",
    }  # fmt: skip
    assert Spec().share() == "lab1.e32jpr9D"
    assert Spec(width=64, loss="huber").share() == "lab1.eyJ3aWR0aCI6NjQsImxvc3MiOiJodWJlciJ9TMypiA"


def random_spec(rng):
    """A spec with every choice drawn anew."""
    dataset = rng.choice(list(DATASETS))
    losses = [loss for loss in LOSSES if DATASETS[dataset].classes or loss != "cross_entropy"]
    drawn = {name: rng.choice(list(RULES[name].options)) for name in MENUS}
    drawn |= {name: rng.randint(RULES[name].low, RULES[name].high) for name in WHOLES}
    drawn |= {name: rng.uniform(RULES[name].low, RULES[name].high) for name in NUMBERS}
    features = rng.sample(list(FEATURES), rng.randint(1, 7)) if DATASETS[dataset].inputs == 2 else PLAIN
    drawn |= {"features": features, "dataset": dataset, "loss": rng.choice(losses), "residual": rng.random() < 0.5}
    drawn |= {"lr": 10 ** rng.uniform(-300, 20), "batch_size": rng.randint(0, 1)}
    kept = {*rng.sample(list(drawn), rng.randint(0, len(drawn))), "dataset", "loss", "batch_size"}
    return Spec(**{name: value for name, value in drawn.items() if name in kept})


SPECS = [random_spec(random.Random(seed)) for seed in range(300)]


def test_a_share_string_comes_back_as_the_same_spec():
    for spec in [Spec(), Spec.article(), *SPECS]:
        assert Spec.from_share(spec.share()) == spec
    assert len({spec.share() for spec in SPECS}) == len(set(SPECS)) > 250


def test_a_share_string_is_safe_in_a_url():
    allowed = set(string.ascii_letters + string.digits + "-_.")
    assert [spec for spec in SPECS if set(spec.share()) - allowed] == []
    assert len(Spec(width=64).share()) < 40


def test_a_share_string_may_be_copied_with_spaces_around_it():
    assert Spec.from_share(f"  {Spec(width=8).share()}\n") == Spec(width=8)


def packed(body):
    """A share string with a right checksum around any body."""
    return VERSION + base64.urlsafe_b64encode(body + zlib.crc32(body).to_bytes(4, "big")).decode().rstrip("=")


GOOD = Spec(width=64, lr=0.3, dataset="moons").share()


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "lab1", "lab1.", "lab1.A", "lab1.!!!!", "lab2." + GOOD[5:], GOOD[5:], "spiral", "https://example.org",
        None, 5, b"lab1.", ["lab1."], GOOD + GOOD, GOOD + "A", GOOD + "=", GOOD[:9] + " " + GOOD[9:], "lab1.数据",
        GOOD.lower(), GOOD[::-1], "lab1." + "A" * 10_000, "x" * 100_000, packed(b""), packed(b"{"), packed(b"3"),
        packed(b"[]"), packed(b"\xff\xfe"), packed(b'[["a"]]'), packed(b"[[1,2]]"), packed(b"null"),
        packed(b"[" * 100_000),
    ],
    ids=lambda text: ascii(text)[:25],
)  # fmt: skip
def test_a_foreign_share_string_is_refused(text):
    assert "share string" in sentence(lambda: Spec.from_share(text))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"width": 0}, "width=0"),
        ({"loss": "husker"}, "'huber'"),
        ({"lr": NAN}, "lr=nan"),
        ({"depth": True}, "depth=True"),
        ({"colour": 1}, "'colour'"),
        ({"dataset": "csv:gone.csv"}, "csv:gone.csv"),
        ({"dataset": "plane"}, "regression"),
    ],
)
def test_a_share_string_with_a_wrong_value_says_which(body, words):
    assert words in sentence(lambda: Spec.from_share(packed(json.dumps(body).encode())))


def test_a_truncated_share_string_is_refused():
    for end in range(len(GOOD)):
        assert "share string" in sentence(lambda end=end: Spec.from_share(GOOD[:end]))


def test_a_share_string_with_one_wrong_character_is_refused():
    alphabet = string.ascii_letters + string.digits + "-_.+/= "
    texts = [spec.share() for spec in (Spec(width=64), Spec(width=640), Spec(width=6400), SPECS[1])]  # all paddings
    for text in texts:
        for place, right in enumerate(text):
            for wrong in set(alphabet) - {right}:
                changed = text[:place] + wrong + text[place + 1 :]
                if changed.strip() != text:
                    assert "share string" in sentence(lambda changed=changed: Spec.from_share(changed))


def test_the_article_network_halves_from_its_inputs():
    spec = Spec.article()
    assert (spec.inputs, *spec.hidden, 1) == (1024, 512, 256, 128, 64, 32, 16, 1)
    assert (spec.activation, spec.loss, spec.optimizer, spec.lr) == ("relu", "mse", "adam", 0.001)
    assert (spec.steps, spec.init, spec.training_samples, spec.batch_size) == (100, "pytorch", 256, 0)


@pytest.mark.parametrize(
    ("changes", "hidden"),
    [
        ({"depth": 0}, ()),
        ({"depth": 3, "width": 5}, (5, 5, 5)),
        ({"depth": 0, "shape": "funnel"}, ()),
        ({"depth": 6, "width": 9, "shape": "funnel"}, (9, 4, 2, 1, 1, 1)),
        ({"depth": 3, "width": (8, 4, 2)}, (8, 4, 2)),
        ({"depth": 2, "width": [7, 3]}, (7, 3)),
    ],
)
def test_hidden_widths_follow_depth_width_and_shape(changes, hidden):
    assert Spec(**changes).hidden == hidden


def test_widths_of_single_layers_are_shared_remembered_and_written_as_code():
    spec = Spec(depth=3, width=(8, 4, 2))
    assert Spec.from_share(spec.share()) == spec == eval(spec.code(), {"labkit": labkit})
    assert hash(spec) == hash(spec.but(seed=0)) and "3 hidden layers of 8-4-2 tanh" in repr(spec)
    assert spec.but(depth=2, width=[9, 9]).hidden == (9, 9)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"width": (8, 4)}, r"width=\(8, 4\) is not allowed with depth=3: it names 2 layers"),
        ({"width": (8, 0, 2)}, r"width\[1\]=0 is not allowed: width\[1\] takes a whole number from 1"),
        ({"width": (8, True, 2)}, r"width\[1\]=True"),
        ({"width": ()}, r"width=\(\) is not allowed"),
        ({"width": (8, 4, 2), "shape": "funnel"}, "with shape='funnel'"),
        ({"width": "8,4,2"}, "or one for each hidden layer"),
    ],
)
def test_widths_that_suit_no_network_are_refused(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        Spec(**changes)


def test_code_makes_the_same_spec():
    for spec in [Spec(), Spec.article(), *SPECS[:50]]:
        assert eval(spec.code(), {"labkit": labkit}) == spec
    assert Spec().code() == "labkit.Spec()"
    assert Spec(width=64, lr=0.1).code() == "labkit.Spec(width=64, lr=0.1)"


def test_repr_is_one_sentence():
    assert repr(Spec()) == (
        "Spec: spiral, 3 hidden layers of 16 tanh, cross_entropy by adam at lr 0.01, batches of 32, 2,000 steps, "
        "seed 0, on auto"
    )
    assert "a linear model," in repr(Spec(depth=0))
    assert "1 hidden layer of 16 tanh" in repr(Spec(depth=1))
    assert "a funnel" in repr(Spec.article()) and "all samples in every step" in repr(Spec.article())


def test_menus_hold_what_the_contract_names():
    assert {"constant", "funnel"} <= set(SHAPES) and {"he", "xavier", "pytorch"} <= set(INITS)
    assert {"mse", "cross_entropy", "huber"} <= set(LOSSES)
    assert {"sgd", "momentum", "rmsprop", "adam", "adamw"} <= set(OPTIMIZERS)
    assert all(re.fullmatch("[a-z]+", name) for name in DATASETS)


def test_a_spec_and_its_cost_load_nothing_heavy():
    code = (
        "import sys, labkit, labkit.core.spec, labkit.core.costs\n"
        "labkit.cost(labkit.Spec().but(width=8)); labkit.Spec.from_share(labkit.Spec(depth=2).share())\n"
        "print(sorted({name.split('.')[0] for name in sys.modules} & set(sys.argv[1:])))"
    )
    heavy = ["torch", "numpy", "plotly", "ipywidgets", "IPython", "sklearn", "tqdm", "safetensors", "psutil"]
    done = subprocess.run([sys.executable, "-c", code, *heavy], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
