"""Charts of finished work: runs, the options of one choice, landscapes, curvature; and what a run shows, in words."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from labkit.plots import landscape_figure, learning_figure, theme
from labkit.plots.frames import apply, places
from labkit.plots.landscape_figure import caption, number
from labkit.plots.learning_figure import Thinned
from labkit.plots.theme import RUN_STYLES, TEST, TRAIN, as_float32, base, chart, loss_axis

SLIDER = 100  # pixels of a time slider


def learning(run: object, *, log: bool = True, against: str = "steps") -> go.Figure:
    """Draw a finished `labkit.Run` as the lab does: loss, score and predictions."""
    thinned = Thinned()
    thinned.add(run.loss)
    picture = run.picture()
    pace = run.seconds / max(1, run.steps) if against == "seconds" else 0.0
    curves = learning_figure.histories(
        thinned.curve(), (run.test_step, run.test_loss), run.score, seconds_per_step=pace
    )
    layout = learning_figure.static_layout(picture, run.points(), run.score_name, log, against)
    return apply(learning_figure.blank(), layout, learning_figure.prediction_update(picture), curves)


def compare(runs: dict[str, object], *, log: bool = True) -> go.Figure:
    """Draw the test losses of named runs (training losses where there is no test set) against steps and seconds."""
    figure = make_subplots(rows=1, cols=2, shared_yaxes=True, horizontal_spacing=0.08)
    for k, (name, run) in enumerate(runs.items()):
        steps, loss = comparable(run)
        colour, dash, _ = RUN_STYLES[k % len(RUN_STYLES)]
        line = {"color": colour, "dash": dash, "width": 2}
        pace = run.seconds / max(1, run.steps)
        for column, x in ((1, steps), (2, steps * pace)):
            place = {"row": 1, "col": column, "showlegend": column == 1}
            figure.add_scatter(x=as_float32(x), y=loss, mode="lines", name=name, line=line, **place)
    tested = [bool(np.isfinite(run.test_loss).any()) for run in runs.values()]
    what = "test loss" if all(tested) else "test or training loss" if any(tested) else "training loss"
    figure.update_layout(**base(), height=learning_figure.LEARNING_HEIGHT - 90, legend=theme.ABOVE)
    seconds = learning_figure.AGAINST["seconds"]
    figure.update_layout(xaxis_title="step", xaxis2_title=seconds, yaxis_title=what)  # first: it drops fonts
    return figure.update_yaxes(title_font_size=13, **loss_axis(log)).update_xaxes(title_font_size=13)


def by_choice(name: str, options: Sequence, scores: np.ndarray, score_name: str) -> go.Figure:
    """Draw what each option of one choice came to: a point a seed, and a line through the medians.

    Args:
        name: The choice.
        options: Its options.
        scores: What they came to.  # (options, seeds)
        score_name: What the scores are.
    """
    figure = chart(name, score_name, height=300)
    names = [str(option) for option in options]
    seeds = {"color": TRAIN, "symbol": "circle-open", "size": 8}
    every = {"x": np.repeat(names, scores.shape[1]), "y": scores.ravel()}
    figure.add_scatter(**every, mode="markers", marker=seeds, name="one seed")
    line = {"color": TEST, "width": 2}
    figure.add_scatter(x=names, y=np.median(scores, 1), mode="lines", line=line, name="median")
    if score_name.endswith(("accuracy", "R²")):
        figure.update_yaxes(range=[min(0.45, float(scores.min())) - 0.03, 1.03])
    return figure.update_yaxes(rangemode="tozero").update_xaxes(type="category")


def comparable(run: object) -> tuple[np.ndarray, np.ndarray]:
    """Return the steps and losses by which a run is compared with others."""  # (L,), (L,)
    if np.isfinite(run.test_loss).any():
        return run.test_step.astype(np.float32), as_float32(run.test_loss)
    thinned = Thinned()
    thinned.add(run.loss)
    return thinned.curve()


def in_words(
    train: np.ndarray, test: np.ndarray, score: float, score_name: str, test_step: Sequence | None = None
) -> str:
    """Say in one sentence what the curves show.

    Args:
        train: The training losses so far, at even steps.  # (K,)
        test: The test losses so far.  # (L,)
        score: The latest accuracy or R².
        score_name: Which of the two.
        test_step: When the test losses were measured; without it, at even steps.  # (L,)
    """
    if not len(train) or not len(test):
        return "Nothing is learned yet: press Train."
    now = float(np.mean(train[-max(1, len(train) // 20) :]))
    if not np.isfinite(test[-1]):
        means = np.array([part.mean() for part in np.array_split(np.asarray(train), min(20, len(train)))])
        return f"Training loss {now:.3g}, {trend(means)}; {score_name} {score:.2f}. There is no test set."
    parts = [f"Test loss {test[-1]:.3g}, {trend(test, test_step)}; {score_name} {score:.2f}"]
    apart = abs(test[-1] - now) > 0.01 * train[0]  # hardly anything is left to learn below that
    if apart and test[-1] > 1.2 * now:
        parts.append(f"training loss {now:.3g} is lower: the network knows its training points better")
    elif apart and now > 1.2 * test[-1]:
        parts.append(f"training loss {now:.3g} is higher: it is the mean of the latest batches")
    else:
        parts.append(f"training loss {now:.3g}: the two agree")
    return "; ".join(parts) + "."


def trend(losses: Sequence, steps: Sequence | None = None) -> str:
    """Say where a curve is heading: its last fifth of the steps against the fifth before, and the latest with the best.

    Args:
        losses: The losses.  # (L,)
        steps: When they were measured; without it, at even steps, which are then not named.  # (L,)
    """
    if len(losses) < 4:
        return "just begun"
    losses, at = np.asarray(losses, float), np.arange(len(losses)) if steps is None else np.asarray(steps)
    fifth = (at[-1] - at[0]) / 5
    late = at > at[-1] - fifth
    before = (at > at[-1] - 2 * fifth) & ~late
    if not before.any():  # nothing was measured then: the last loss before
        before = at == at[~late][-1]
    earlier, recent, latest = np.median(losses[before]), np.median(losses[late]), losses[-1]
    best = int(np.nanargmin(losses))
    worse = latest > 1.5 * losses[best]
    where = f", above its best of {losses[best]:.3g}" + ("" if steps is None else f" at step {at[best]:,}")
    if max(recent, latest) < 0.95 * earlier:
        return "falling again" + where if worse else "still falling"
    rises = min(recent, latest) > 1.05 * earlier or latest > 1.5 * recent
    return ("rising" if rises else "level") + (where if worse else "")


def surface(plane: object, trails: dict | None = None, *, value: str = "loss", log: bool = True) -> go.Figure:
    """Draw a `labkit.Plane` in 3-D, with the paths of runs on it at their true losses.

    Args:
        plane: What to draw.
        trails: A `labkit.landscape.trajectories.Trajectory` under each name.
        value: Which of the plane's values; paths are drawn on "loss" alone.
        log: Draw losses by powers of ten.
    """
    return _landscape("3-D", plane, trails, value, log)


def contour(plane: object, trails: dict | None = None, *, value: str = "loss", log: bool = True) -> go.Figure:
    """Draw a `labkit.Plane` as contours, with the paths of runs on it; arguments as for `surface`."""
    return _landscape("contours", plane, trails, value, log)


def _landscape(kind: str, plane: object, trails: dict | None, value: str, log: bool) -> go.Figure:
    figure = landscape_figure.blank(kind, len(trails or {}))
    return apply(figure, landscape_figure.frame(kind, plane, trails, value=value, log=log))


def side_by_side(planes: dict[str, object], *, value: str = "loss", log: bool = True) -> go.Figure:
    """Draw up to six named planes as contours in one scale of colours, to compare several networks."""
    if not 1 <= len(planes) <= 6:
        raise ValueError(f"{len(planes)} planes are given: side by side there is room for 1 to 6.")
    columns = 2 if len(planes) == 4 else min(3, len(planes))
    titles = [
        f"{name}<br>{number(landscape_figure.at_centre(plane, value))} at the centre" for name, plane in planes.items()
    ]
    figure = make_subplots(
        -(-len(planes) // columns), columns, subplot_titles=titles, horizontal_spacing=0.09, vertical_spacing=0.22
    )
    shared = landscape_figure.fitting(planes.values(), (), value, log)
    listed: set = set()
    for k, plane in enumerate(planes.values()):
        place = {"row": k // columns + 1, "col": k % columns + 1}
        one = landscape_figure.blank("contours", 0)
        apply(one, landscape_figure.frame("contours", plane, value=value, shared=shared))
        one.data[places(one)[landscape_figure.SURFACE]].showscale = k == 0
        for trace in one.data:
            trace.uid = f"{trace.uid}_{k}"
            trace.legendgroup, trace.showlegend = trace.name, bool(trace.showlegend) and trace.name not in listed
            listed |= {trace.name} if trace.showlegend else set()
            figure.add_trace(trace, **place)
        x, y = one.layout.xaxis, one.layout.yaxis
        below = x.title.text if k + columns >= len(planes) else ""
        figure.update_xaxes(range=x.range, title_text=below, ticklabelstandoff=x.ticklabelstandoff, **place)
        figure.update_yaxes(range=y.range, title_text="" if k % columns else y.title.text, **place)
    sizes = ", ".join(dict.fromkeys(f"{p.facts['parameters']:,}" for p in planes.values() if "parameters" in p.facts))
    slices = f"Each picture is 2 directions of many ({sizes}): the loss may look different along others."
    figure.update_annotations(font_size=13)
    _captioned(figure, f"{_units(planes)} {slices}", 300 * -(-len(planes) // columns) + 100)
    above = {"y": 1, "yref": "container", "yanchor": "top"}  # higher than the names of the planes
    return figure.update_layout(margin={"r": 96, "t": 80}, legend=above)


def _units(planes: dict[str, object]) -> str:
    """Say what the axes measure, for each plane apart where they differ."""
    told: dict[str, list[str]] = {}
    for name, plane in planes.items():
        told.setdefault(landscape_figure.units(plane), []).append(name)
    return " ".join(told if len(told) == 1 else (f"{' and '.join(names)}: {text}" for text, names in told.items()))


def line(lines: dict[str, object], *, value: str = "loss", log: bool = True) -> go.Figure:
    """Draw `planes.Line`s from one network to another, on training data and, where they have any, test data.

    Args:
        lines: The ways, straight or curved, between the same two networks, each under a name.
        value: Which of the lines' values.
        log: Draw losses by powers of ten.
    """
    for values in (way.values for way in lines.values() if value not in way.values):
        raise ValueError(f"value={value!r} was not measured: take one of {', '.join(values)}, or make the line anew.")
    both = {value: ("train", "solid", TRAIN), f"test {value}": ("test", "dot", TEST)}
    drawn = [(name, way, key) for name, way in lines.items() for key in both if key in way.values]
    losses = [way.values[key] for _, way, key in drawn]
    scale = landscape_figure.scale(*losses, log=log and not value.endswith("accuracy"), cut=False)
    figure = go.Figure(layout=base())
    for (name, way, key), values in zip(drawn, losses, strict=True):
        part, dash, colour = both[key]
        own, _, symbol = RUN_STYLES[list(lines).index(name) % len(RUN_STYLES)]
        y = scale.heights(values)
        line = {"color": colour if len(lines) == 1 else own, "dash": dash, "width": 2}
        look = {"mode": "lines+markers", "line": line, "marker_symbol": symbol, "name": f"{name}, {part}"}
        hover = f"{key} %{{customdata:.4g}} at %{{x:.3g}}<extra>{name}</extra>"
        figure.add_scatter(x=way.t, y=y, customdata=values, hovertemplate=hover, **look)
    figure.update_yaxes(title_text=scale.title(value), **scale.ticks())
    figure.update_xaxes(title_text="on the way from the first network (0) to the second (1)")
    ways = " ".join(_way(name, way.values[value], value, way.facts.get("length")) for name, way in lines.items())
    return _captioned(figure, f"{ways} These are single ways: beside a rise there may be a lower one.")


def _way(name: str, values: np.ndarray, value: str, length: float | None) -> str:
    """Say how high a line rises, and how long it is where it is straight."""
    lost = "" if np.isfinite(values).all() else " Where it is not finite, the line is broken."
    inner = values[np.isfinite(values)]
    highest = number(inner.max()) if len(inner) else "nothing finite"
    far = "" if length is None else f", which are {number(length)} apart in weight space"
    return f"{name}: {value} {number(values[0])} and {number(values[-1])} at the ends{far}, {highest} at most.{lost}"


def off_plane(trails: object) -> go.Figure:
    """Draw how far off a plane a path is, and its true loss beside what the plane shows, over the steps.

    Args:
        trails: A trail, or a trail under each name.
    """
    trails = trails if isinstance(trails, dict) else {"path": trails}
    figure = make_subplots(1, 2, horizontal_spacing=0.18)
    both = [each for trail in trails.values() for each in (trail.loss, trail.plane_loss)]
    scale = landscape_figure.scale(*both, log=True, cut=False)
    for k, (name, trail) in enumerate(trails.items()):
        colour, _, symbol = RUN_STYLES[k % len(RUN_STYLES)]
        line = {"color": colour, "width": 2}
        dots = {"mode": "lines+markers", "marker": {"symbol": symbol, "size": 5}, "line": line}
        figure.add_scatter(x=trail.steps, y=trail.distance, name=name, showlegend=len(trails) > 1, **dots, row=1, col=1)
        dotted = {"mode": "lines", "line": line | {"dash": "dot"}}
        for what, losses, look in (("true", trail.loss, dots), ("of the plane", trail.plane_loss, dotted)):
            place = {"row": 1, "col": 2, "showlegend": False, "customdata": losses}
            hover = f"loss {what} %{{customdata:.4g}} at step %{{x:,}}<extra>{name}</extra>"
            figure.add_scatter(x=trail.steps, y=scale.heights(losses), hovertemplate=hover, **place, **look)
    figure.update_xaxes(title_text="step")
    figure.update_yaxes(title_text="distance off the plane, in weight space", rangemode="tozero", row=1, col=1)
    title = f"{scale.title('loss')}<br>solid: true, dotted: the plane's"
    figure.update_yaxes(title_text=title, **scale.ticks(), row=1, col=2)
    return _captioned(figure, "The plane's loss is that of its point nearest to the path: the picture shows this one.")


def spectrum(largest: np.ndarray, smallest: Sequence = ()) -> go.Figure:
    """Draw eigenvalues of the Hessian: how sharply the loss bends along the steepest and the most hollow directions.

    Args:
        largest: The largest eigenvalues.  # (k,)
        smallest: The smallest, if known.  # (m,)
    """
    values = np.concatenate([np.sort(largest)[::-1], np.sort(smallest)[::-1]])
    ranks = [str(k + 1) for k in range(len(largest))] + [f"−{k}" for k in range(len(smallest), 0, -1)]
    figure = go.Figure(layout=base() | {"bargap": 0.5})
    signs = (("above 0: the loss rises to both sides", theme.ORANGE, "", values >= 0),)
    signs += (("below 0: the loss falls to both sides", theme.BLUE, "/", values < 0),)
    for name, colour, pattern, chosen in signs:
        bars = {"color": colour, "pattern": {"shape": pattern}}
        if chosen.any():
            x = [rank for rank, one in zip(ranks, chosen, strict=True) if one]
            figure.add_bar(x=x, y=values[chosen], name=name, marker=bars, showlegend=True)
    title = "rank: 1 is the largest" + (", −1 the smallest" if len(smallest) else "")
    figure.update_xaxes(title_text=title, type="category", categoryorder="array", categoryarray=ranks)
    figure.update_yaxes(title_text="eigenvalue of the Hessian<br>(loss per squared distance)")
    ends = f"Largest {number(values[0])}" + (f", smallest {number(values[-1])}" if len(smallest) else "")
    return _captioned(figure, f"{ends}. Along an eigenvector, a step s bends the loss by ½ · eigenvalue · s².")


def sharpness(steps: np.ndarray, values: np.ndarray, lr: float | np.ndarray) -> go.Figure:
    """Draw the largest eigenvalue of the Hessian over the steps, and the edge of stability (Cohen et al. 2021).

    Args:
        steps: When it was measured.  # (S,)
        values: The sharpness there.  # (S,)
        lr: The learning rate of gradient descent: one, or one at each of those steps.
    """
    edge = np.broadcast_to(2 / np.asarray(lr, dtype=float), len(steps))
    figure = go.Figure(layout=base())
    dashed = {"color": theme.ORANGE, "dash": "dash", "width": 2}
    figure.add_scatter(x=steps, y=edge, name="2 / learning rate", line=dashed)
    figure.add_scatter(x=steps, y=values, name="sharpness", mode="lines+markers", line={"color": TRAIN, "width": 2})
    figure.update_xaxes(title_text="step")
    figure.update_yaxes(title_text="sharpness: largest eigenvalue<br>of the Hessian", rangemode="tozero")
    late = (np.asarray(values) / edge)[len(steps) // 2 :]
    told = (
        f"Over the second half the sharpness is {number(late.min())} to {number(late.max())} times 2 / learning rate."
    )
    return _captioned(figure, f"{told} Above that line gradient descent overshoots along the sharpest direction.")


def signal(signals: dict[str, object]) -> go.Figure:
    """Draw the variance over samples of the sums that each layer makes: up to six `labkit.Signal`s."""
    figure = go.Figure(layout=base())
    for k, (name, each) in enumerate(signals.items()):
        colour, _, symbol = RUN_STYLES[k % len(RUN_STYLES)]
        look = {"mode": "lines+markers", "line": {"color": colour, "width": 2}, "marker": {"symbol": symbol, "size": 7}}
        hover = f"layer %{{x}}: %{{y:.3g}}<extra>{name}</extra>"
        layers = np.arange(1, len(each.variance) + 1)
        figure.add_scatter(x=layers, y=each.variance, name=name, hovertemplate=hover, **look)
    figure.update_xaxes(title_text="layer", dtick=1 if max(len(s.variance) for s in signals.values()) < 20 else None)
    title = "variance of the sums<br>over the samples"
    figure.update_yaxes(title_text=title, title_standoff=24, **loss_axis(log=True))
    said = "A line that falls by a steady factor loses the signal: deep layers see hardly any of the input."
    return _captioned(figure, said).update_layout(margin_l=96)


def animation(planes: Sequence, trails: Sequence[dict] | None, steps: Sequence, *, log: bool = True) -> go.Figure:
    """Draw the loss surface moving during a training, with a slider of its steps; one scale of heights and colours.

    Args:
        planes: The plane at each step, of the same shape.
        trails: The paths on each plane up to its step, or None.
        steps: The steps.
        log: Draw losses by powers of ten.
    """
    trails = trails or [{}] * len(planes)
    if not len(planes) == len(trails) == len(steps):
        raise ValueError(f"{len(planes)} planes, {len(trails)} trails, {len(steps)} steps: give as many of each.")
    shared = landscape_figure.fitting(planes, [one for each in trails for one in each.values()], "loss", log)
    moves = [landscape_figure.frame("3-D", *pair, shared=shared) for pair in zip(planes, trails, strict=True)]
    figure = apply(landscape_figure.blank("3-D", max(map(len, trails))), moves[-1])
    figure.frames = [_move(figure, move, step) for move, step in zip(moves, steps, strict=True)]
    figure.layout.annotations[0].yshift -= SLIDER
    room = {"height": figure.layout.height + SLIDER, "margin_b": figure.layout.margin.b + SLIDER}
    return figure.update_layout(**room, **_slider([str(step) for step in steps]))


def _move(figure: go.Figure, move: dict, step: int) -> go.Frame:
    """One frame of an animation: what changes, and nothing that stays."""
    still = {"colorbar", "hovertemplate", "name", "meta"}
    where = [places(figure)[name] for name in move["traces"]]
    data = [
        {"type": figure.data[place].type} | {key: values[key] for key in values if key not in still}
        for place, values in zip(where, move["traces"].values(), strict=True)
    ]
    return go.Frame(name=str(step), data=data, traces=where)


def _slider(names: list[str]) -> dict:
    """A slider over frames, and buttons that play them."""
    at_once = {"mode": "immediate", "transition": {"duration": 0}}
    jump, play = at_once | {"frame": {"duration": 0}}, at_once | {"frame": {"duration": 300}, "fromcurrent": True}
    steps = [{"label": name, "method": "animate", "args": [[name], jump]} for name in names]
    slider = {"steps": steps, "active": len(names) - 1, "currentvalue": {"prefix": "step "}, "x": 0.22, "len": 0.78}
    buttons = [
        {"label": "Play", "method": "animate", "args": [None, play]},
        {"label": "Pause", "method": "animate", "args": [[None], jump]},
    ]
    menu = {"type": "buttons", "direction": "left", "buttons": buttons, "x": 0, "y": 0, "xanchor": "left"}
    return {
        "sliders": [slider | {"y": 0}],
        "updatemenus": [menu | {"yanchor": "top", "pad": {"t": 24}, "showactive": False}],
    }


def _captioned(figure: go.Figure, text: str, height: int = 400) -> go.Figure:
    """Put a caption under a chart, and its legend above."""
    note = caption(text, 52)
    bottom = 60 + landscape_figure.LINE_HEIGHT * (1 + note["text"].count("<br>"))
    figure.add_annotation(note).update_layout(base() | {"height": height, "legend": theme.ABOVE}, margin_b=bottom)
    return figure.update_xaxes(title_font_size=13).update_yaxes(title_font_size=13)
