"""The landscape's drawing: heights and holes, ticks and titles, paths and their distances, frames and charts."""

import itertools
import json
import re
from dataclasses import replace

import numpy as np
import pytest

from labkit.lab.live_figure import packed
from labkit.landscape.planes import Line, Plane
from labkit.landscape.trajectories import Trajectory
from labkit.plots import charts, frames, landscape_figure, theme

FACTS = {
    "axes": {"u": "random direction u", "v": "random direction v"},
    "units": dict.fromkeys("uv", "1 = each filter moved by its own length"),
    "parameters": 609,
}
AXIS = np.linspace(-1, 1, 21)
BOWL = 0.02 + AXIS[None] ** 2 + 2 * AXIS[:, None] ** 2


def plane(loss=BOWL, **values):
    loss = np.asarray(loss, dtype=float)
    rows, columns = (np.linspace(-1, 1, size) for size in loss.shape)
    return Plane(columns, rows, {"loss": loss, **values}, np.ones(loss.shape, dtype=bool), FACTS)


def trail(points=5, distance=3.0):
    way = np.linspace(1, 0, points)
    return Trajectory(10 * np.arange(points), 0.8 * way, -0.6 * way, distance * way, 0.1 + 2 * way, 0.1 + way)


def replaced(where, what):
    loss = BOWL.copy()
    loss[where] = what
    return loss


ODD = {
    "inf": replaced(np.s_[:4, :4], np.inf),
    "nan at the centre": replaced(np.s_[10, 10], np.nan),
    "a corner of 1e9": replaced(np.s_[0, 0], 1e9),
    "a corner beyond float32": replaced(np.s_[0, 0], 1e300),
    "constant": np.full((21, 21), 0.693147),
    "constant 0": np.zeros((21, 21)),
    "nearly constant": 0.693147 + 1e-12 * BOWL,
    "negative": BOWL - 2.2,
    "all below 0": BOWL - 100,
    "minimum 0": BOWL - BOWL.min(),
    "mostly 0": np.maximum(BOWL - 2, 0),
    "nothing finite": np.full((21, 21), np.nan),
    "tiny": 1e-9 * BOWL,
    "not square": BOWL[:, :7],
}
KIND = pytest.mark.parametrize("kind", landscape_figure.KINDS)


def drawn(kind, plane, trails=None, **more):
    figure = landscape_figure.blank(kind, len(trails or {}))
    return frames.apply(figure, landscape_figure.frame(kind, plane, trails, **more))


def trace(figure, uid):
    (found,) = figure.select_traces({"uid": uid})
    return found


def text_of(figure):
    """The caption, in one line."""
    return figure.layout.annotations[-1].text.replace("<br>", " ")


# Heights


def test_heights_are_the_losses_or_their_powers_of_ten():
    for log, heights in ((False, BOWL), (True, np.log10(BOWL))):
        scale = landscape_figure.scale(BOWL, log=log)
        assert np.allclose(scale.heights(BOWL), heights, atol=1e-6) and scale.heights(BOWL).dtype == np.float32
        assert (scale.low, scale.high) == pytest.approx((heights.min(), heights.max()))
        assert (scale.offset, scale.cut) == (0, None)
    assert landscape_figure.scale(BOWL, log=False).title("loss") == "loss"
    assert landscape_figure.scale(BOWL, log=True).title("test loss") == "test loss (log scale)"


@pytest.mark.parametrize(
    "name, title",
    [
        ("minimum 0", "loss + 0.001 (log scale)"),
        ("negative", "loss + 2.181 (log scale)"),
        ("all below 0", "loss + 99.981 (log scale)"),
        ("constant 0", "loss + 1 (log scale)"),
    ],
)
def test_an_offset_is_named_to_the_last_digit_and_lifts_every_loss_above_0(name, title):
    scale = landscape_figure.scale(ODD[name], log=True)
    assert scale.title("loss") == title
    assert float(title.split()[2]) == scale.offset and (ODD[name] + scale.offset).min() > 0
    assert np.allclose(10.0 ** scale.heights(ODD[name]) - scale.offset, ODD[name], atol=1e-4)


def test_an_offset_for_a_ground_that_is_mostly_0_is_small_beside_what_rises():
    loss = ODD["mostly 0"]
    assert np.median(loss) == 0
    assert 0 < landscape_figure.scale(loss, log=True).offset <= 0.002 * np.median(loss[loss > 0])


