"""Pages: no text of a run is ever read as markup, formulas become MathML where Markdown is, and nothing else is."""

from html import escape
from html.parser import HTMLParser

import pytest
from nbformat import v4

from labkit.reports import html
from labkit.reports.html import head, page

ACTIVE = '<svg/onload="pwned(1)">'
NOTED = escape(ACTIVE)
PAYLOADS = [  # each tries to run `pwned`, or to fetch a picture
    ACTIVE,
    "<script>pwned(2)</script>",
    "</script><script>pwned(3)</script>",
    "</pre></td></title><img src=x onerror=pwned(4)>",
    "'\"><img src=x onerror=pwned(5)>",
    "<!--<script>pwned(6)//-->",
    "<math><mtext><style><img src=x onerror=pwned(7)></style></mtext></math>",
    "<details open ontoggle=pwned(8)>",
    NOTED,
    escape(NOTED),
    f"$\\text{{{ACTIVE}}}$",
    f"$\\text{{{NOTED}}}$",
    f"$\\text{{{escape(NOTED)}}}$",
    f"$$\\text{{{ACTIVE}}}$$",
    f"$\\text{{a $\\text{{{ACTIVE}}}$ b}}$",
    f"$\\text{{$\\text{{$\\mbox{{{ACTIVE}}}$}}$}}$",
    f"$\\mathrm{{\\text{{{ACTIVE}}}}}$",
    f"$\\operatorname{{{ACTIVE}}}$",
    f"$\\textbf{{{ACTIVE}}}$",
    f"$\\mbox{{{ACTIVE}}}$ and $\\hbox{{{ACTIVE}}}$",
    f"$\\fbox{{{ACTIVE}}}$",
    f"$\\tag{{{ACTIVE}}} x$",
    f"$\\verb|{ACTIVE}|$",
    f"$\\colorbox{{red}}{{{ACTIVE}}}$",
    f"$\\color{{{ACTIVE}}} x$",
    f"$\\textcolor{{red' onload='pwned(9)}}{{{ACTIVE}}}$",
    "$\\href{javascript:pwned(10)}{x}$",
    "$\\style{background: url(javascript:pwned(11))}{x}$",
    "$\\class{a' onclick='pwned(12)}{x}$",
    "$\\unicode{x3c}svg/onload=pwned(13)\\unicode{x3e}$",
    "$\\unicode{x3c;svg/onload=pwned(14)&gt}$",
    "$&lt;svg/onload=pwned(15)&gt;$",
    f"$\\begin{{matrix}} \\text{{{ACTIVE}}} & b \\end{{matrix}}$",
    f"\\begin{{equation}} \\text{{{ACTIVE}}} \\end{{equation}}",
    f"\\\\[ \\text{{{ACTIVE}}} \\\\]",
    f"\\\\( \\text{{{ACTIVE}}} \\\\)",
    "$\\nonsense{" + ACTIVE + "$",
    f"a\n\n{NOTED}\n\n$\\text{{{ACTIVE}}}$\n",
    "[x](javascript:pwned(16))",
    "![x](https://example.org/pixel.png)",
    "a\n\n# A heading [x](javascript:pwned(17))\n\n* ![x](https://example.org/pixel.png)\n",
    "```mermaid\n" + ACTIVE + "\n```",
]
LOOKS_ALONE = {"display", "displaystyle", "scriptlevel", "stretchy", "notation", "linebreak", "mathvariant"}
LOOKS_ALONE |= {"mathcolor", "mathbackground"}
MATH = {(tag, name) for tag in html.MATHML for name in {"", *LOOKS_ALONE}}  # what a formula may bring


def made(*cells):
    return page(v4.new_notebook(cells=list(cells), metadata={"language_info": {"name": "python"}}), "title")


def printed(*outputs):
    return made(v4.new_code_cell("1", outputs=list(outputs)))


def error(text):
    traceback = ["\x1b[31mValueError\x1b[39m Traceback (most recent call last)", f"ValueError: {text}"]
    return v4.new_output("error", ename="ValueError", evalue=text, traceback=traceback)


def data(kind):
    return lambda text: v4.new_output("display_data", {kind: text})


def chart(text):
    figure = {"data": [{"y": [1], "name": text}], "layout": {"title": {"text": text}, "height": text, "template": text}}
    return data(html.PLOTLY)(figure)


def in_html(text):
    shown = escape(text)
    return data("text/html")(f"<table><tr><td>{shown}</td></tr></table><p>$1 for {shown} and $2 for {shown}</p>")


def top(text):
    return v4.new_markdown_cell(head(text, {"parameters": text, text: "a column of a csv"}))


