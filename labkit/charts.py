"""Arrays → plotly figures: a run, runs side by side, the options of one choice. It knows no torch and no widgets."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from labkit.frames import AGAINST, HEIGHT, TEST, TRAIN, Thinned, apply, base, blank, histories, says, scenery, single

RUNS = ["#0072B2", "#D97B00", "#009E73", "#CC79A7", "#56B4E9", "#000000"]  # Okabe and Ito, for six pinned runs
DASHES = ["solid", "dash", "dot", "dashdot", "longdash", "longdashdot"]  # never colour alone


def learning(run: object, *, log: bool = True, against: str = "steps") -> go.Figure:
    """Draw a finished `labkit.Run` as the lab does: loss, score, and what the network says of the data."""
    thinned = Thinned()
    thinned.add(run.loss)
    picture = run.picture()
    pace = run.seconds / max(1, run.steps) if against == "seconds" else 0.0
    figure = apply(blank(), scenery(picture, run.points(), run.score_name, log, against))
    apply(figure, says(picture))
    return apply(figure, histories(thinned.curve(), (run.test_step, run.test_loss), run.score, seconds_per_step=pace))


def compare(runs: dict[str, object], *, log: bool = True) -> go.Figure:
    """Draw the test losses of named runs (training losses where there is no test set) against steps and seconds."""
    figure = make_subplots(rows=1, cols=2, shared_yaxes=True, horizontal_spacing=0.04)
    for k, (name, run) in enumerate(runs.items()):
        steps, loss = comparable(run)
        line = {"color": RUNS[k % len(RUNS)], "dash": DASHES[k % len(DASHES)], "width": 2}
        pace = run.seconds / max(1, run.steps)
        for column, x in ((1, steps), (2, steps * pace)):
            figure.add_scatter(
                x=single(x), y=loss, mode="lines", name=name, line=line, showlegend=column == 1, row=1, col=column
            )
    tested = [bool(np.isfinite(run.test_loss).any()) for run in runs.values()]
    what = "test loss" if all(tested) else "test or training loss" if any(tested) else "training loss"
    figure.update_layout(**base(), height=HEIGHT - 90, legend={"orientation": "h", "yanchor": "bottom", "y": 1.02})
    figure.update_yaxes(type="log" if log else "linear", exponentformat="power", title_font_size=13)
    figure.update_xaxes(title_font_size=13)
    figure.update_layout(xaxis_title="step", xaxis2_title=AGAINST["seconds"], yaxis_title=what)
    return figure


def by_choice(name: str, options: Sequence, scores: np.ndarray, score_name: str) -> go.Figure:
    """Draw what each option of one choice came to: a point a seed, and a line through the medians.

    Args:
        name: The choice.
        options: Its options.
        scores: What they came to.  # (options, seeds)
        score_name: What the scores are.
    """
    places = [str(option) for option in options]
    figure = go.Figure(layout=base() | {"height": 300, "xaxis_title": name, "yaxis_title": score_name})
    seeds = {"color": TRAIN, "symbol": "circle-open", "size": 8}
    figure.add_scatter(
        x=np.repeat(places, scores.shape[1]), y=scores.ravel(), mode="markers", marker=seeds, name="one seed"
    )
    line = {"color": TEST, "width": 2}
    figure.add_scatter(x=places, y=np.median(scores, 1), mode="lines", line=line, name="median")
    figure.update_layout(legend={"orientation": "h", "yanchor": "bottom", "y": 1.02}, xaxis_type="category")
    low = min(0.45, float(scores.min()))
    return figure.update_yaxes(range=[low - 0.03, 1.03], title_font_size=13).update_xaxes(title_font_size=13)


def comparable(run: object) -> tuple[np.ndarray, np.ndarray]:
    """Return the steps and losses by which a run is compared with others."""  # (L,), (L,)
    if np.isfinite(run.test_loss).any():
        return run.test_step.astype(np.float32), single(run.test_loss)
    thinned = Thinned()
    thinned.add(run.loss)
    return thinned.curve()


def in_words(train: np.ndarray, test: np.ndarray, score: float, score_name: str) -> str:
    """Say in one sentence what the curves show.

    Args:
        train: The training losses so far, thinned.  # (K,)
        test: The test losses so far.  # (L,)
        score: The latest accuracy or R².
        score_name: Which of the two.
    """
    if not len(train) or not len(test):
        return "Nothing is learned yet: press Train."
    now = float(np.mean(train[-max(1, len(train) // 20) :]))
    if not np.isfinite(test[-1]):
        return f"Training loss {now:.3g}, {trend(train)}; {score_name} {score:.2f}. There is no test set."
    parts = [f"Test loss {test[-1]:.3g}, {trend(test)}; {score_name} {score:.2f}"]
    apart = abs(test[-1] - now) > 0.01 * train[0]  # hardly anything is left to learn below that
    if apart and test[-1] > 1.2 * now:
        parts.append(f"training loss {now:.3g} is lower: the network knows its training points better")
    elif apart and now > 1.2 * test[-1]:
        parts.append(f"training loss {now:.3g} is higher: it is the mean of the latest batches")
    else:
        parts.append(f"training loss {now:.3g}: the two agree")
    return "; ".join(parts) + "."


def trend(losses: np.ndarray) -> str:
    """Say where a curve is heading, by its last fifth against the fifth before."""
    fifth = max(1, len(losses) // 5)
    if len(losses) < 4:
        return "just begun"
    before, after = np.median(losses[-2 * fifth : -fifth]), np.median(losses[-fifth:])
    if after < 0.95 * before:
        return "still falling"
    return "rising" if after > 1.05 * before else "level"
