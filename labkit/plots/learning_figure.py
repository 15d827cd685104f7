"""The lab's figure of a run, loss, score and predictions, and its frames: what stays and what moves.

The live lab and a report draw the same figure: `frames.apply` writes frames into a plotly figure, and
`labkit.lab.live_figure` sends them to a browser.
"""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from labkit.plots import theme
from labkit.plots.theme import TEST, TRAIN, as_float32, base

EMPTY = {"text": "press Train", "x": 0.5, "y": 0.5, "xref": "x domain", "yref": "y domain", "showarrow": False}
LEARNING_HEIGHT = 470  # pixels
CURVE_POINTS = 400  # a curve has at most this many

AGAINST = {"steps": "step", "seconds": "seconds of training"}
MARKER = ("color", "colorscale", "cmin", "cmax", "line", "opacity", "showscale", "size", "symbol")  # what pictures set
TRAIN_LOSS, TEST_LOSS, SCORE, HEAT, LINE = "train_loss", "test_loss", "score", "heat", "line"  # traces of `blank`,
POINTS = ("train_0", "test_0", "train_1", "test_1")  # and its points: of either part, of class 0 or 1


class Thinned:
    """A long history as the means of equal stretches, at most `limit` of them, kept up to date cheaply."""

    def __init__(self, limit: int = CURVE_POINTS) -> None:
        self.limit, self.stretch = limit, 1
        self._sums = np.empty(0)  # of whole stretches
        self._rest, self._rest_count = 0.0, 0

    def add(self, values: np.ndarray) -> None:
        """Append values."""  # (N,)
        values = np.asarray(values, dtype=np.float64)
        while len(values):
            if self._rest_count or len(values) < self.stretch:
                part, values = np.split(values, [min(self.stretch - self._rest_count, len(values))])
                self._rest, self._rest_count = self._rest + part.sum(), self._rest_count + len(part)
                if self._rest_count == self.stretch:
                    self._sums = np.append(self._sums, self._rest)
                    self._rest, self._rest_count = 0.0, 0
            else:
                whole = len(values) // self.stretch * self.stretch
                sums = values[:whole].reshape(-1, self.stretch).sum(1)
                self._sums, values = np.concatenate([self._sums, sums]), values[whole:]
            while len(self._sums) > self.limit:
                self._double()

    def _double(self) -> None:
        if len(self._sums) % 2:  # the odd one out waits for its other half
            self._rest, self._rest_count = self._rest + self._sums[-1], self._rest_count + self.stretch
            self._sums = self._sums[:-1]
        self._sums = self._sums.reshape(-1, 2).sum(1)
        self.stretch *= 2

    def curve(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the middle step and the mean of each stretch."""  # (K,), (K,)
        x = (np.arange(len(self._sums)) + 0.5) * self.stretch - 0.5
        return x.astype(np.float32), (self._sums / self.stretch).astype(np.float32)


def blank() -> go.Figure:
    """Return the lab's figure with nothing on it: loss and score on the left, predictions on the right."""
    grid = {"specs": [[{}, {"rowspan": 2}], [{}, None]], "column_widths": [0.5, 0.5], "row_heights": [0.62, 0.38]}
    figure = make_subplots(rows=2, cols=2, **grid, horizontal_spacing=0.11, vertical_spacing=0.16)
    line = {"mode": "lines", "x": [], "y": []}
    figure.add_scatter(**line, uid=TRAIN_LOSS, name="train", line={"color": TRAIN, "width": 1.5}, row=1, col=1)
    dotted = {"color": TEST, "width": 2.5, "dash": "dot"}
    figure.add_scatter(**line, uid=TEST_LOSS, name="test", line=dotted, row=1, col=1)
    solid = {"color": TEST, "width": 2}
    figure.add_scatter(**line, uid=SCORE, name="score", line=solid, showlegend=False, row=2, col=1)
    right = {"visible": False, "row": 1, "col": 2}
    figure.add_heatmap(uid=HEAT, hoverinfo="skip", **right)
    figure.add_scatter(**line, uid=LINE, name="network", line={"color": TEST, "width": 2.5}, **right)
    for name in POINTS:
        figure.add_scatter(uid=name, mode="markers", x=[], y=[], legend="legend2", **right)
    legend = {"orientation": "h", "yanchor": "bottom", "y": 1.01, "bgcolor": theme.CLEAR, "entrywidth": 0}
    right = {"x": 1, "xanchor": "right", "font": {"size": 12}}
    figure.update_layout(**base(), height=LEARNING_HEIGHT, legend=legend | {"x": 0}, legend2=legend | right)
    figure.update_layout(yaxis_title="loss", xaxis3_title="step")
    figure.update_xaxes(title_font_size=13, ticklabelstandoff=4)  # off the other axis's lowest tick
    figure.update_yaxes(title_font_size=13, title_standoff=4)
    return figure


def histories(
    train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    score: np.ndarray,
    *,
    seconds_per_step: float = 0.0,
) -> dict:
    """Return the frame of the curves.

    Args:
        train: Steps and training losses.  # (K,), (K,)
        test: Steps and test losses.  # (L,), (L,)
        score: Accuracy or R² at the same steps as the test losses.  # (L,)
        seconds_per_step: Draw against seconds; 0 draws against steps.
    """
    unit = np.float32(seconds_per_step or 1)
    test_x = np.asarray(test[0], dtype=np.float32) * unit
    curves = {TRAIN_LOSS: (train[0] * unit, train[1]), TEST_LOSS: (test_x, test[1]), SCORE: (test_x, score)}
    traces = {name: {"x": as_float32(x), "y": as_float32(y)} for name, (x, y) in curves.items()}
    return {"traces": traces, "layout": {"annotations": [] if len(train[0]) else [EMPTY]}}


def prediction_update(picture: object, discrete: bool = False) -> dict:
    """Return the frame of the moving part of predictions.

    Args:
        picture: A `labkit.core.predictions.Picture`.
        discrete: Colour a map by the answer's sign alone.
    """
    if picture.kind == "map":
        shade = (np.nan_to_num(picture.z) - picture.centre) / picture.reach
        shade = (np.sign(shade) if discrete else np.clip(shade, -1, 1)) * 127 + 128
        return {"traces": {HEAT: {"z": shade.astype(np.uint8)}}}
    if picture.kind == "confusion":
        return {"traces": {HEAT: {"z": picture.z}}}
    trace = LINE if picture.kind == "curve" else POINTS[0]
    return {"traces": {trace: {"x": as_float32(picture.x), "y": as_float32(picture.y)}}}


def static_layout(picture: object, points: object, score_name: str, log: bool, against: str, *, zoom: int = 0) -> dict:
    """Return the frame of everything that stays while a network learns: axes, data points, colours.

    Args:
        picture: The predictions.
        points: The data.
        score_name: What the score is.
        log: Draw losses by powers of ten.
        against: A key of `AGAINST`.
        zoom: The zoom is kept from frame to frame until this changes.
    """
    off = {"visible": False, "showlegend": False} | dict.fromkeys(("name", "legendrank", "legendgroup"))
    traces = {trace: off for trace in (HEAT, LINE, *POINTS)}
    draw = {"map": _map, "curve": _curve, "confusion": _confusion, "scatter": _scatter}[picture.kind]
    right, layout = draw(picture, points)
    low = 0 if score_name.endswith("accuracy") else -0.2
    title = {"text": "loss (log scale)" if log else "loss"}
    layout |= {"uirevision": zoom, "yaxis": theme.loss_axis(log) | {"title": title}, "xaxis": {"matches": "x3"}}
    layout["xaxis3"] = {"title": {"text": AGAINST[against]}}
    layout["yaxis3"] = {"title": {"text": score_name}, "range": [low, 1.03]}
    traces = {k: {**traces[k], **right.get(k, {})} for k in traces}
    for k in POINTS:  # nothing is left of the picture before
        traces[k]["marker"] = dict.fromkeys(MARKER) | traces[k].get("marker", {})
    return {"traces": traces, "layout": layout}


def _axes(x: str, y: str, x_range: Sequence | None = None, y_range: Sequence | None = None, **more: object) -> dict:
    """The right panel's axes."""
    both = {}
    for name, title, extent in (("xaxis2", x, x_range), ("yaxis2", y, y_range)):
        ends = {"range": None if extent is None else list(extent), "autorange": extent is None}
        ticks = {"tickmode": "auto", "ticktext": None, "tickvals": None, "showgrid": False} | more
        both[name] = {"title": {"text": title}} | ends | ticks
    return both


def _map(picture: object, points: object) -> tuple[dict, dict]:
    x, y = picture.x, picture.y
    low, high = picture.centre - picture.reach, picture.centre + picture.reach
    if picture.classes:
        names = [f"class {picture.labels[0]}", "unsure", f"class {picture.labels[1]}"]
    else:
        names = [f"≤ {low:.3g}", f"{picture.centre:.3g}", f"≥ {high:.3g}"]
    heat = {"x": as_float32(x), "y": as_float32(y), "zmin": 1, "zmax": 255, "zsmooth": "best", "visible": True}
    heat |= {"colorscale": theme.MAP, "texttemplate": None}
    heat["colorbar"] = theme.BAR | {"tickvals": [1, 128, 255], "ticktext": names, "title": {"text": ""}}
    extents = (float(x[0]), float(x[-1])), (float(y[0]), float(y[-1]))
    return {HEAT: heat, **_map_points(picture, points)}, _axes("input 1", "input 2", *extents)


def _map_points(picture: object, points: object) -> dict:
    """Training points filled, test points hollow; classes differ in shape too."""
    traces = {}
    for k, trace in enumerate(POINTS):
        test, group = bool(k % 2), k // 2
        chosen = points.test == test
        if picture.classes:
            chosen = chosen & (points.value == group)
            name = "hollow: test" if test else f"class {picture.labels[group]}"
            symbol, colour = ("circle", "diamond")[group], (theme.BLUE, theme.ORANGE)[group]
            marker = {"color": colour, "symbol": symbol + "-open" * test}
        elif group:
            break
        else:
            name = "test" if test else "train"
            marker = {"color": as_float32(points.value[chosen]), "symbol": "diamond" if test else "circle"}
            marker |= {"colorscale": theme.STRONG, "cmin": picture.centre - picture.reach}
            marker["cmax"] = picture.centre + picture.reach
        outline = {"width": 0.7, "color": theme.WHITE if picture.classes else theme.OUTLINE}
        if test and picture.classes:
            outline = {"width": 1.6, "color": marker["color"]}
        marker |= {"size": 6, "line": outline, "showscale": False}
        traces[trace] = _dots(points, chosen, name, marker)
        traces[trace] |= {"showlegend": trace != POINTS[3], "legendrank": 1000 + test, "legendgroup": name}
    return traces


def _dots(points: object, chosen: np.ndarray, name: str, marker: dict) -> dict:
    """The chosen data points as a visible trace."""
    both = {"x": as_float32(points.x[chosen]), "y": as_float32(points.y[chosen])}
    return both | {"name": name, "marker": marker, "visible": True, "showlegend": True}


def _curve(picture: object, points: object) -> tuple[dict, dict]:
    traces = {LINE: {"name": "network", "visible": True, "showlegend": True, "legend": "legend2"}}
    for test, trace in ((False, POINTS[0]), (True, POINTS[1])):
        chosen = points.test == test
        name, colour, symbol = ("test", TEST, "diamond-open") if test else ("train", TRAIN, "circle")
        if chosen.any():
            traces[trace] = _dots(points, chosen, name, {"color": colour, "symbol": symbol, "size": 7})
    pad = 0.35 * float(np.ptp(points.y))
    extent = float(points.y.min()) - pad, float(points.y.max()) + pad
    return traces, _axes("input", "target", (float(picture.x[0]), float(picture.x[-1])), extent)


def _confusion(picture: object, points: object) -> tuple[dict, dict]:
    classes = list(range(picture.classes))
    heat = {"x": classes, "y": classes, "zmin": 0, "zmax": max(1, int(picture.z.sum(1).max())), "zsmooth": False}
    heat |= {"colorscale": theme.COUNTS, "texttemplate": "%{z}", "visible": True}
    heat["colorbar"] = theme.BAR | {"title": {"text": "samples"}, "tickvals": None, "ticktext": None}
    names = {"tickmode": "array", "tickvals": classes, "ticktext": list(picture.labels)}
    axes = _axes("predicted class", "true class", None, None, **names)
    axes["yaxis2"] |= {"autorange": "reversed"}
    return {HEAT: heat}, axes


def _scatter(picture: object, points: object) -> tuple[dict, dict]:
    low, high = float(picture.x.min()), float(picture.x.max())
    colour = TEST if picture.part == "test" else TRAIN
    dots = {"name": picture.part, "visible": True, "showlegend": True}
    dots["marker"] = {"color": colour, "symbol": "circle", "size": 6, "opacity": 0.7}
    ideal = {"x": [low, high], "y": [low, high], "name": "perfect", "visible": True, "showlegend": True}
    pad = 0.15 * (high - low)
    axes = _axes("target", "prediction", (low - pad, high + pad), (low - pad, high + pad))
    return {POINTS[0]: dots, LINE: {**ideal, "legend": "legend2"}}, axes
