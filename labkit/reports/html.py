"""An executed notebook as one HTML page that needs neither Jupyter nor a network, and what stands at its top.

plotly.js lies beside the pages of a folder, once, or inside a page that is to travel alone. Formulas become MathML
where Markdown is rendered, as elements with text nodes: no text of a run is ever read as markup.
"""

import copy
import html
import json
import re
from collections.abc import Sequence
from functools import cache
from importlib import resources
from xml.etree import ElementTree

from jinja2 import pass_context
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath, MathInlineParser
from plotly.offline import get_plotlyjs, get_plotlyjs_version

PLOTLY, VIEW = "application/vnd.plotly.v1+json", "application/vnd.jupyter.widget-view+json"
SCRIPT = f"plotly-{get_plotlyjs_version()}.min.js"
NO_SCRIPT = "This chart is drawn by JavaScript, which is switched off here, and there is no still picture of it"
WIDGET = "Controls stand here in JupyterLab; a report has none."
INLINE_FORMULA = r"(?<![\\$\w])\$(?P<math_inline_tex>[^$\n]+?)\$(?!\w)"  # "$5 and $6" are prices
MATHML = {
    "math", "mrow", "mi", "mo", "mn", "mtext", "mspace", "mstyle", "mpadded", "mphantom", "menclose", "mtable", "mtr",
    "mtd", "msub", "msup", "msubsup", "mover", "munder", "munderover", "mfrac", "msqrt", "mroot",
}  # fmt: skip
ACTIVE = {"href", "style", "class", "id"}  # attributes that MathML would hand on to the page
LINKS = ("data:", "file:")  # kept besides mistune's own; never javascript:


@cache
def static(name: str) -> str:
    """Return one of the files in `static/`."""
    return resources.files("labkit.reports").joinpath("static", name).read_text(encoding="utf-8")


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
            cell.outputs = [output for output in _joined(cell.outputs) if _shows_something(output)]
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


def _shows_something(output: dict) -> bool:
    return output.output_type == "error" or bool(output.get("data") or output.get("text", "").strip())


def head(banner: str, rows: dict[str, str]) -> str:
    """Return what stands at the top: what went wrong, if anything did, and what made this report."""
    warned = f"<div class='labkit-banner'>⚠ {_plain(banner)}</div>\n" if banner else ""
    cells = "".join(f"<tr><th>{_plain(name)}</th><td>{_plain(text)}</td></tr>" for name, text in rows.items() if text)
    return f"{warned}<details><summary>How this report was made</summary>\n<table>{cells}</table>\n</details>"


def _plain(text: str) -> str:
    """Write text so that neither HTML nor Markdown nor TeX finds markup in it, whatever it says."""
    return re.sub(r"[^\w .,()/=+-]|_", lambda sign: f"&#{ord(sign[0])};", text)


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
    from pygments.formatters import HtmlFormatter

    shown = copy.deepcopy(notebook)
    pictures, templates = iter(stills), {}
    charts = 0
    for cell in shown.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if PLOTLY in data:
                charts += 1
                drawn = chart(data[PLOTLY], f"chart-{charts}", templates, next(pictures, ""), no_still)
                output.data = {"text/html": drawn}
            elif "text/latex" in data:
                data.setdefault("text/html", latex(data["text/latex"]))
    body, _ = Exporter(template_name="basic").from_notebook_node(shown)
    colours = HtmlFormatter().get_style_defs(".highlight")
    return "\n".join(
        [
            "<!DOCTYPE html>",
            f"<html lang='en'><head><meta charset='utf-8'><title>{html.escape(title)}</title>",
            "<meta name='viewport' content='width=device-width'>",
            f"<style>{static('report.css')}{colours}</style>{_script(single_file, templates) if charts else ''}"
            "<noscript><style>.chart {display: none}</style></noscript></head>",
            f"<body>{_without_idle_spans(body, colours)}</body></html>",
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
    facts = f"const PLOTLY_FILE = '{SCRIPT}', TEMPLATES = [{','.join(templates)}];"
    return f"{source}<script>{facts}\n{static('report.js')}</script>"


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
    height = whole["layout"].get("height")
    height = height if isinstance(height, int | float) else 450
    template = templates.setdefault(as_script(whole["layout"].get("template", {})), len(templates))
    whole["layout"] = whole["layout"] | {"template": template}
    words = html.escape(f"{NO_SCRIPT}{f' ({no_still})' if no_still else ''}.")
    instead = f"<img alt='the chart, as a still picture' src='{still}'>" if still else f"<p>{words}</p>"
    return (
        f"<noscript>{instead}</noscript><div id='{name}' class='chart' style='height: {height}px'></div>"
        f"<script>draw('{name}', {as_script(whole)})</script>"
    )


def as_script(value: object) -> str:
    """Return JSON for a script; a text in it can neither end the script nor begin another."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")


class InlineParser(MathInlineParser):
    """Jupyter's Markdown, except that two prices in a line are no formula."""

    SPECIFICATION = MathInlineParser.SPECIFICATION | {"inline_math_tex": INLINE_FORMULA}


class Renderer(IPythonRenderer):
    """Jupyter's Markdown with MathML where it parses a formula."""

    def block_math(self, body: str) -> str:
        """Render what stands between double dollars."""
        return mathml(body, "block")

    def inline_math(self, body: str) -> str:
        """Render what stands between dollars."""
        return mathml(body, "inline")

    def block_mermaidjs(self, code: str) -> str:
        """Show a diagram's code, which nbconvert would paste in as markup."""
        return super().block_code(code)


class Exporter(HTMLExporter):
    """nbconvert's exporter with this module's Markdown."""

    @pass_context
    def markdown2html(self, context: dict, source: str) -> str:
        """Render the Markdown of a cell or an output."""
        renderer = Renderer(escape=False, allow_harmful_protocols=LINKS, attachments=context["cell"].get("attachments"))
        return MarkdownWithMath(renderer, inline=InlineParser(hard_wrap=False)).render(source)


def latex(text: str) -> str:
    """Return a LaTeX output as HTML: what stands between dollars as MathML, the rest as it is written."""
    parts = re.split(r"(\$\$.+?\$\$|\$[^$]+\$)", text, flags=re.S)
    return "".join(
        mathml(part.strip("$"), "block" if part[:2] == "$$" else "inline") if k % 2 else html.escape(part)
        for k, part in enumerate(parts)
    )


def mathml(tex: str, display: str) -> str:
    """Return TeX as MathML, which browsers draw by themselves, or as it was written where that cannot be."""
    from latex2mathml.converter import convert_to_element

    try:
        root = convert_to_element(tex, display=display)
        for node in root.iter():
            if node.tag not in MATHML or ACTIVE & node.attrib.keys():
                raise ValueError(node.tag)
            node.text = html.unescape(node.text or "")  # the converter writes its own signs as character references
        del root.attrib["xmlns"]  # HTML needs none, and headings are parsed again
        return ElementTree.tostring(root, encoding="unicode", short_empty_elements=False)
    except Exception:  # the converter raises what it likes
        dollars = "$$" if display == "block" else "$"
        return html.escape(f"{dollars}{tex}{dollars}")
