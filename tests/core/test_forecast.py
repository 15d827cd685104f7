"""Forecasts of a training: a time model fitted to timed steps, a law fitted to losses."""

import numpy as np
import pytest

import labkit
from labkit.core import forecast
from labkit.core.forecast import Law, StepTimeModel, calibrate, fit_law
from labkit.core.spec import Spec

SPEC = Spec(dataset="teacher", inputs=8, samples=2000, loss="mse", depth=1, activation="relu", steps=400, device="cpu")
SIZES, STEPS = np.array([20, 40, 80, 160, 320]), np.array([250, 500, 1000, 2000])


def runs(seeds=3, scatter=0.0, values=(0.002, 3.0, 0.9, 20.0, 0.8)):
    """Sizes, steps and losses that follow a law, apart from chance."""
    parameters, steps = (grid.ravel() for grid in np.meshgrid(np.tile(SIZES, seeds), STEPS))
    floor, a, alpha, b, beta = values
    chance = np.exp(scatter * np.random.default_rng(0).normal(size=len(steps)))
    return parameters, steps, (floor + a / parameters**alpha + b / steps**beta) * chance


def test_a_law_is_found_again_in_losses_that_follow_it():
    law = fit_law(*runs())
    np.testing.assert_allclose(law.values, [0.002, 3.0, 0.9, 20.0, 0.8], rtol=0.02)
    assert law.scatter < 1e-3
    np.testing.assert_allclose(
        law([40, 640], 8000), [0.002 + 3 / n**0.9 + 20 / 8000**0.8 for n in (40, 640)], rtol=0.01
    )


def test_a_floor_that_is_known_is_kept():
    law = fit_law(*runs(values=(0.0, 3.0, 0.9, 20.0, 0.8)), floor=0.0)
    assert law.values[0] == 0 and (law.draws[:, 0] == 0).all()
    np.testing.assert_allclose(law.values[[2, 4]], [0.9, 0.8], rtol=0.01)


def test_an_interval_holds_the_exponent_and_a_band_the_runs_of_a_larger_size():
    law = fit_law(*runs(scatter=0.1))
    low, high = law.interval("alpha")
    assert low < 0.9 < high and high - low < 0.5
    low, high = law.band(640, 4000)
    truth, rng = 0.002 + 3 / 640**0.9 + 20 / 4000**0.8, np.random.default_rng(1)
    new = truth * np.exp(0.1 * rng.normal(size=1000))
    assert ((low < new) & (new < high)).mean() > 0.8 and high / low < 3


def test_a_band_is_wider_where_runs_scatter_more():
    calm, wild = (fit_law(*runs(scatter=scatter)).band(640, 4000) for scatter in (0.05, 0.3))
    assert wild[1] / wild[0] > 1.5 * calm[1] / calm[0]


def test_a_band_grows_beyond_the_known_sizes_by_what_the_law_misses_there():
    parameters, steps, losses = runs()
    bent = losses * np.where(parameters == parameters.max(), 1.5, 1.0)  # the largest size does not keep to the law
    law = fit_law(parameters, steps, bent)
    assert law.reach == (parameters.max(), steps.max()) and 0.3 < law.beyond[0] < 0.6 and law.beyond[1] < 0.3
    inside, outside = (law.band(size, 2000) for size in (parameters.max(), 1.01 * parameters.max()))
    assert np.log(outside[1] / outside[0]) > np.log(inside[1] / inside[0]) + 0.1


def test_a_law_does_not_depend_on_chance():
    assert np.array_equal(fit_law(*runs(scatter=0.1)).draws, fit_law(*runs(scatter=0.1)).draws)


def test_losses_that_do_not_depend_on_size_give_no_cliff():
    law = fit_law(*runs(values=(0.01, 0.0, 1.0, 20.0, 0.8)))
    assert law.values[2] <= forecast.STEEPEST
    assert law(10**6, 2000) == pytest.approx(0.01 + 20 / 2000**0.8, rel=0.02)


def test_what_cannot_be_fitted_is_refused():
    parameters, steps, losses = runs()
    with pytest.raises(ValueError, match="finite losses above 0: leave out the runs that diverged"):
        fit_law(parameters, steps, np.where(losses == losses[3], np.inf, losses))
    with pytest.raises(ValueError, match="above 0"):
        fit_law(parameters, steps, losses - 1)
    with pytest.raises(ValueError, match="three counts of steps at least; here are 5 sizes and 1 counts of steps"):
        fit_law(parameters[:15], steps[:15], losses[:15])


def test_a_law_reads_like_a_sentence():
    law = Law(np.array([0.01, 3, 0.9, 20, 0.8]), np.empty((0, 5)), 0.1, (100, 100), (0.1, 0.1))
    assert repr(law) == "Law: loss ≈ 0.01 + 3 / parameters^0.90 + 20 / steps^0.80"


# The clock


def paced(monkeypatch, overhead, per_flop):
    """Make every step take what a straight line says."""

    def paces(trainers):
        return 0.2, np.array([overhead + per_flop * labkit.cost(t.spec).flops_step for t in trainers])

    monkeypatch.setattr(forecast, "_paces", paces)


def test_a_clock_finds_the_line_through_what_was_timed(monkeypatch):
    paced(monkeypatch, 5e-5, 2e-11)
    clock = calibrate([SPEC.but(width=width) for width in (8, 64, 512)])
    assert (clock.overhead, clock.per_flop) == (pytest.approx(5e-5), pytest.approx(2e-11))
    new = SPEC.but(width=1024, steps=1000)
    assert clock.pace(new) == pytest.approx(5e-5 + 2e-11 * labkit.cost(new).flops_step)
    assert clock.seconds(new) == pytest.approx(0.2 + 1000 * clock.pace(new))
    assert repr(clock) == "StepTimeModel: 50 µs a step and 50 GFLOP/s beyond that"


def test_a_clock_of_one_s_own_table_knows_its_widths(tmp_path):
    table = tmp_path / "mine.csv"
    np.savetxt(table, np.random.default_rng(0).normal(size=(300, 6)), delimiter=",")
    own = Spec(dataset=f"csv:{table}", loss="mse", depth=1, steps=10, device="cpu")
    clock = calibrate([own.but(width=8), own.but(width=32)])
    assert (clock.ends["inputs"], clock.ends["outputs"]) == (5, 1) and clock.seconds(own.but(width=64)) > 0


def test_a_clock_of_whole_batches_counts_the_training_set():
    clock = calibrate([SPEC.but(width=8, batch_size=0), SPEC.but(width=64, batch_size=0)])
    assert clock.seconds(SPEC.but(width=32, batch_size=0)) > 0


def test_one_size_makes_no_clock():
    with pytest.raises(ValueError, match="calibrate was given 1 sizes; a line needs two or better three widths"):
        calibrate([SPEC, SPEC.but(seed=1)])


def test_seconds_are_forecast_within_a_factor():
    # The aim is 30 %; a busy machine may be off by ten times that.
    clock = calibrate([SPEC.but(width=width) for width in (16, 64, 256)])
    new = SPEC.but(width=128)
    seconds = labkit.train(new).seconds
    assert isinstance(clock, StepTimeModel) and seconds / 4 < clock.seconds(new) < 4 * seconds
