"""The playground as a person meets it: a real JupyterLab in a real browser, mouse and keyboard."""

import re

import pytest

pytestmark = pytest.mark.browser


@pytest.fixture
def page(cached_page):
    return cached_page


class Playground:
    """The lab of an open notebook page."""

    def __init__(self, page):
        self.page = page

    def button(self, name):
        return self.page.locator(f".labkit-right button:has-text('{name}')").first

    def control(self, label):
        pattern = re.compile(rf"^{re.escape(label)}$")
        return self.page.locator(".labkit-controls .widget-inline-hbox", has=self.page.get_by_text(pattern))

    def speed(self, label):
        self.page.locator(".labkit-right select").first.select_option(label=label)

    def status(self):
        return self.page.locator(".labkit-line").first.inner_text()

    def step(self):
        return int(re.search(r"step ([\d,]+) of", self.status())[1].replace(",", ""))

    def sentence(self):
        return self.page.locator(".labkit-right [role=status]").inner_text()

    def test_loss(self):
        return float(re.search(r"Test loss ([\d.e-]+?),", self.sentence())[1])

    def picture(self):
        return self.page.locator(".labkit-figure .heatmaplayer image").get_attribute("href", timeout=20_000)

    def until(self, what, seconds=30):
        """Wait until a question about the page is answered with yes."""
        for _ in range(int(seconds * 10)):
            if what():
                return
            self.page.wait_for_timeout(100)
        pytest.fail(f"still not so after {seconds} s; the status is: {self.status()}")


def open_and_run_all(page, jupyter, notebook, first=".labkit-right button:has-text('Train')"):
    """Open a notebook, run all of it and come back once what `first` selects has come up."""
    page.goto(jupyter.lab(notebook))
    page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60_000)
    page.wait_for_selector("text=Python 3 (ipykernel) | Idle", timeout=60_000)
    page.click(".lm-MenuBar-itemLabel:text-is('Run')")
    page.click(".lm-Menu-itemLabel:text-is('Run All Cells')")
    page.mouse.move(700, 500)
    found = page.locator(first)
    for _ in range(300):  # cells far from the window are not drawn until it is scrolled there
        if found.count():
            found.first.scroll_into_view_if_needed()
            return Playground(page)
        page.mouse.wheel(0, 400)
        page.wait_for_timeout(200)
        if not found.count() and page.evaluate(AT_THE_END):
            page.mouse.wheel(0, -20_000)
    pytest.fail(f"nothing came up that is {first}")


AT_THE_END = """() => { const panel = document.querySelector('.jp-WindowedPanel-outer');
    return panel.scrollTop + panel.clientHeight > panel.scrollHeight - 5; }"""


def opened(page, jupyter, notebook, **choices):
    """Open the labs and explorers of a notebook, run them, and come back when its own `lab.run()` is done."""
    lab = open_and_run_all(page, jupyter, jupyter.excerpt(notebook, **choices))
    lab.until(lambda: lab.status().startswith("done"), 120)
    page.wait_for_selector("text=Python 3 (ipykernel) | Idle", timeout=120_000)
    lab.button("Train").scroll_into_view_if_needed()
    return lab


@pytest.fixture
def playground(page, jupyter):
    return opened(page, jupyter, "01_playground.ipynb")


@pytest.fixture
def small(page, jupyter):
    return opened(page, jupyter, "00_start_here.ipynb")