@pytest.mark.parametrize("log", [True, False])
def test_a_corner_of_1e9_is_cut_and_the_title_says_where(log):
    loss = ODD["a corner of 1e9"]
    scale = landscape_figure.scale(loss, log=log)
    heights = scale.heights(loss)
    assert heights.argmax() == 0 and heights.max() == np.float32(scale.high)
    others = np.log10(loss) if log else loss
    assert np.allclose(heights.ravel()[1:], others.ravel()[1:], atol=1e-6)  # nothing else is
    assert np.ptp(others.ravel()[1:]) > 0.4 * (scale.high - scale.low)  # so the rest is not flat
    assert scale.cut == pytest.approx(10**scale.high if log else scale.high)
    assert scale.title("loss").endswith(f", cut at {scale.cut:.3g}")
    assert landscape_figure.scale(loss, log=log, cut=False).cut is None


@pytest.mark.parametrize("power", [1, 2, 4, 6])
def test_a_ground_that_rises_evenly_is_not_cut(power):
    loss = (AXIS[None] ** 2 + AXIS[:, None] ** 2) ** (power / 2)
    assert landscape_figure.scale(loss, log=False).cut is None


def test_one_scale_for_several_arrays_spans_them_all():
    scale = landscape_figure.scale(BOWL, 100 + BOWL, [np.inf], [], log=False)
    assert (scale.low, scale.high, scale.cut) == (BOWL.min(), 100 + BOWL.max(), None)


@pytest.mark.parametrize("log", [True, False])
@pytest.mark.parametrize(
    "low, high", [(1e-12, 1e9), (1e-3, 5), (0.4, 0.9), (0.69, 0.7), (7, 7), (1e-9, 3e-9), (0.3, 3)]
)
def test_ticks_are_round_losses_within_the_range(low, high, log):
    scale = landscape_figure.scale(np.array([low, high]), log=log)
    ticks = scale.ticks()
    losses = np.array([read(text) for text in ticks["ticktext"]])
    places = 10.0 ** np.array(ticks["tickvals"]) if log else np.array(ticks["tickvals"])
    assert np.allclose(losses, places, rtol=1e-5) and 2 <= len(losses) <= 11
    assert (np.diff(losses) > 0).all()
    assert scale.low - 1e-9 <= min(ticks["tickvals"]) and max(ticks["tickvals"]) <= scale.high + 1e-9
    assert all(float(f"{loss:.3g}") == pytest.approx(loss, rel=1e-9) for loss in losses)


def read(text):
    """A number as a person reads it."""
    digits = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹−", "-0123456789-")
    factor, _, power = text.rpartition("10") if set(text) & set("⁻⁰¹²³⁴⁵⁶⁷⁸⁹") else (text, "", "0")
    factor = factor.removesuffix("·").replace(",", "").translate(digits) or "1"
    return float(factor) * 10.0 ** int(power.translate(digits))


@pytest.mark.parametrize(
    "value, text",
    [
        (0, "0"),
        (0.0213, "0.0213"),
        (12345, "12,300"),
        (-0.4, "−0.4"),
        (1e-6, "10⁻⁶"),
        (-3.1e-7, "−3.1·10⁻⁷"),
        (1e9, "10⁹"),
        (0.1 + 0.2, "0.3"),
        (np.inf, "inf"),
        (np.nan, "nan"),
    ],
)
def test_numbers_are_written_as_people_write_them(value, text):
    assert landscape_figure.number(value) == text


# The ground


@KIND
@pytest.mark.parametrize("log", [True, False])
@pytest.mark.parametrize("name", ODD)
def test_every_ground_can_be_drawn_and_told(name, log, kind):
    odd = plane(ODD[name])
    figure = drawn(kind, odd, {"path": trail()}, log=log)
    json.loads(figure.to_json())
    ground = trace(figure, landscape_figure.SURFACE)
    assert np.array_equal(np.isnan(ground.z), ~np.isfinite(odd.loss)) and not np.isinf(ground.z).any()
    low, high = (ground.cmin, ground.cmax) if kind == "3-D" else (ground.zmin, ground.zmax)
    assert np.isfinite([low, high]).all() and low < high
    assert landscape_figure.in_words(odd, trail())


@KIND
def test_what_hovers_is_the_raw_loss(kind):
    ground = trace(drawn(kind, plane(ODD["a corner of 1e9"])), landscape_figure.SURFACE)
    assert np.array_equal(ground.customdata, np.float32(ODD["a corner of 1e9"]))
    assert "loss %{customdata" in ground.hovertemplate


