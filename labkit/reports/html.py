"""An executed notebook as one light HTML page that needs no Jupyter and no network, and what stands at its top.

It knows no kernels. plotly.js lies beside the pages of a folder, once, or inside a page that is to travel alone.
"""

import copy
import html
import json
import re
from collections.abc import Sequence

from plotly.offline import get_plotlyjs, get_plotlyjs_version

PLOTLY, VIEW = "application/vnd.plotly.v1+json", "application/vnd.jupyter.widget-view+json"
SCRIPT = f"plotly-{get_plotlyjs_version()}.min.js"
MATH = re.compile(r"\$\$(?P<block>.+?)\$\$|(?<![\\$\w])\$(?P<inline>[^$\n]+?)\$(?!\w)", re.S)
CODE = re.compile(r"(<pre.*?</pre>|<code.*?</code>|<script.*?</script>)", re.S)
NO_SCRIPT = "This chart is drawn by JavaScript, which is switched off here, and there is no still picture of it"
WIDGET = "Controls stand here in JupyterLab; a report has none."
STYLE = """
body {font: 16px/1.55 system-ui, sans-serif; max-width: 1000px; margin: 2em auto; padding: 0 1em; color: #222}
h1, h2, h3 {line-height: 1.25} a.anchor-link {display: none} img {max-width: 100%}
pre {font: 13px/1.45 ui-monospace, monospace; overflow-x: auto; margin: 0}
.input_area {background: #f6f6f4; padding: 8px 12px; border-left: 3px solid #d8d8d4; margin-top: 12px}
.prompt {display: none} .output_area {margin: 6px 0}
.output_stderr, .output_error {background: #fdeeea; padding: 6px 12px}
table {border-collapse: collapse; font-size: 14px}
td, th {padding: 3px 14px 3px 0; text-align: left; vertical-align: top}
.labkit-banner {background: #fdeeea; border-left: 4px solid #a33b00; padding: 10px 14px; font-weight: 600}
"""


def stripped(notebook: dict) -> dict:
    """Return a copy without widgets, which are dead once their kernel is gone, and without wiped progress bars."""
    notebook = copy.deepcopy(notebook)
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if data.pop(VIEW, None) and set(data) == {"text/plain"}:
                data["text/plain"] = WIDGET
        if "outputs" in cell:
            cell.outputs = [output for output in _joined(cell.outputs) if _says(output)]
    return notebook


def _joined(outputs: list) -> list:
    """Join texts that came in pieces, and drop what was written over: every stage of a progress bar but the last."""
    joined: list = []
    for output in outputs:
        if output.output_type == "stream" and joined and joined[-1].get("name") == output.name:
            joined[-1].text += output.text
        else:
            joined.append(output)
    for output in joined:
        if output.output_type == "stream":
            output.text = "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in output.text.split("\n"))
    return joined


def _says(output: dict) -> bool:
    if output.output_type == "stream":
        return bool(output.text.strip())
    return output.output_type == "error" or bool(output.data)


def head(banner: str, rows: dict[str, str]) -> str:
    """Return what stands at the top: what went wrong, if anything did, and what made this report."""
    warned = f"<div class='labkit-banner'>⚠ {html.escape(banner)}</div>\n" if banner else ""
    cells = "".join(f"<tr><th>{html.escape(k)}</th><td>{_cell(v)}</td></tr>" for k, v in rows.items() if v)
    return f"{warned}<details><summary>How this report was made</summary>\n<table>{cells}</table>\n</details>"


def _cell(text: str) -> str:
    """Text that neither HTML nor Markdown takes for its own."""
    return re.sub(r"[\\`*_{}\[\]$~|]", lambda sign: f"&#{ord(sign[0])};", html.escape(text))


def figures(notebook: dict) -> list[dict]:
    """Return the plotly figures of an executed notebook, as JSON, in order."""
    outputs = (output for cell in notebook.cells for output in cell.get("outputs", []))
    return [output.data[PLOTLY] for output in outputs if PLOTLY in output.get("data", {})]


