"""Controls: one for every choice, labelled and reachable by keyboard; a spec moves them and comes back the same."""

import itertools

import ipywidgets as widgets
import numpy as np
import pytest

from labkit.core.rules import Menu, Number, Whole
from labkit.core.spec import ACTIVATIONS, CSV, DATASETS, INITS, LOSSES, OPTIMIZERS, RULES, SHAPES, Spec
from labkit.lab import texts
from labkit.lab.choices import Choices
from labkit.lab.controls import GROUPS, STOPS, Controls

REGRESSION = Spec(dataset="plane", loss="mse")


class Chosen(Controls):
    """Controls with the choices that they change, as a worker joins them."""

    def __init__(self, spec=None, **more):
        self.choices, self.calls = Choices(spec or Spec()), []
        super().__init__(self.choices.spec, self.take, **more)

    def take(self, values):
        self.calls.append(values)
        self.choices.values |= values

    def settle(self):
        mended = self.choices.settle()
        self.move(mended)
        self.show(self.choices.spec)
        return self.choices.spec

    def open(self, spec):
        self.choices.set(spec)
        self.set(spec)


def controls(spec=None):
    return Chosen(spec)


def everything_in(widget):
    return [widget, *itertools.chain(*(everything_in(child) for child in getattr(widget, "children", ())))]


def shown(made, name):
    return made.widgets[name].layout.display != "none"


# Every choice has a control


@pytest.mark.parametrize("name", [*RULES, "csv"])
def test_every_choice_has_a_control_with_a_label_a_tooltip_and_a_place_in_the_tab_order(name):
    made = controls()
    widget = made.widgets[name]
    assert sum(each is widget for each in everything_in(made.view)) == 1
    assert any(letter.isalpha() for letter in widget.description) and "_" not in widget.description
    assert len(widget.tooltip) > 10 and widget.tabbable is True
    if name in RULES:
        assert widget.tooltip.startswith(RULES[name].about)


def test_labels_tell_the_controls_apart_and_stand_in_named_groups():
    made = controls()
    labels = [widget.description for widget in made.widgets.values()]
    assert len(set(labels)) == len(labels)
    assert [group.children[0].value for group in made.view.children] == [
        f"<b class='labkit-heading'>{texts.GROUPS[key]}</b>" for key in GROUPS
    ]


@pytest.mark.parametrize("name", [name for name, rule in RULES.items() if isinstance(rule, Menu)])
def test_a_menu_offers_what_the_rules_allow_and_the_datasets_a_file_of_ones_own(name):
    own = [CSV] if name == "dataset" else []
    assert [value for _, value in controls().widgets[name].options] == [*RULES[name].options, *own]


@pytest.mark.parametrize("name", STOPS)
def test_every_stop_of_a_slider_is_allowed_and_has_a_label_of_its_own(name):
    labels = [label for label, _ in controls().widgets[name].options]
    values = [value for _, value in controls().widgets[name].options]
    assert len(set(labels)) == len(labels) and values == sorted(values)
    assert [RULES[name].check(name, value) for value in values] == values


def test_only_what_may_change_while_training_follows_the_pointer():
    continuous = {name for name in STOPS if controls().widgets[name].continuous_update}
    assert continuous == {"lr"}


# There and back


def some_spec(seed):
    """A spec drawn at random, between the stops too."""
    rng = np.random.default_rng(seed)

    def number(rule):
        low, high = max(rule.low, 1e-6), min(rule.high, 50.0)
        value = float(np.exp(rng.uniform(np.log(low), np.log(high))))
        return min(value, 0.99) if rule.high <= 1 else value

    chosen = {}
    for name, rule in RULES.items():
        if isinstance(rule, Menu):
            chosen[name] = str(rng.choice([*rule.options]))
        elif isinstance(rule, Whole):
            chosen[name] = int(rng.integers(rule.low, min(rule.high, 3000), endpoint=True))
        elif isinstance(rule, Number):
            chosen[name] = number(rule)
        else:
            chosen[name] = bool(rng.integers(2))
    classes = DATASETS[chosen["dataset"]].classes
    chosen["loss"] = str(rng.choice([*LOSSES] if classes else ["mse", "huber"]))
    chosen["batch_size"] = int(rng.integers(0, Spec(**chosen | {"batch_size": 0}).training_samples, endpoint=True))
    return Spec(**chosen)


def test_any_spec_comes_back_from_the_controls_as_it_was():
    made = controls()
    for seed in range(100):
        spec = some_spec(seed)
        made.open(spec)
        assert Spec(**made.choices.values) == made.settle() == made.choices.spec == spec and made.choices.note == ""


@pytest.mark.parametrize("spec", [Spec(), Spec.article(), REGRESSION, Spec(lr=0.010000001), Spec(l2=1.0000001e-3)])
def test_known_specs_come_back_as_they_were(spec):
    assert Spec(**controls(spec).choices.values) == spec
    made = controls()
    made.open(spec)
    assert Spec(**made.choices.values) == spec


def test_a_value_between_the_stops_becomes_a_stop_of_its_own_and_no_other_is_lost():
    made = controls(Spec(width=13, lr=0.0123))
    values = [value for _, value in made.widgets["width"].options]
    assert made.widgets["width"].value == 13 and set(values) == {13, *STOPS["width"]}
    made.open(Spec())
    assert [value for _, value in made.widgets["width"].options] == list(STOPS["width"])


def test_a_table_of_ones_own_comes_back_as_it_was(tmp_path):
    path = tmp_path / "my table.csv"
    path.write_text("a,y\n1,2\n")
    spec = REGRESSION.but(dataset=f"csv:{path}")
    made = controls(spec)
    assert made.widgets["dataset"].value == CSV and made.widgets["csv"].value == str(path)
    assert Spec(**made.choices.values) == made.settle() == spec and shown(made, "csv")