@KIND
def test_losses_that_are_not_finite_are_holes_over_a_grey_sheet_that_the_legend_names(kind):
    mask = trace(drawn(kind, plane(ODD["inf"])), landscape_figure.MASK)
    sheet = np.nan_to_num(mask.z) != 0
    assert mask.visible and mask.showlegend and mask.name == "grey: loss not finite"
    assert {colour for _, colour in mask.colorscale} == {theme.NOT_FINITE}
    hole = ~np.isfinite(ODD["inf"])
    assert sheet[hole].all() and not sheet[7:, 7:].any()  # it ends a little way under the ground
    assert not trace(drawn(kind, plane()), landscape_figure.MASK).visible


@KIND
def test_cells_that_are_not_computed_are_neither_ground_nor_grey(kind):
    half = plane(replaced(np.s_[:4, :4], np.nan))
    half.computed[:4, :4] = False
    figure = drawn(kind, half)
    assert (
        np.isnan(trace(figure, landscape_figure.SURFACE).z[:4, :4]).all()
        and not trace(figure, landscape_figure.MASK).visible
    )


@KIND
def test_the_picture_names_its_axes_and_heights_and_the_caption_their_units(kind):
    figure = drawn(kind, plane(BOWL - BOWL.min()))
    axes = figure.layout.scene if kind == "3-D" else figure.layout
    titles = axes.xaxis.title.text, axes.yaxis.title.text, trace(figure, landscape_figure.SURFACE).colorbar.title.text
    assert titles == ("random direction u", "random direction v", "loss + 0.001 (log scale)")
    assert text_of(figure).startswith("Along u and v: 1 = each filter moved by its own length.")
    assert text_of(figure).endswith("This is 2 of 609 directions: the loss may look different along others.")
    if kind == "3-D":
        assert axes.zaxis.title.text == titles[2]
        assert axes.zaxis.ticktext == trace(figure, landscape_figure.SURFACE).colorbar.ticktext
    assert axes.xaxis.range == axes.yaxis.range == (-1, 1) and axes.xaxis.autorange is axes.yaxis.autorange is False


@KIND
def test_a_plane_without_notes_has_named_axes_too(kind):
    figure = drawn(kind, replace(plane(), facts={}))
    axes = figure.layout.scene if kind == "3-D" else figure.layout
    assert (axes.xaxis.title.text, axes.yaxis.title.text) == ("along u", "along v")
    assert text_of(figure) == f"Along u and v: {landscape_figure.UNITS['u']}."


@KIND
def test_an_accuracy_is_drawn_as_it_is_and_what_is_good_is_light(kind):
    peak = np.random.default_rng(0).uniform(0.49, 0.51, BOWL.shape)
    peak[10, 10] = 1
    ground = trace(drawn(kind, plane(accuracy=peak), value="accuracy"), landscape_figure.SURFACE)
    assert np.allclose(ground.z, peak) and ground.reversescale and ground.colorbar.title.text == "accuracy"
    assert not trace(drawn(kind, plane()), landscape_figure.SURFACE).reversescale


@KIND
def test_the_centre_is_marked_where_it_is_within_the_window(kind):
    centre = trace(drawn(kind, plane()), landscape_figure.CENTRE)
    assert (centre.x[0], centre.y[0]) == (0, 0) and centre.name == "centre: the network"
    aside = replace(plane(), alpha=AXIS + 5)
    assert not len(trace(drawn(kind, aside), landscape_figure.CENTRE).x)


@KIND
def test_a_value_that_was_not_measured_is_refused_with_what_was(kind):
    with pytest.raises(ValueError, match="'test loss' was not measured: take one of loss"):
        landscape_figure.frame(kind, plane(), value="test loss")


def test_a_kind_that_is_not_known_is_refused():
    with pytest.raises(ValueError, match="kind='4-D' is not allowed: take one of 3-D, contours"):
        landscape_figure.blank("4-D")


# Paths


def path_of(figure, k=0):
    return trace(figure, f"under_path_{k}"), trace(figure, f"path_{k}")


