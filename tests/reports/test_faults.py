"""A few of each kind of the campaign of faults; `make faults` has them by the hundred."""

import random

import campaign
import faults
import pytest


@pytest.fixture(scope="module")
def field(tmp_path_factory):
    return faults.Field(tmp_path_factory.mktemp("faults"))


def test_bad_parameters_reach_no_kernel():
    rng = random.Random(1)
    for pair in rng.sample(campaign.bad_parameters(rng, 300), 24):
        assert campaign.refused(*pair) < 20  # ten times what is due


@pytest.mark.parametrize("kind", [kind for kind in faults.KINDS if "killed" in kind or "any time" in kind])
def test_a_fault_leaves_what_is_readable_and_true(kind, field):
    rng = random.Random(kind)
    field.inject(faults.KINDS[kind][1](rng), rng)


@pytest.mark.parametrize("kind", faults.OTHERS)
def test_many_at_once_do_not_harm_each_other(kind, field):
    faults.OTHERS[kind][1](field, random.Random(kind))


def test_a_sweep_explains_what_failed_and_runs_it_again(tmp_path):
    assert faults.faulty_sweep(tmp_path, (1, 2, 3, 11)) == (2, 2, 2)
