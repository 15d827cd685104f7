"""What every chart shares: colours, layout, legends and axes, for the package's figures and the notebooks' own.

Every colour of a chart stands here; what stands beside a chart in JupyterLab takes its colours from JupyterLab.
"""

import numpy as np
import plotly.graph_objects as go

BLUE, ORANGE = "#0072B2", "#D97B00"  # class 0, class 1; below and above zero
TRAIN, TEST = "#4a4a4a", "#00876c"  # training and test curves, everywhere
BLACK, WHITE, CLEAR = "#000000", "#ffffff", "rgba(0,0,0,0)"
RUNS = [BLUE, ORANGE, "#009E73", "#CC79A7", "#56B4E9", BLACK]  # Okabe and Ito, for six runs
DASHES = ["solid", "dash", "dot", "dashdot", "longdash", "longdashdot"]  # never colour alone
SYMBOLS = ["circle", "diamond", "square", "cross", "x", "circle-open"]  # those that 3-D has too
RUN_STYLES = list(zip(RUNS, DASHES, SYMBOLS, strict=True))
MAP = [[0, "#6aa7d2"], [0.5, "#f7f7f5"], [1, "#efb366"]]  # centred on 0, light enough for points to stand out
STRONG = [[0, BLUE], [0.5, "#e8e8e4"], [1, ORANGE]]  # the same for points
OUTLINE = "#555555"  # around points in the colours of STRONG
EARTH = [[0, "#fffaf0"], [0.25, "#f1dfc0"], [0.5, "#d6b88a"], [0.75, "#ab885b"], [1, "#755536"]]  # low is light
LEVEL_LINE = {"width": 0.6, "color": "rgba(60,40,20,0.45)"}
NOT_FINITE = "#b4b8bd"
GRID = "#d8d8d8"
LABEL = {"size": 13, "color": "#222222", "shadow": ", ".join([f"0 0 3px {WHITE}"] * 3)}  # legible on any colour
COUNTS = [[0, WHITE], [1, BLUE]]
BAR = {"thickness": 10, "x": 1.01, "xpad": 0, "outlinewidth": 0, "tickfont": {"size": 11}}  # beside the picture
ABOVE = {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"}  # a legend off the data


def base() -> dict:
    """Return the layout that every chart shares."""
    return {
        "template": "plotly_white",
        "font": {"size": 13},
        "margin": {"l": 70, "r": 70, "t": 56, "b": 50, "autoexpand": False},
        "autosize": True,
    }


def chart(x_title: str, y_title: str, figure: go.Figure | None = None, height: int = 360) -> go.Figure:
    """Return a figure with the shared layout, its legend above it, and named axes.

    Args:
        x_title: What the x axes show.
        y_title: What the y axes show.
        figure: What to lay out, for example subplots; without it, a new figure.
        height: In pixels.
    """
    figure = go.Figure() if figure is None else figure
    figure.update_layout(base() | {"height": height, "legend": ABOVE})
    return figure.update_xaxes(title_text=x_title, title_font_size=13).update_yaxes(
        title_text=y_title, title_font_size=13
    )


def loss_axis(log: bool) -> dict:
    """Return how an axis of losses counts: whole labels, where plotly sets small 2s and 5s between powers of ten."""
    return {"type": "log" if log else "linear", "tickformat": "~g" if log else "", "nticks": 3 if log else 0}


def as_float32(values: np.ndarray) -> np.ndarray:
    """Return values in float32: they travel in half the bytes, and no screen shows more."""
    return np.asarray(values, dtype=np.float32)