def test_in_3_d_a_path_lies_at_its_true_loss_and_lines_drop_to_what_the_ground_shows():
    way = trail()
    drops, path = path_of(drawn("3-D", plane(), {"path": way}))
    lift = path.z - np.log10(way.loss)
    assert np.allclose(lift, lift[0]) and 0 < lift[0] < 0.05
    assert np.allclose(drops.z.reshape(-1, 3)[:, 0], path.z)
    assert np.allclose(drops.z.reshape(-1, 3)[:, 1], np.log10(way.plane_loss))
    assert np.isnan(drops.z.reshape(-1, 3)[:, 2]).all()
    told = landscape_figure.frame("3-D", plane(), {"path": way})["layout"]["legend"]["title"]["text"]
    assert told == "thin lines: from the true loss to what the surface shows"
    assert np.allclose(path.customdata, np.stack([way.steps, way.loss, way.plane_loss, way.distance], 1))


def test_a_path_higher_than_its_ground_is_within_the_range_of_heights():
    high = replace(trail(), loss=np.linspace(50, 0.1, 5))
    figure = drawn("3-D", plane(), {"path": high})
    top = path_of(figure)[1].z.max()
    assert np.log10(50) < top <= figure.layout.scene.zaxis.range[1]


def test_on_the_map_the_symbol_grows_with_the_distance_off_the_plane_and_the_legend_says_so():
    figure = drawn("contours", plane(), {"path": trail(distance=3.0)})
    halo, path = path_of(figure)
    assert np.allclose(path.marker.size, 5 + 11 * trail().distance / 3)
    assert figure.layout.legend.title.text == "larger symbol: further off this plane, at most 3 in weight space"
    assert np.array_equal(halo.x, path.x) and halo.line.color == theme.WHITE and halo.line.width > path.line.width
    figure = drawn("contours", plane(), {"path": trail(distance=0)})
    assert not figure.layout.legend.title.text
    within = path_of(figure)[1]
    assert np.allclose(within.marker.size, 5)


@KIND
def test_a_path_says_where_it_starts_and_at_which_step_it_ends(kind):
    way = trail()
    path = path_of(drawn(kind, plane(), {"path": way}))[1]
    assert path.text == ("start", "", "", "", f"step {way.steps[-1]:,}") and path.name == "path"
    assert np.allclose(path.x, way.alpha) and np.allclose(path.y, way.beta)
    assert path_of(drawn(kind, plane(), {"path": trail(1)}))[1].text == (f"step {trail(1).steps[-1]:,}",)


@KIND
def test_several_paths_differ_in_colour_dash_and_symbol_and_bear_their_names(kind):
    trails = {f"run {k}": trail(distance=k) for k in range(6)}
    figure = drawn(kind, plane(), trails)
    paths = [path_of(figure, k)[1] for k in range(6)]
    assert [path.line.color for path in paths] == theme.RUNS == theme.RUNS
    assert [path.line.dash for path in paths] == theme.DASHES
    assert len({path.marker.symbol for path in paths}) == 6
    assert [path.text[-1] for path in paths] == list(trails) == [path.name for path in paths]
    assert "The path of run 5 ends on this plane; furthest off, by 5, is its start" in text_of(figure)


@KIND
def test_a_long_path_is_thinned_and_keeps_both_ends(kind):
    path = path_of(drawn(kind, plane(), {"path": trail(5000)}))[1]
    assert (
        len(path.x) == landscape_figure.PATH_POINTS and path.customdata[0, 0] == 0 and path.customdata[-1, 0] == 49_990
    )


def test_in_3_d_a_path_is_drawn_on_the_loss_alone():
    part = {"trails": {"path": trail()}, "value": "test loss"}
    both = plane(**{"test loss": BOWL})
    assert not len(path_of(drawn("3-D", both, **part))[1].x) and len(path_of(drawn("contours", both, **part))[1].x)


# Words


def test_in_words_a_picture_tells_what_it_shows_and_hides():
    assert landscape_figure.in_words(plane(), trail()) == (
        "Loss 0.02 at the centre, from 0.02 to 3.02 across ±1. The path ends on this plane; furthest off, by 3, is its "
        "start: there the true loss is 2.1 where the picture shows 1.1. This is 2 of 609 directions: the loss may "
        "look different along others."
    )