TEXTS = {  # how texts come into a page
    "errors": lambda texts: printed(*map(error, texts)),
    "its top": lambda texts: made(*map(top, texts)),
    "streams": lambda texts: printed(*(v4.new_output("stream", name="stderr", text=text) for text in texts)),
    "results": lambda texts: printed(*map(data("text/plain"), texts)),
    "code": lambda texts: made(*(v4.new_code_cell(f"x = {text!r}\n{text}") for text in texts)),
    "escaped in HTML": lambda texts: printed(*map(in_html, texts)),
    "code in Markdown": lambda texts: made(*(v4.new_markdown_cell(f"````\n{text}\n````") for text in texts)),
    "charts": lambda texts: printed(*map(chart, texts)),
    "a title": lambda texts: page(v4.new_notebook(), " ".join(texts)),
    "a missing still": lambda texts: page(
        v4.new_notebook(cells=[v4.new_code_cell("1", outputs=[chart("a")])]), "title", no_still=" ".join(texts)
    ),
}
FORMULAS = {  # where a formula may stand; texts are escaped, as Markdown lets HTML through
    "Markdown": lambda texts: made(*(v4.new_markdown_cell(f"It says: {escape(text)}") for text in texts)),
    "headings": lambda texts: made(*(v4.new_markdown_cell(f"# {escape(text)}") for text in texts)),
    "Markdown outputs": lambda texts: printed(*(data("text/markdown")(f"It says: {escape(text)}") for text in texts)),
    "formulas": lambda texts: made(*(v4.new_markdown_cell(f"$$\\text{{{text}}} {text}$$") for text in texts)),
    "LaTeX outputs": lambda texts: printed(*map(data("text/latex"), texts)),
}
NOT_FORMULAS = ("$", "`", "a\n", "[", "!", "\\")  # payloads that would end a formula


def page_of(way):
    if way == "formulas":
        return FORMULAS[way]([text for text in PAYLOADS if not text.startswith(NOT_FORMULAS)])
    return (TEXTS | FORMULAS)[way](PAYLOADS)


class Markup(HTMLParser):
    """The elements and attributes of a page, where its links and pictures lead, and its text."""

    def __init__(self, text):
        super().__init__()
        self.found, self.addresses, self.text, self.within = set(), set(), "", ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.within = tag
        self.found |= {(tag, ""), *((tag, name) for name, _ in attrs)}
        self.addresses |= {value for name, value in attrs if name in ("href", "src")}

    def handle_endtag(self, tag):
        self.within = ""

    def handle_data(self, text):
        self.text += "" if self.within in ("script", "style") else text

    def handle_comment(self, text):
        self.found.add(("comment", ""))


@pytest.mark.parametrize("way", TEXTS)
def test_a_text_brings_no_element_and_no_attribute(way):
    plain, hostile = Markup(TEXTS[way](["harmless words"])), Markup(page_of(way))
    assert hostile.found - plain.found <= {("span", ""), ("span", "class")}  # colours of code
    assert hostile.addresses == plain.addresses and not plain.found & {("svg", ""), ("math", ""), ("comment", "")}


@pytest.mark.parametrize("way", FORMULAS)
def test_a_formula_brings_nothing_but_mathml(way):
    plain, hostile = Markup(FORMULAS[way](["harmless words"])), Markup(page_of(way))
    own = {(tag, "") for tag in ("a", "p", "img", "ul", "li", "h1", "pre", "code")}
    own |= {("a", "href"), ("a", "class"), ("img", "src"), ("img", "alt"), ("h1", "id"), ("code", "class")}
    assert hostile.found - plain.found - own <= MATH
    assert not [each for each in hostile.addresses if each.lower().startswith(("javascript", "data"))]
    assert way == "formulas" or ("math", "") in hostile.found


@pytest.mark.parametrize("way", ["errors", "its top", "streams", "results", "escaped in HTML", "code in Markdown"])
def test_a_text_is_shown_as_it_is(way):
    shown = " ".join(Markup(page_of(way)).text.split())
    assert [payload for payload in PAYLOADS if " ".join(payload.split()) not in shown] == []


@pytest.mark.browser
def test_in_a_browser_nothing_of_it_runs(tmp_path, page):
    page.add_init_script("window.pwned = number => { document.title = `pwned by ${number}` }")
    page.route("http*://**", lambda route: route.abort())
    for way in [*TEXTS, *FORMULAS]:
        (tmp_path / "page.html").write_text(page_of(way))
        page.goto((tmp_path / "page.html").as_uri())
        page.evaluate("document.querySelectorAll('a').forEach(each => each.click())")
        page.wait_for_timeout(100)
        assert "pwned by" not in page.title(), way


def test_what_a_person_writes_as_html_stays():
    found = Markup(printed(data("text/html")("<article data-x='1'>$x$ <b>bold</b></article>")))
    assert {("article", "data-x"), ("b", "")} <= found.found and "$x$" in found.text


def test_formulas_need_no_network_and_prices_are_none():
    text = r"$$w - \eta g$$ and $x^2$ and $a < b$, for $5 and $6 or $7, not `$a$` nor \$b\$" + "\n\n# The $k$-th"
    shown = made(v4.new_markdown_cell(text))
    assert shown.count("<math") == 4 and shown.count('display="block"') == 1 and "<mi>η</mi>" in shown
    assert "<code>$a$</code>" in shown and "xmlns" not in shown
    said = Markup(shown).text
    assert "for $5 and $6 or $7" in said and "$b$" in said and "a<b" in said.replace(" ", "")


@pytest.mark.parametrize("tex", [r"\nonsense{", r"\href{https://example.org}{x}", r"\style{color: red}{x}"])
def test_a_formula_that_cannot_be_read_stays_as_it_was_written(tex):
    assert html.mathml(tex, "inline") == f"${tex}$" and html.mathml(tex, "block") == f"$${tex}$$"


def test_a_latex_output_is_a_formula():
    shown = printed(data("text/latex")(r"an eigenvalue $\lambda$ < 1"))
    assert "<mi>λ</mi>" in shown and "an eigenvalue <math" in shown and "&lt; 1" in shown
