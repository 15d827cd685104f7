"""The landscape's figure and its frames: the loss in 3-D or as contours, and the paths of runs.

As in `learning_figure`, a `blank` figure stays and a `frame` says what is to be seen on it. The live lab and the charts
draw the same.
"""

import textwrap
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from labkit.plots import theme
from labkit.plots.theme import RUN_STYLES, as_float32, base

KINDS = ("3-D", "contours")
LANDSCAPE_HEIGHT = 560  # pixels
WRAP = 102  # letters to a line of a caption: what a chart 700 pixels wide has room for
LINE_HEIGHT = 17  # pixels of a caption's line
LEVELS, PATH_POINTS = 16, 100  # contours; what a path is drawn with at most
SURFACE, MASK, CENTRE, PATH, UNDER_PATH = "surface", "mask", "centre", "path_{}", "under_path_{}"  # traces of `blank`
SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
AXES = {"u": "along u", "v": "along v"}
UNITS = dict.fromkeys("uv", "the direction as it was given: 1 = once its own length")
DRAWN = {normalize: f"1 = every {normalize} moved by its own length" for normalize in ("filter", "layer")}
LOSS_BAR = theme.BAR | {"thickness": 12, "tickfont": {"size": 12}, "title": {"side": "right"}}
HIDDEN = {"name": "grey: loss not finite", "colorscale": [[0, theme.NOT_FINITE], [1, theme.NOT_FINITE]]}
HIDDEN |= {"showscale": False, "visible": False, "uid": MASK}
LEGEND = theme.ABOVE | {"y": 1.01, "entrywidth": 0, "itemsizing": "constant", "bgcolor": theme.CLEAR}
LEGEND |= {"font": {"size": 12}, "title": {"side": "top", "font": {"size": 12}}}
DROPS = "thin lines: from the true loss to what the surface shows"
RINGS = "larger symbol: further off this plane, at most {} in weight space"
STOP = "%{meta}, step %{customdata[0]:,}<br>true loss %{customdata[1]:.4g}<br>this plane's loss here "
STOP += "%{customdata[2]:.4g}<br>%{customdata[3]:.3g} off this plane<extra></extra>"


@dataclass(frozen=True)
class Scale:
    """How losses become heights and colours.

    Attributes:
        log: By powers of ten.
        offset: What is added to every loss before the logarithm is taken; 0 where all of them are above 0.
        low, high: The heights of the lowest and the highest that is drawn.
        cut: Where losses are cut for display, or None.
    """

    log: bool
    offset: float
    low: float
    high: float
    cut: float | None

    def heights(self, losses: np.ndarray) -> np.ndarray:
        """Return what is drawn: nan where a loss is not finite, cut where it is too high."""
        losses = np.asarray(losses, dtype=float)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            heights = np.log10(losses + self.offset) if self.log else losses
            return as_float32(np.where(np.isfinite(losses), np.minimum(heights, self.high), np.nan))

    def above(self, losses: np.ndarray) -> np.ndarray:
        """Return heights a little over the surface, so that what is drawn there does not sink in."""
        return self.heights(losses) + np.float32(0.01 * (self.high - self.low))

    def title(self, value: str) -> str:
        """Say what the heights mean."""
        offset = f" + {self.offset:.12g}" if self.offset else ""
        cut = f", cut at {number(self.cut)}" if self.cut is not None else ""
        return value + f"{offset} (log scale)" * self.log + cut

    def ticks(self) -> dict:
        """Return the ticks of an axis or a colour bar: losses, never logarithms."""
        values = _powers(self.low, self.high) if self.log else _steps(self.low, self.high)
        heights = np.log10(values) if self.log else values
        return {"tickmode": "array", "tickvals": heights.tolist(), "ticktext": [number(v, 6) for v in values]}


def scale(*losses: np.ndarray, log: bool, cut: bool = True) -> Scale:
    """Return one scale for arrays that are drawn together.

    Args:
        losses: The arrays.
        log: By powers of ten.
        cut: Cut what towers over its own array: twice as high over the 5th percentile as the 95th is, and more.
    """
    finite = [part for part in (np.asarray(each, float)[np.isfinite(each)] for each in losses) if len(part)]
    if not finite:
        return Scale(False, 0.0, 0.0, 1.0, None)
    offset = _offset(np.concatenate(finite)) if log else 0.0
    heights = [np.log10(part + offset) if log else part for part in finite]
    low, highest = min(part.min() for part in heights), max(part.max() for part in heights)
    high = max(_top(part) for part in heights) if cut else highest
    limit = None
    if high < highest:
        limit = float(10**high - offset if log else high)
    room = _room(low, high, log)
    return Scale(log, offset, float(low - room), float(high + room), limit)