def test_in_words_other_cases():
    way = replace(trail(), distance=np.array([1, 2, 5, 3, 0.5]))
    assert "ends 0.5 off this plane, where the true loss is 0.1 and the picture shows" in landscape_figure.in_words(
        plane(), way
    )
    assert "The path lies in this plane." in landscape_figure.in_words(plane(), trail(distance=0))
    assert "at 16 of 441 points it is not finite (grey)" in landscape_figure.in_words(plane(ODD["inf"]))
    assert landscape_figure.in_words(plane(ODD["nothing finite"])) == "No loss on this plane is finite."
    window = replace(plane(), alpha=np.linspace(-2, 6.1, 21))
    assert "next to the centre" in landscape_figure.in_words(window)
    assert "across −2 to 6.1 along u and ±1 along v." in landscape_figure.in_words(window)


# Frames


@KIND
def test_a_frame_leaves_the_camera_alone_and_keeps_a_zoom_until_it_is_told_otherwise(kind):
    first, second, other = (landscape_figure.frame(kind, plane(BOWL * k), zoom=k // 3) for k in (1, 2, 3))
    assert first["layout"]["uirevision"] == second["layout"]["uirevision"] != other["layout"]["uirevision"]
    assert first["layout"]["uirevision"]  # plotly.js keeps nothing under 0
    assert "camera" not in json.dumps(packed(first)) and "aspect" not in json.dumps(packed(first))


@KIND
@pytest.mark.parametrize("log", [True, False])
def test_a_frame_over_others_is_the_figure_drawn_at_once(kind, log):
    figure = landscape_figure.blank(kind)
    for k, name in enumerate(("inf", "negative", "a corner of 1e9", "minimum 0")):
        last = landscape_figure.frame(kind, plane(ODD[name]), {"path": trail(k + 2)}, log=log)
        frames.apply(figure, last)
    assert (
        figure.to_plotly_json()["layout"] == frames.apply(landscape_figure.blank(kind), last).to_plotly_json()["layout"]
    )
    once = (charts.surface if kind == "3-D" else charts.contour)(plane(ODD["minimum 0"]), {"path": trail(5)}, log=log)
    assert figure.to_json() == once.to_json()


@KIND
def test_a_frame_is_small(kind):
    sizes = {}
    for points in (33, 65):
        axis = np.linspace(-1, 1, points)
        ground = plane(0.02 + axis[None] ** 2 + axis[:, None] ** 2)
        sizes[points] = len(json.dumps(packed(landscape_figure.frame(kind, ground, {"path": trail(50)}))))
    assert sizes[33] < 20_000 and sizes[65] < 55_000  # bytes: heights and raw losses, 4 each in base64, and the path


# Charts


def test_a_surface_and_contours_show_the_same_heights():
    surface, contour = (draw(plane(), {"path": trail()}) for draw in (charts.surface, charts.contour))
    assert (surface.data[0].type, contour.data[0].type) == ("surface", "contour")
    assert (
        np.array_equal(surface.data[0].z, contour.data[0].z)
        and surface.data[0].colorscale == contour.data[0].colorscale
    )


def test_planes_side_by_side_share_one_scale_of_colours_and_one_bar():
    planes = {f"width {k}": plane(BOWL * 10.0**k) for k in range(5)} | {"diverged": plane(ODD["inf"])}
    figure = charts.side_by_side(planes)
    grounds = [trace for trace in figure.data if trace.type == "contour"]
    assert len(grounds) == 6 and [ground.showscale for ground in grounds] == [True] + [False] * 5
    (shared,) = {(ground.zmin, ground.zmax) for ground in grounds}
    assert shared == pytest.approx((np.log10(0.02), np.log10(30_200)))
    assert len({str(ground.contours) for ground in grounds}) == 1
    listed = [trace.name for trace in figure.data if trace.showlegend]
    assert sorted(listed) == ["centre: the network", "grey: loss not finite"]
    titles = [note.text for note in figure.layout.annotations][:-1]
    assert titles[0] == "width 0<br>0.02 at the centre" and len(titles) == 6
    assert "of many (609): " in text_of(figure)
    for count in (0, 7):
        with pytest.raises(ValueError, match=f"{count} planes are given: .* 1 to 6"):
            charts.side_by_side({str(k): plane() for k in range(count)})


@pytest.mark.parametrize("count", range(1, 7))
def test_every_plane_side_by_side_has_named_axes_at_the_edge(count):
    figure = charts.side_by_side({str(k): plane() for k in range(count)})
    below = [axis.title.text for axis in figure.select_xaxes()][:count]
    columns = {1: 1, 2: 2, 3: 3, 4: 2, 5: 3, 6: 3}[count]
    assert below[-columns:] == ["random direction u"] * min(columns, count) and not any(below[:-columns])
    assert all(axis.range == (-1, 1) for axis in itertools.islice(figure.select_xaxes(), count))


T = np.linspace(0, 1, 9)
STRAIGHT = Line(T, {"loss": 0.1 + T * (1 - T), "test loss": 0.2 + T * (1 - T)}, {"length": 7.0})
CURVE = Line(T, {"loss": np.where(abs(T - 0.5) < 0.1, np.inf, 0.1)}, {})


def test_lines_are_drawn_on_training_and_test_data_and_break_where_not_finite():
    figure = charts.line({"straight": STRAIGHT, "curve": CURVE})
    assert [trace.name for trace in figure.data] == ["straight, train", "straight, test", "curve, train"]
    for trace, losses in zip(figure.data, (*STRAIGHT.values.values(), CURVE.loss), strict=True):
        assert np.array_equal(trace.customdata, losses) and np.array_equal(trace.x, T)
        assert np.allclose(trace.y, np.log10(losses, where=np.isfinite(losses), out=np.full(9, np.nan)), equal_nan=True)
    train, test, curve = figure.data
    assert train.line.dash != test.line.dash and train.line.color == test.line.color != curve.line.color
    assert train.marker.symbol != curve.marker.symbol
    assert figure.layout.yaxis.title.text == "loss (log scale)"
    assert [read(text) for text in figure.layout.yaxis.ticktext] == pytest.approx(
        10.0 ** np.array(figure.layout.yaxis.tickvals)
    )
    assert text_of(figure) == (
        "straight: loss 0.1 and 0.1 at the ends, which are 7 apart in weight space, 0.35 at most. curve: loss 0.1 and "
        "0.1 at the ends, 0.1 at most. Where it is not finite, the line is broken. These are single ways: beside a "
        "rise there may be a lower one."
    )


def test_one_line_has_the_colours_of_training_and_test_and_is_never_cut():
    peak = np.where(T == 0.5, 1e9, 0.5)
    figure = charts.line({"straight": Line(T, {"loss": peak, "test loss": peak}, {})}, log=False)
    assert [trace.line.color for trace in figure.data] == [theme.TRAIN, theme.TEST]
    assert np.allclose(figure.data[0].y, peak) and figure.layout.yaxis.title.text == "loss"
    with pytest.raises(ValueError, match="'accuracy' was not measured: take one of loss, test loss"):
        charts.line({"straight": STRAIGHT}, value="accuracy")


def test_off_the_plane_distance_and_both_losses_are_drawn_over_the_steps():
    way = trail()
    off, true, shown = charts.off_plane(way).data
    assert np.array_equal(off.y, way.distance) and all(
        np.array_equal(trace.x, way.steps) for trace in (off, true, shown)
    )
    assert np.allclose(true.y, np.log10(way.loss)) and np.allclose(shown.y, np.log10(way.plane_loss))
    assert true.line.dash != shown.line.dash
    figure = charts.off_plane({"sgd": way, "adam": way})
    assert [trace.name for trace in figure.data if trace.showlegend] == ["sgd", "adam"]
    assert figure.layout.yaxis.title.text == "distance off the plane, in weight space"
    assert figure.layout.yaxis2.title.text == "loss (log scale)<br>solid: true, dotted: the plane's"
    assert figure.layout.xaxis.title.text == figure.layout.xaxis2.title.text == "step"


def test_a_spectrum_is_ranked_and_what_is_below_0_has_another_colour_and_pattern():
    figure = charts.spectrum(np.array([2.0, 12.3]), np.array([-0.4, 0.1]))
    above, below = figure.data
    assert dict(zip(above.x, above.y, strict=True)) == {"1": 12.3, "2": 2.0, "−2": 0.1}
    assert dict(zip(below.x, below.y, strict=True)) == {"−1": -0.4}
    assert figure.layout.xaxis.categoryarray == ("1", "2", "−2", "−1")
    assert above.marker.color != below.marker.color and above.marker.pattern.shape != below.marker.pattern.shape
    assert text_of(figure).startswith("Largest 12.3, smallest −0.4.")
    assert "eigenvalue of the Hessian" in figure.layout.yaxis.title.text
    assert text_of(charts.spectrum(np.array([2.0]))).startswith("Largest 2.")


def test_sharpness_is_drawn_with_the_edge_of_stability():
    steps, values = np.arange(4), np.array([10.0, 30.0, 38.0, 42.0])
    figure = charts.sharpness(steps, values, 0.05)
    edge, line = figure.data
    assert np.array_equal(edge.y, [40] * 4) and np.array_equal(line.y, values) and edge.line.dash == "dash"
    assert "0.95 to 1.05 times 2 / learning rate" in text_of(figure)
    assert np.array_equal(charts.sharpness(steps, values, np.array([0.1, 0.1, 0.05, 0.05])).data[0].y, [20, 20, 40, 40])


def moving(count, points):
    axis = np.linspace(-1, 1, points)
    grounds = [plane(0.01 * (k + 1) + axis[None] ** 2 + axis[:, None] ** 2) for k in range(count)]
    return grounds, [{"path": trail(2 * k + 1)} for k in range(count)], [100 * k for k in range(count)]


def test_an_animation_has_a_frame_a_step_in_one_scale_and_is_small():
    planes, trails, steps = moving(25, 33)
    figure = charts.animation(planes, trails, steps)
    assert [frame.name for frame in figure.frames] == [str(step) for step in steps]
    assert [step.label for step in figure.layout.sliders[0].steps] == [str(step) for step in steps]
    assert [button.label for button in figure.layout.updatemenus[0].buttons] == ["Play", "Pause"]
    for ground, frame in zip(planes, figure.frames, strict=True):
        assert np.allclose(frame.data[0].z, np.log10(ground.loss), atol=1e-6)
    assert len({(frame.data[0].cmin, frame.data[0].cmax) for frame in figure.frames}) == 1
    assert [len(frame.data[-1].x) for frame in figure.frames] == [2 * k + 1 for k in range(25)]
    assert np.array_equal(figure.data[0].z, figure.frames[-1].data[0].z) and figure.layout.sliders[0].active == 24
    assert len(figure.to_json()) < 500_000


def test_an_animation_without_paths_and_one_of_unequal_lengths():
    planes, trails, steps = moving(3, 9)
    assert [trace.uid for trace in charts.animation(planes, None, steps).data] == ["surface", "mask", "centre"]
    with pytest.raises(ValueError, match="3 planes, 3 trails, 2 steps: give as many of each"):
        charts.animation(planes, trails, steps[:2])


FIGURES = {
    "surface": lambda: charts.surface(plane(), {"path": trail()}),
    "contour": lambda: charts.contour(plane(), {"path": trail()}),
    "side by side": lambda: charts.side_by_side({"one": plane(), "other": plane()}),
    "line": lambda: charts.line({"straight": STRAIGHT, "curve": CURVE}),
    "off plane": lambda: charts.off_plane({"sgd": trail(), "adam": trail()}),
    "spectrum": lambda: charts.spectrum(np.array([3.0, 1.0]), np.array([-1.0])),
    "sharpness": lambda: charts.sharpness(np.arange(3), np.arange(3.0), 0.1),
    "animation": lambda: charts.animation(*moving(2, 9)),
}


@pytest.mark.parametrize("name", FIGURES)
def test_captions_are_below_the_plot_legends_off_it_and_letters_large_enough(name):
    figure = FIGURES[name]()
    note, layout = figure.layout.annotations[-1], figure.layout
    assert (note.yanchor, note.y, note.yref) == ("top", 0, "paper") and note.yshift < 0
    assert all(len(line) <= landscape_figure.WRAP for line in note.text.split("<br>"))
    lines = 1 + note.text.count("<br>")
    assert layout.margin.b >= -note.yshift + lines * landscape_figure.LINE_HEIGHT  # all of it is on the page
    assert layout.legend.y >= 1 and layout.legend.orientation == "h"
    sizes = [int(size) for size in re.findall(r'"size":(\d+)[,}]', json.dumps(layout.to_plotly_json()))]
    assert min(sizes, default=12) >= 12


@pytest.mark.parametrize(
    ("normalize", "words"),
    [("filter", "1 = every filter moved by its own length"), ("none", "the direction as it was given")],
)
def test_the_caption_names_what_directions_were_drawn_with(normalize, words):
    facts = {"directions": {way: {"normalize": normalize} for way in "uv"}}
    assert landscape_figure.units(replace(plane(), facts=facts)).startswith(f"Along u and v: {words}")
    one = landscape_figure.units(replace(plane(), facts={"directions": {"u": {"normalize": "filter"}}}))
    assert one == f"Along u: 1 = every filter moved by its own length. Along v: {landscape_figure.UNITS['v']}."