def test_a_person_chooses_trains_pauses_and_stops(playground, page):
    lab = playground
    first = lab.picture()

    depth = lab.control("depth").locator(".noUi-handle")
    depth.focus()
    depth.press("ArrowRight")  # 3 → 4
    track = lab.control("width").locator(".noUi-target").bounding_box()
    page.mouse.click(track["x"] + 0.55 * track["width"], track["y"] + track["height"] / 2)
    loss = lab.control("loss").locator("select")
    loss.select_option(label="huber")
    optimizer = lab.control("optimizer").locator("select")
    optimizer.focus()
    page.keyboard.type("rms")  # the keyboard's way through a menu
    lab.until(lambda: "Reset to apply" in lab.button("Reset").inner_text())
    assert lab.control("depth").locator(".widget-readout").inner_text() == "4"
    assert lab.control("width").locator(".widget-readout").inner_text() != "16"
    assert "step 2,000 of 2,000" in lab.status()  # nothing restarts by itself

    lab.button("Reset").click()
    lab.until(lambda: lab.status().startswith("idle"))
    lab.until(lambda: lab.picture() != first)
    untrained = lab.picture()
    last = lab.control("stop at step").locator("input")
    last.fill("20000")  # more than a slow machine's browser needs to press Pause
    last.press("Enter")
    lab.until(lambda: "of 20,000" in lab.status())
    lab.speed("slow: 30 steps/s")  # so that the first look is an early one on any machine
    lab.button("Train").click()
    lab.until(lambda: lab.status().startswith("running") and lab.step() > 10)
    lab.until(lambda: "Test loss" in lab.sentence())
    early = lab.test_loss()
    lab.speed("watch: 300 steps/s")
    lab.until(lambda: lab.test_loss() < 0.9 * early)
    assert lab.picture() != untrained

    lab.button("Pause").click()
    lab.until(lambda: lab.status().startswith("paused"))
    held = lab.step()
    page.wait_for_timeout(500)
    assert lab.step() == held
    lab.button("Step").focus()
    page.keyboard.press("Enter")
    lab.until(lambda: lab.step() == held + 1)
    lab.button("Stop").click()
    lab.until(lambda: lab.status().startswith("stopped"))
    lab.button("Train again").click()
    lab.until(lambda: lab.status().startswith("running") and 0 < lab.step() < held)
    assert page.errors == []


def test_runs_are_pinned_compared_and_shared(small, page):
    lab = small
    lab.button("Pin").click()
    lab.control("optimizer").locator("select").select_option(label="momentum")
    lab.until(lambda: "Reset to apply optimizer" in lab.button("Reset").inner_text())
    lab.button("Reset").click()
    lab.until(lambda: lab.status().startswith("idle"))
    lab.speed("full speed")
    lab.button("Train").click()
    lab.until(lambda: lab.status().startswith("done"))
    lab.button("Pin").click()
    page.click(".lm-TabBar-tab:has-text('Compare')")
    page.wait_for_selector("text=B: optimizer momentum", timeout=20_000)
    page.wait_for_selector(".js-plotly-plot:not(.labkit-figure) .scatterlayer .js-line", timeout=20_000)
    page.click(".lm-TabBar-tab:has-text('Share')")
    assert "optimizer='momentum'" in page.locator(".labkit-right textarea").input_value()
    assert page.locator(".labkit-right input[type=text]").first.input_value().startswith("lab1.")
    assert page.errors == []


def test_the_charts_follow_from_one_data_set_to_the_next(small, page):
    lab = small
    lab.speed("full speed")
    frames = page.locator(".labkit-figure").first
    for dataset in ("plane", "digits", "chebyshev", "teacher", "moons"):
        lab.control("dataset").locator("select").select_option(label=dataset)
        lab.until(lambda: "Reset to apply" in lab.button("Reset").inner_text())
        lab.button("Reset").click()
        lab.until(lambda: lab.status().startswith("idle"))
        lab.button("Train").click()
        lab.until(lambda: lab.status().startswith("done"))
        page.get_by_label("log scale").first.click()
        page.wait_for_timeout(500)
        before = int(frames.get_attribute("data-frames"))
        page.get_by_label("log scale").first.click()
        lab.until(lambda before=before: int(frames.get_attribute("data-frames")) > before)
    assert page.errors == []


# What the map shows, however large it is drawn.
SHADES = (
    """() => JSON.stringify(document.querySelector('.labkit-figure').data.find(trace => trace.type === 'heatmap').z)"""
)


