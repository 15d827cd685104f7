"""Still pictures of plotly charts, for readers without JavaScript; drawn by this machine's Chrome, if there is one."""

import asyncio
import base64
import threading
from collections.abc import Sequence

SIZE = {"width": 860, "height": 450}
PATIENCE = 60  # seconds for one chart; the first one waits for Chrome too


def stills(figures: Sequence[dict]) -> tuple[list[str], str]:
    """Draw plotly figures, given as JSON, as pictures.

    Returns:
        A `data:` address of each picture, as far as they were made, and why no more were made, if any are missing.
    """
    made, why = [], []
    if figures:
        drawing = threading.Thread(target=lambda: asyncio.run(_draw(figures, made, why)))
        drawing.start()  # in a thread of its own: a notebook's has an event loop that runs already
        drawing.join()
    return made, "".join(why)


async def _draw(figures: Sequence[dict], made: list[str], why: list[str]) -> None:
    import kaleido

    try:
        async with kaleido.Kaleido(n=1, timeout=PATIENCE, mathjax=False) as chrome:
            for figure in figures:
                height = figure.get("layout", {}).get("height") or SIZE["height"]
                picture = await chrome.calc_fig(figure, opts=SIZE | {"format": "webp", "height": height})
                made.append("data:image/webp;base64," + base64.b64encode(picture).decode())
    except Exception as error:  # a report is whole without stills; the page says why it has none
        first = str(error).strip().splitlines() or [""]
        why.append(f"{type(error).__name__}: {first[0]}")