def test_moving_a_control_calls_back_and_is_what_the_spec_says():
    made = controls()
    for name, value in {"depth": 5, "activation": "relu", "residual": True, "seed": 9, "lr": 0.1}.items():
        made.widgets[name].value = value
    assert len(made.calls) == 5
    assert made.settle() == Spec(depth=5, activation="relu", residual=True, seed=9, lr=0.1)


def test_every_menu_entry_can_be_chosen():
    made = controls()
    menus = {"activation": ACTIVATIONS, "init": INITS, "shape": SHAPES, "optimizer": OPTIMIZERS, "dataset": DATASETS}
    for name, options in menus.items():
        for option in options:
            made.widgets[name].value = option
            assert getattr(made.settle(), name) == option


# What means nothing now is hidden

ALWAYS = {"dataset", "seed", "depth", "width", "shape", "activation", "init", "residual", "loss", "optimizer", "lr"}
ALWAYS |= {"batch_size", "l1", "l2", "steps", "device"}


@pytest.mark.parametrize(
    "spec, also",
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
def test_only_controls_that_mean_something_now_are_shown(spec, also):
    made = controls(spec)
    assert {name for name in made.widgets if shown(made, name)} == ALWAYS | also
    made = controls()
    for name, value in spec.changed.items():
        made.widgets[name].value = value
    made.settle()
    assert {name for name in made.widgets if shown(made, name)} == ALWAYS | also


def test_choosing_a_file_of_ones_own_shows_where_to_write_its_path(tmp_path):
    made = controls()
    made.widgets["dataset"].value = CSV
    with pytest.raises(ValueError, match="PATH is a file that exists"):
        made.settle()
    assert shown(made, "csv")
    path = tmp_path / "table.csv"
    path.write_text("a,y\n1,2\n")
    made.widgets["csv"].value = f" {path} "
    assert made.settle().dataset == f"csv:{path}"
    assert not shown(made, "samples") and not shown(made, "noise") and shown(made, "train_share")
    made.widgets["dataset"].value = "spiral"
    made.settle()
    assert not shown(made, "csv")


# What one choice rules out is mended or refused


@pytest.mark.parametrize("dataset", ["plane", "bumps", "teacher"])
def test_a_regression_turns_cross_entropy_to_mse_with_a_note_and_classes_turn_it_back(dataset):
    made = controls()
    made.widgets["dataset"].value = dataset
    assert made.settle() == Spec(dataset=dataset, loss="mse") and made.widgets["loss"].value == "mse"
    assert made.choices.note == "loss was changed to mse."
    made.widgets["dataset"].value = "moons"
    assert made.settle() == Spec(dataset="moons")
    assert made.choices.note == "loss was changed to cross_entropy."


def test_a_loss_that_the_person_chose_meanwhile_stays():
    made = controls()
    made.widgets["dataset"].value = "plane"
    made.settle()
    made.widgets["loss"].value = "huber"
    made.settle()
    made.widgets["dataset"].value = "moons"
    assert made.settle().loss == "huber" and made.choices.note == ""


def test_a_batch_larger_than_a_new_training_set_becomes_all_of_it():
    made = controls()
    made.widgets["dataset"].value = "chebyshev"
    assert made.settle() == Spec(dataset="chebyshev", loss="mse", batch_size=0)
    assert "batch_size was changed to all." in made.choices.note and "loss was changed to mse." in made.choices.note


def test_a_note_goes_with_the_next_change_and_stays_without_one():
    made = controls()
    made.widgets["dataset"].value = "plane"
    made.settle()
    made.settle()
    assert made.choices.note
    made.widgets["depth"].value = 4
    made.settle()
    assert made.choices.note == ""


def test_another_spec_takes_the_note_with_it():
    made = controls()
    made.widgets["dataset"].value = "plane"
    made.settle()
    made.open(Spec(depth=1))
    assert made.settle() == Spec(depth=1) and made.choices.note == ""


@pytest.mark.parametrize(
    "choices, says",
    [
        ({"dataset": "plane", "loss": "mse"}, "cross entropy compares class probabilities"),
        ({"samples": 10, "batch_size": 0}, "there are 8 training samples"),
    ],
    ids=["loss", "batch"],
)
def test_what_the_person_chose_is_refused_with_its_reason_and_left_standing(choices, says):
    made = controls()
    for name, value in choices.items():
        made.widgets[name].value = value
    kept = made.settle()
    name, wrong = ("loss", "cross_entropy") if "loss" in choices else ("batch_size", 32)
    made.widgets[name].value = wrong
    with pytest.raises(ValueError, match=says):
        made.settle()
    assert made.widgets[name].value == wrong and made.choices.spec == kept


def test_numbers_beyond_their_bounds_stop_at_the_bound():
    made = controls()
    for name in ("seed", "steps", "inputs"):
        widget, rule = made.widgets[name], RULES[name]
        assert isinstance(widget, widgets.BoundedIntText)
        for value, taken in ((rule.low - 5, rule.low), (rule.high + 5, rule.high)):
            widget.value = value
            assert widget.value == taken and getattr(Spec(**made.choices.values), name) == taken


def test_with_data_of_ones_own_no_data_set_is_to_be_chosen():
    controls = Chosen(own_data=True)
    hidden = {name for name, widget in controls.widgets.items() if widget.layout.display == "none"}
    assert {"dataset", "csv", "samples", "noise", "inputs"} <= hidden and "train_share" not in hidden
    controls.widgets["loss"].value = "huber"
    controls.settle()
    assert (
        controls.widgets["dataset"].layout.display == "none" and controls.widgets["huber_delta"].layout.display is None
    )