def save_and_reload(page, lab):
    page.keyboard.press("Control+s")
    page.wait_for_timeout(1500)
    page.reload()
    page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60_000)
    page.mouse.move(700, 500)
    lab.until(lambda: page.locator(".labkit-line").count() or page.mouse.wheel(0, 300), 60)
    lab.button("Train").scroll_into_view_if_needed()


def test_a_reloaded_page_shows_the_lab_as_it_is_now(small, page):
    lab = small
    lab.picture()
    trained = page.evaluate(SHADES)
    save_and_reload(page, lab)
    assert "step 200 of 200" in lab.status()
    lab.picture()
    assert page.evaluate(SHADES) == trained


def test_the_lab_fits_a_window_of_a_thousand_pixels(small, page):
    page.set_viewport_size({"width": 1000, "height": 900})
    page.wait_for_timeout(1000)
    for box in (".labkit-right", ".labkit-figure"):
        inside = page.locator(box).first.evaluate("box => box.scrollWidth <= box.clientWidth + 1")
        assert inside, f"{box} has to be scrolled sideways"
    assert page.locator(".labkit-figure").first.bounding_box()["width"] > 400


class LandscapeScreen:
    """The open Landscape tab."""

    def __init__(self, lab):
        self.page, self.lab = lab.page, lab
        lab.until(self.is_open)
        self.figure = self.page.locator(".labkit-figure").nth(1)
        lab.until(lambda: self.frames() > 0)
        lab.until(lambda: "directions" in lab.sentence())

    def is_open(self):
        """Open the tab; the page may still be scrolling, and the first click miss."""
        tab = self.page.get_by_role("tab", name="Landscape", exact=True)
        tab.click()
        return "lm-mod-current" in tab.get_attribute("class")

    def frames(self):
        return int(self.figure.get_attribute("data-frames") or 0)

    def title(self):
        return self.figure.evaluate("figure => figure.layout.xaxis.title.text")

    def losses(self):
        return self.figure.evaluate("figure => JSON.stringify(figure.data[0].z)")


def test_a_person_looks_at_the_ground_while_training_and_goes_back_in_time(small, page):
    lab, ground = small, LandscapeScreen(small)
    for label, word in (("path (PCA)", "path"), ("Hessian", "eigenvector"), ("random", "random")):
        page.locator(".labkit-right select").nth(1).select_option(label=label)
        lab.until(lambda word=word: word in ground.title())

    lab.control("stop at step").locator("input").fill("100000")
    page.keyboard.press("Enter")
    lab.until(lambda: "of 100,000" in lab.status())
    lab.speed("watch: 300 steps/s")
    still = ground.losses()
    lab.button("Train").click()
    lab.until(lambda: lab.status().startswith("running") and ground.losses() != still)  # it moves while training
    lab.button("Stop").click()
    lab.until(lambda: lab.status().startswith("stopped"))
    handle = page.locator(".labkit-right .widget-inline-hbox", has=page.get_by_text("around step"))
    handle = handle.locator(".noUi-handle")
    lab.until(handle.is_visible)
    page.wait_for_timeout(1500)
    now = ground.losses()
    handle.focus()
    handle.press("Home")
    lab.until(lambda: ground.losses() != now)
    assert page.locator(".labkit-right .widget-label", has_text="0 of ").count()

    page.click(".labkit-right button:has-text('3-D')")
    page.wait_for_selector(".labkit-figure .gl-container canvas", timeout=30_000)
    page.wait_for_timeout(2000)
    assert len(ground.figure.screenshot()) > 25_000  # shades of a relief; a blank one packs into far less
    assert page.errors == []


def test_a_reloaded_page_shows_the_ground_again(small, page):
    lab, ground = small, LandscapeScreen(small)
    page.wait_for_timeout(1500)
    seen = ground.losses()
    save_and_reload(page, lab)
    ground = LandscapeScreen(lab)
    lab.until(lambda: ground.losses() == seen)
    assert page.errors == []