def _top(heights: np.ndarray) -> float:
    """The highest that is drawn of one array: what towers twice as high as the 95th percentile, and more, is cut."""
    usual, high = np.quantile(heights, (0.05, 0.95))
    if high == usual:
        return heights.max()
    return min(heights.max(), 2 * high - usual)


def _room(low: float, high: float, log: bool) -> float:
    """How far to widen a range of equal heights to both sides, so that they have one colour, amid the bar."""
    if high - low > 1e-6 * (1 if log else abs(low)):
        return 0.0
    if log:
        return 0.5
    return 0.5 * abs(low) or 0.5


def _offset(losses: np.ndarray) -> float:
    """A short number that lifts the lowest loss above 0: by a thousandth, or a little more, of how far others rise."""
    lowest = losses.min()
    if lowest > 0:
        return 0.0
    least = 1e-3 * np.median((losses - lowest)[losses > lowest]) if lowest < losses.max() else 1.0
    unit = 10.0 ** np.floor(np.log10(least))
    return float(f"{np.ceil((least - lowest) / unit) * unit:.12g}")


def _powers(low: float, high: float) -> np.ndarray:
    """Round numbers between two powers of ten, at most eight of them."""
    decades = 10.0 ** np.arange(np.floor(low), np.ceil(high) + 1)
    for digits in ((1,), (1, 3), (1, 2, 5)):
        values = np.outer(decades, digits).ravel()
        values = values[(values >= 10**low) & (values <= 10**high)]
        if len(values) > 2:
            return values[:: -(-len(values) // 8)]
    return _steps(10**low, 10**high)


def _steps(low: float, high: float) -> np.ndarray:
    """Round numbers at even steps between two numbers."""
    unit = 10.0 ** np.floor(np.log10((high - low) / 4))
    step = unit * max(k for k in (0.5, 1, 2, 5) if k * unit <= (high - low) / 4)
    return np.arange(np.ceil(low / step), np.floor(high / step) + 1) * step


def number(value: float, digits: int = 3) -> str:
    """Write a number as in print: 0.021, 12,300, 3·10⁻⁷."""
    if not np.isfinite(value) or value == 0 or 1e-4 <= abs(value) < 1e6:
        return f"{float(f'{value:.{digits}g}'):,.10g}".replace("-", "−")
    factor, power = f"{value:.{digits - 1}e}".split("e")
    return f"{float(factor):g}·10{str(int(power)).translate(SUPERSCRIPT)}".removeprefix("1·").replace("-", "−")


def blank(kind: str, trails: int = 1) -> go.Figure:
    """Return the landscape's figure with nothing on it.

    Args:
        kind: "3-D" or "contours".
        trails: How many paths it has room for.
    """
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r} is not allowed: take one of {', '.join(KINDS)}.")
    solid, figure = kind == "3-D", go.Figure(layout=base() | {"height": LANDSCAPE_HEIGHT, "legend": LEGEND})
    (_solid if solid else _flat)(figure)
    add = figure.add_scatter3d if solid else figure.add_scatter
    nothing = {axis: [] for axis in ("xyz" if solid else "xy")}
    label = {"size": 13} if solid else theme.LABEL
    cross = {"symbol": "x", "color": theme.BLACK, "size": 5 if solid else 11}
    cross["line"] = {"color": theme.WHITE, "width": 1.5}
    pole = {"mode": "lines+markers", "line": {"color": theme.BLACK, "width": 2}} if solid else {"mode": "markers"}
    add(**nothing, **pole, marker=cross, name="centre: the network", hoverinfo="name", uid=CENTRE)
    for k in range(trails):
        colour, dash, symbol = RUN_STYLES[k % len(RUN_STYLES)]
        under = {"width": 1.5, "color": colour} if solid else {"width": 5.5, "color": theme.WHITE}
        line = {"width": 5 if solid else 2.5, "color": colour, "dash": dash}
        edge = {"width": 0 if solid else 1.5, "color": colour}
        dots = {"color": colour if solid else colour + "66", "symbol": symbol, "size": 3, "line": edge}
        add(**nothing, uid=UNDER_PATH.format(k), mode="lines", line=under, showlegend=False, hoverinfo="skip")
        path = {"mode": "lines+markers+text", "line": line, "marker": dots}
        add(**nothing, uid=PATH.format(k), **path, textfont=label, hovertemplate=STOP)
    return figure


def _solid(figure: go.Figure) -> None:
    light = {"ambient": 0.75, "diffuse": 0.5, "specular": 0.05, "roughness": 0.9}
    lines = {"z": {"show": True, "color": theme.LEVEL_LINE["color"], "width": 1, "highlight": False}}
    colours = {"colorscale": theme.EARTH, "colorbar": LOSS_BAR, "opacity": 0.85}
    figure.add_surface(uid=SURFACE, **colours, lighting=light, contours=lines)
    figure.add_surface(**HIDDEN, lighting=light, hoverinfo="skip")
    axis = {"showspikes": False, "showbackground": False, "gridcolor": theme.GRID, "zeroline": False}
    camera = {"eye": {"x": 1.5, "y": -1.65, "z": 1.1}, "center": {"z": -0.2}}
    scene = dict.fromkeys(("xaxis", "yaxis", "zaxis"), axis) | {"camera": camera, "aspectmode": "manual"}
    scene["aspectratio"] = {"x": 1.3, "y": 1.3, "z": 0.8}
    figure.update_layout(scene=scene, margin={"l": 10, "r": 96, "t": 84, "b": 16 + 5 * LINE_HEIGHT})


def _flat(figure: go.Figure) -> None:
    figure.add_contour(uid=SURFACE, colorscale=theme.EARTH, colorbar=LOSS_BAR, line=theme.LEVEL_LINE)
    figure.add_heatmap(**HIDDEN, zmin=0, zmax=1, hoverinfo="skip")
    figure.update_layout(margin={"r": 96, "t": 84, "b": 56 + 5 * LINE_HEIGHT})
    figure.update_xaxes(title_font_size=13, showgrid=False, zeroline=False, ticklabelstandoff=4)
    figure.update_yaxes(title_font_size=13, showgrid=False, zeroline=False, title_standoff=4)


def frame(
    kind: str,
    plane: object,
    trails: dict | None = None,
    *,
    value: str = "loss",
    log: bool = True,
    shared: Scale | None = None,
    zoom: int = 0,
) -> dict:
    """Return the frame of a `labkit.Plane` and of paths on it.

    In 3-D a path is drawn at its true loss, so it is drawn on the loss alone: of other values it has none.

    Args:
        kind: "3-D" or "contours", as in `blank`.
        plane: What to draw.
        trails: A `labkit.landscape.trajectories.Trajectory` under each name; at most as many as `blank` made room for.
        value: Which of the plane's values.
        log: Draw losses by powers of ten; an accuracy is drawn as it is.
        shared: The scale of several frames; without it, the plane's own.
        zoom: The view is kept as it was turned or zoomed, from frame to frame, until this changes.
    """
    solid = kind == "3-D"
    trails = {} if trails is None or (solid and value != "loss") else trails
    heights = shared or fitting([plane], trails.values() if solid else (), value, log)
    reach = max((float(trail.distance.max()) for trail in trails.values()), default=0.0)
    with np.errstate(over="ignore"):  # a loss beyond float32 is told as infinite
        traces = {SURFACE: _surface(plane, value, heights, solid), MASK: _mask(plane, value, heights, solid)}
        traces[CENTRE] = _centre(plane, value, heights, solid)
        for k, (name, trail) in enumerate(trails.items()):
            labels = "" if k else "start", name if len(trails) > 1 else f"step {int(trail.steps[-1]):,}"
            under, path = _path(trail, name, labels, heights if solid else None, reach)
            traces |= {UNDER_PATH.format(k): under, PATH.format(k): path}
    layout = _axes(plane, value, heights, solid) | {"uirevision": zoom + 1}  # 0 would be none
    layout["annotations"] = [caption(f"{units(plane)} {hides(plane, trails)}", 8 if solid else 50)]
    layout["legend"] = {"title": {"text": (DROPS if solid else RINGS.format(number(reach))) if reach else ""}}
    return {"traces": traces, "layout": layout}


def fitting(planes: Iterable, trails: Iterable, value: str, log: bool) -> Scale:
    """Return the scale that fits planes and paths together."""
    for values in (plane.values for plane in planes if value not in plane.values):
        raise ValueError(f"value={value!r} was not measured: take one of {', '.join(values)}, or make the plane anew.")
    losses = [plane.values[value][plane.computed] for plane in planes] + [trail.loss for trail in trails]
    plain = value.endswith("accuracy")
    return scale(*losses, log=log and not plain, cut=not plain)


def _surface(plane: object, value: str, heights: Scale, solid: bool) -> dict:
    raw = np.where(plane.computed, plane.values[value], np.nan)
    trace = {"x": as_float32(plane.alpha), "y": as_float32(plane.beta)}
    trace |= {"z": heights.heights(raw), "customdata": as_float32(raw)}
    trace["colorbar"] = {"title": {"text": heights.title(value)}} | heights.ticks()
    trace["hovertemplate"] = f"u %{{x:.3g}}, v %{{y:.3g}}<br>{value} %{{customdata:.4g}}<extra></extra>"
    trace["reversescale"] = value.endswith("accuracy")  # what is good is light
    low, high, step = heights.low, heights.high, (heights.high - heights.low) / LEVELS
    levels = {"start": low + step, "end": high - step / 2, "size": step}
    if solid:
        return trace | {"cmin": low, "cmax": high, "contours": {"z": levels}}
    return trace | {"zmin": low, "zmax": high, "contours": levels}


def _mask(plane: object, value: str, heights: Scale, solid: bool) -> dict:
    """A grey sheet where the value is not finite, which goes on a little way under the surface around it."""
    losses = plane.values[value]
    hole = plane.computed & ~np.isfinite(losses)
    if not hole.any():
        return {"x": None, "y": None, "z": None, "visible": False, "showlegend": False}
    around, (rows, columns) = np.pad(hole, 2), hole.shape
    wide = np.any([around[i : i + rows, j : j + columns] for i in range(5) for j in range(5)], axis=0) & plane.computed
    under = heights.heights(losses) - 0.01 * (heights.high - heights.low)
    sheet = np.where(wide, np.where(hole, heights.high, under), np.nan)
    z = as_float32(sheet) if solid else wide.astype(np.uint8)
    return {"x": as_float32(plane.alpha), "y": as_float32(plane.beta), "z": z, "visible": True, "showlegend": True}


def _centre(plane: object, value: str, heights: Scale, solid: bool) -> dict:
    inside = plane.alpha[0] <= 0 <= plane.alpha[-1] and plane.beta[0] <= 0 <= plane.beta[-1]
    place = [0.0] * (1 + solid) if inside else []
    name = f"centre: {plane.facts.get('centre', 'the network')}"
    z = [float(heights.above([at_centre(plane, value)])[0]), heights.high][: len(place)]  # a pole: it may be in a pit
    return {"x": place, "y": place, "name": name, "showlegend": bool(inside)} | ({"z": z} if solid else {})


def at_centre(plane: object, value: str = "loss") -> float:
    """Return a plane's value at its centre, or at the point next to it."""
    return float(plane.values[value][np.abs(plane.beta).argmin(), np.abs(plane.alpha).argmin()])


def _path(trail: object, name: str, labels: tuple, heights: Scale | None, reach: float) -> tuple[dict, dict]:
    """A path and what is under it: in 3-D thin lines to the surface, on the map a white line to set it off."""
    count = len(trail.steps)
    kept = np.unique(np.linspace(0, count - 1, min(count, PATH_POINTS)).round().astype(int))
    line = {"x": as_float32(trail.alpha[kept]), "y": as_float32(trail.beta[kept])}
    facts = np.stack([trail.steps, trail.loss, trail.plane_loss, trail.distance], 1)[kept]
    text, side = [""] * len(kept), ["bottom center"] * len(kept)
    text[0], text[-1], side[0] = *labels, "top center"
    path = line | {"name": name, "meta": name, "text": text, "customdata": as_float32(facts)}
    if heights is None:
        sizes = 5 + 11 * trail.distance[kept] / (reach or 1)  # pixels
        return line, path | {"textposition": side, "marker": {"size": as_float32(sizes)}}
    true, shown = heights.above(trail.loss[kept]), heights.heights(trail.plane_loss[kept])
    drops = np.stack([true, shown, np.full_like(true, np.nan)], 1).ravel()
    return {"x": np.repeat(line["x"], 3), "y": np.repeat(line["y"], 3), "z": drops}, path | {"z": true}


def _axes(plane: object, value: str, heights: Scale, solid: bool) -> dict:
    titles, axes = AXES | plane.facts.get("axes", {}), {}
    for axis, way, steps in (("xaxis", "u", plane.alpha), ("yaxis", "v", plane.beta)):
        axes[axis] = {"title": {"text": titles[way]}, "range": [float(steps[0]), float(steps[-1])], "autorange": False}
    room = 0.03 * (heights.high - heights.low)
    height = {"title": {"text": heights.title(value)}, "range": [heights.low - room, heights.high + room]}
    return {"scene": axes | {"zaxis": height | heights.ticks()}} if solid else axes


def caption(text: str, below: int) -> dict:
    """Return an annotation `below` pixels under a plot."""
    lines = "<br>".join(textwrap.wrap(text, WRAP))
    place = {"x": 0, "y": 0, "xref": "paper", "yref": "paper", "xanchor": "left", "yanchor": "top", "yshift": -below}
    return {"text": lines, "align": "left", "showarrow": False, "font": {"size": 12}, **place}


def units(plane: object) -> str:
    """Say what the axes measure."""
    made = plane.facts.get("directions", {})
    drawn = {way: DRAWN.get(how.get("normalize"), UNITS[way]) for way, how in made.items()}
    u, v = ((UNITS | drawn | plane.facts.get("units", {}))[each] for each in "uv")
    return f"Along u and v: {u}." if u == v else f"Along u: {u}. Along v: {v}."


def hides(plane: object, trails: dict) -> str:
    """Say what a slice does not show: how far off it the paths are, and how many directions it leaves out."""
    told = [_off(trails)] if trails else []
    if count := plane.facts.get("parameters"):
        told.append(f"This is 2 of {count:,} directions: the loss may look different along others.")
    return " ".join(told)


def _off(trails: dict) -> str:
    """Say how far off the plane a path is, of several the one whose end is shown most wrongly."""
    name, trail = max(trails.items(), key=lambda each: (_wrong(each[1]), each[1].distance.max()))
    path = "The path" if len(trails) == 1 else f"The path of {name}"
    far, reach = int(trail.distance.argmax()), float(trail.distance.max())
    if reach < 1e-6 * (1 + np.abs([trail.alpha, trail.beta]).max()):
        return f"{path} lies in this plane."
    end = "on this plane"
    if trail.distance[-1] >= 1e-3 * reach:
        shown = f"where the true loss is {number(trail.loss[-1])} and the picture shows {number(trail.plane_loss[-1])}"
        end = f"{number(trail.distance[-1])} off this plane, {shown}"
    furthest = f"furthest off, by {number(reach)}, is " + ("its start" if far == 0 else f"step {trail.steps[far]:,}")
    there = f"there the true loss is {number(trail.loss[far])} where the picture shows {number(trail.plane_loss[far])}"
    return f"{path} ends {end}; {furthest}: {there}."


def _wrong(trail: object) -> float:
    """How many times too high or too low, as a logarithm, a path's end is shown."""
    both = np.array([trail.loss[-1], trail.plane_loss[-1]])
    return float(abs(np.diff(np.log(both))[0])) if np.isfinite(both).all() and (both > 0).all() else 0.0


def in_words(plane: object, trail: object | None = None) -> str:
    """Say what the picture of a plane and of the path on it shows, and what it hides."""
    losses = plane.loss[plane.computed]
    finite = losses[np.isfinite(losses)]
    if not len(finite):
        return "No loss on this plane is finite."
    ways = [f"±{number(b)}" if a == -b else f"{number(a)} to {number(b)}" for a, *_, b in (plane.alpha, plane.beta)]
    where = ways[0] if ways[0] == ways[1] else f"{ways[0]} along u and {ways[1]} along v"
    extent = f"from {number(finite.min())} to {number(finite.max())} across {where}"
    near = "at" if 0 in plane.alpha and 0 in plane.beta else "next to"
    shows = f"Loss {number(at_centre(plane))} {near} the centre, {extent}"
    if lost := len(losses) - len(finite):
        shows += f"; at {lost:,} of {len(losses):,} points it is not finite (grey)"
    return f"{shows}. {hides(plane, {} if trail is None else {'path': trail})}".strip()
