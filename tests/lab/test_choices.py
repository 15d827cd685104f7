"""What is chosen: mended where another choice asks for it, refused with its reason; and what the screen offers."""

import json

import pytest

from labkit.core import devices
from labkit.core.rules import Menu
from labkit.core.spec import CSV, DATASETS, RULES, Spec
from labkit.lab import texts
from labkit.lab.choices import Choices
from labkit.lab.screen import REGISTRIES, choices_of, menus_of

REGRESSION = Spec(dataset="plane", loss="mse")


def chosen(spec=None, **values):
    """Choices after some moves, each settled."""
    made = Choices(spec or Spec())
    for name, value in values.items():
        made.values[name] = value
        made.settle()
    return made


@pytest.mark.parametrize("dataset", ["plane", "bumps", "teacher"])
def test_a_regression_turns_cross_entropy_to_mse_with_a_note_and_classes_turn_it_back(dataset):
    made = chosen(dataset=dataset)
    assert made.spec == Spec(dataset=dataset, loss="mse") and made.note == "loss was changed to mse."
    made.values["dataset"] = "moons"
    assert made.settle() == {"loss": "cross_entropy"} and made.spec == Spec(dataset="moons")
    assert made.note == "loss was changed to cross_entropy."


def test_a_loss_that_the_person_chose_meanwhile_stays():
    made = chosen(dataset="plane", loss="huber")
    made.values["dataset"] = "moons"
    made.settle()
    assert made.spec.loss == "huber" and made.note == ""


def test_a_batch_larger_than_a_new_training_set_becomes_all_of_it():
    made = chosen(dataset="chebyshev")
    assert made.spec == Spec(dataset="chebyshev", loss="mse", batch_size=0)
    assert "batch_size was changed to all." in made.note and "loss was changed to mse." in made.note


def test_features_of_two_inputs_go_where_a_data_set_has_others_and_come_back():
    made = chosen(features=("x1", "sin(x1)"))
    made.values["dataset"] = "digits"
    assert made.settle() == {"features": ("x1", "x2")}
    made.values["dataset"] = "moons"
    made.settle()
    assert made.spec.features == ("x1", "sin(x1)")


@pytest.mark.parametrize(
    ("depth", "width"), [(2, (8, 4)), (5, (8, 4, 2, 2, 2)), (0, 8)], ids=["fewer", "more", "none at all"]
)
def test_widths_of_single_layers_follow_the_depth(depth, width):
    made = chosen(Spec(depth=3, width=(8, 4, 2)), depth=depth)
    assert made.spec == Spec(depth=depth, width=width)


def test_a_note_goes_with_the_next_change_and_stays_without_one():
    made = chosen(dataset="plane")
    made.settle()
    assert made.note
    made.values["depth"] = 4
    made.settle()
    assert made.note == ""


@pytest.mark.parametrize(
    ("choices", "wrong", "says"),
    [
        ({"dataset": "plane"}, {"loss": "cross_entropy"}, "cross entropy compares class probabilities"),
        ({"batch_size": 0, "samples": 10}, {"batch_size": 32}, "there are 8 training samples"),
    ],
    ids=["loss", "batch"],
)
def test_what_the_person_chose_is_refused_with_its_reason(choices, wrong, says):
    made = chosen(**choices)
    kept = made.spec
    made.values |= wrong
    with pytest.raises(ValueError, match=says):
        made.settle()
    assert made.spec == kept


# What the screen offers

ALWAYS = {"dataset", "features", "seed", "depth", "width", "shape", "activation", "init", "residual", "loss"}
ALWAYS |= {"optimizer", "lr", "batch_size", "l1", "l2", "steps", "device"}


@pytest.mark.parametrize(
    ("spec", "also"),
    [
        (Spec(), {"samples", "noise", "train_share", "momentum"}),
        (Spec(optimizer="sgd", loss="huber"), {"samples", "noise", "train_share", "huber_delta"}),
        (Spec(optimizer="rmsprop"), {"samples", "noise", "train_share"}),
        (Spec(dataset="chebyshev", loss="mse", batch_size=0, optimizer="momentum"), {"momentum"}),
        (Spec(dataset="digits", optimizer="adamw"), {"noise", "train_share", "momentum"}),
        (Spec(dataset="teacher", loss="mse"), {"samples", "noise", "train_share", "inputs", "momentum"}),
    ],
    ids=["classes", "huber by sgd", "rmsprop", "chebyshev", "digits", "teacher"],
)
def test_only_choices_that_mean_something_now_are_shown(spec, also):
    menus = menus_of(spec, own_data=False)
    assert set(menus) == set(RULES) and {name for name, menu in menus.items() if menu["shown"]} == ALWAYS | also


def test_with_data_of_ones_own_no_data_set_is_to_be_chosen():
    shown = {name for name, menu in menus_of(REGRESSION, own_data=True).items() if menu["shown"]}
    assert not shown & {"dataset", "samples", "noise", "inputs"} and "train_share" in shown


@pytest.mark.parametrize("name", RULES)
def test_every_choice_has_a_label_a_tooltip_and_all_that_its_rule_allows(name):
    rule, menu = RULES[name], menus_of(Spec(), own_data=False)[name]
    assert any(letter.isalpha() for letter in menu["label"]) and "_" not in menu["label"]
    assert menu["about"] == rule.about
    if isinstance(rule, Menu):
        assert [option["value"] for option in menu["options"]] == list(rule.options) == list(REGISTRIES[name])
        assert all(option["about"] for option in menu["options"])
    else:
        assert (menu["low"], menu["high"]) == (getattr(rule, "low", None), getattr(rule, "high", None))


def test_devices_that_are_not_here_are_not_offered_and_the_reason_is_said():
    for option in menus_of(Spec(), own_data=False)["device"]["options"]:
        here = option["value"] in ("auto", *devices.available())
        assert option["disabled"] is not here and bool(option["reason"]) is not here


def test_labels_tell_the_choices_apart():
    assert len({texts.field(name) for name in RULES}) == len(RULES)


@pytest.mark.parametrize("spec", [Spec(), REGRESSION, Spec(depth=2, width=(3, 4), features=("x1", "x1*x2"))])
def test_choices_come_back_from_the_browser_as_they_were(spec):
    sent = json.loads(json.dumps(choices_of(spec)))
    assert Spec(**sent) == spec


def test_every_data_set_can_be_chosen(tmp_path):
    for dataset in DATASETS:
        assert chosen(dataset=dataset).spec.dataset == dataset
    path = tmp_path / "table.csv"
    path.write_text("a,y\n1,2\n")
    assert chosen(dataset=f"{CSV}{path}").spec.dataset == f"{CSV}{path}"