def page(
    notebook: dict, title: str, *, single_file: bool = False, stills: Sequence[str] = (), no_still: str = ""
) -> str:
    """Return a notebook as an HTML page.

    Args:
        notebook: An executed notebook without widgets.
        title: What a browser's tab says.
        single_file: Put plotly.js into the page instead of naming the file beside it.
        stills: Addresses of pictures that stand in for the first charts where there is no JavaScript.
        no_still: Why there are none for the rest.
    """
    from nbconvert import HTMLExporter
    from pygments.formatters import HtmlFormatter

    shown = copy.deepcopy(notebook)
    pictures, templates = iter(stills), {}
    charts = 0
    for cell in shown.cells:
        for output in cell.get("outputs", []):
            figure = output.get("data", {}).get(PLOTLY)
            if figure is not None:
                charts += 1
                output.data = {"text/html": chart(figure, f"chart-{charts}", templates, next(pictures, ""), no_still)}
    body, _ = HTMLExporter(template_name="basic").from_notebook_node(shown)
    colours = HtmlFormatter().get_style_defs(".highlight")
    body = _without_idle_spans(body, colours)
    return "\n".join(
        [
            "<!DOCTYPE html>",
            f"<html lang='en'><head><meta charset='utf-8'><title>{html.escape(title)}</title>",
            "<meta name='viewport' content='width=device-width'>",
            f"<style>{STYLE}{colours}</style>{_script(single_file, templates) if charts else ''}"
            "<noscript><style>.chart {display: none}</style></noscript></head>",
            f"<body>{with_math(body)}</body></html>",
        ]
    )


def _without_idle_spans(body: str, colours: str) -> str:
    """Drop the spans around words of code that no rule colours: they are half of what code weighs."""
    coloured = set(re.findall(r"\.highlight \.(\w+) ", colours)) - {"w"}
    span = re.compile(r'<span class="(\w+)">([^<]*)</span>')
    return span.sub(lambda found: found[0] if found[1] in coloured else found[2], body)


def _script(single_file: bool, templates: dict[str, int]) -> str:
    """What draws the charts; plotly's templates, which many charts share, stand here once."""
    source = f"<script>{get_plotlyjs()}</script>" if single_file else f"<script src='{SCRIPT}'></script>"
    missing = f"{SCRIPT} is missing: it belongs beside this page, which then shows its charts."
    return (
        f"{source}<script>window.Plotly || addEventListener('load', () => document.body.prepend({missing!r}));"
        f"const templates = [{','.join(templates)}];"
        "function draw(name, figure) {figure.layout.template = templates[figure.layout.template];"
        " window.Plotly && Plotly.newPlot(name, figure)}</script>"
    )


def chart(figure: dict, name: str, templates: dict[str, int], still: str = "", no_still: str = "") -> str:
    """Return one plotly figure as HTML that draws itself, or shows a still picture where it cannot.

    Args:
        figure: It, as JSON.
        name: What it is called in its page.
        templates: The page's templates as texts, and the place of each; the figure's joins them.
        still: The address of the picture.
        no_still: Why there is none.
    """
    whole = {"data": [], "layout": {}, "frames": []} | figure | {"config": {"responsive": True}}
    height = whole["layout"].get("height") or 450
    template = templates.setdefault(_as_script(whole["layout"].get("template", {})), len(templates))
    whole["layout"] = whole["layout"] | {"template": template}
    words = html.escape(f"{NO_SCRIPT}{f' ({no_still})' if no_still else ''}.")
    instead = f"<img alt='the chart, as a still picture' src='{still}'>" if still else f"<p>{words}</p>"
    return (
        f"<noscript>{instead}</noscript><div id='{name}' class='chart' style='height: {height}px'></div>"
        f"<script>draw('{name}', {_as_script(whole)})</script>"
    )


def _as_script(value: dict) -> str:
    """JSON in a script; a name in it must neither end the script nor begin another."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")


def with_math(body: str) -> str:
    """Turn TeX between dollar signs into MathML, which browsers draw by themselves; code is left alone."""
    return "".join(part if k % 2 else MATH.sub(_mathml, part) for k, part in enumerate(CODE.split(body)))


def _mathml(found: re.Match) -> str:
    from latex2mathml.converter import convert

    block = found["block"]
    try:
        return convert(html.unescape(block or found["inline"]), display="block" if block else "inline")
    except Exception:  # the converter raises what it likes; TeX that it cannot read stays as it was written
        return found[0]
