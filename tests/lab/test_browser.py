"""The playground as a person meets it: a real JupyterLab in a real browser, mouse and keyboard."""

import pytest

pytestmark = pytest.mark.browser


@pytest.fixture
def page(cached_page):
    return cached_page


class Playground:
    """The lab of an open notebook page, by the names that a person reads or hears."""

    def __init__(self, page):
        self.page, self.root = page, page.locator(".lk").first

    def button(self, name):
        return self.root.get_by_role("button", name=name, exact=True).first

    def field(self, name):
        return self.root.get_by_label(name, exact=True).first

    def fill(self, name, value):
        self.field(name).fill(value)
        self.field(name).press("Enter")

    def tab(self, name):
        self.root.get_by_role("tab", name=name).click()

    def state(self):
        return self.root.get_attribute("data-state")

    def part(self, name):
        return self.root.locator(f"[data-part='{name}']").first.inner_text()

    def step(self):
        return int(self.part("step").replace(",", ""))

    def parameters(self):
        return int(self.part("parameters").replace(",", ""))

    def sentence(self):
        return self.root.locator("[role=status]").first.inner_text()

    def picture(self, label="decision map"):
        """What a canvas shows."""
        return self.root.locator(f"[aria-label='{label}']").first.evaluate("canvas => canvas.toDataURL()")

    def speed(self, label):
        self.field("speed").select_option(label=label)

    def until(self, what, seconds=30):
        """Wait until a question about the page is answered with yes."""
        for _ in range(int(seconds * 10)):
            if what():
                return
            self.page.wait_for_timeout(100)
        pytest.fail(f"still not so after {seconds} s; the lab says: {self.sentence()}")


def open_and_run_all(page, jupyter, notebook, first=".lk"):
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
    lab.until(lambda: lab.state() == "done", 120)
    page.wait_for_selector("text=Python 3 (ipykernel) | Idle", timeout=120_000)
    lab.root.scroll_into_view_if_needed()
    return lab


@pytest.fixture
def playground(page, jupyter):
    return opened(page, jupyter, "01_playground.ipynb")


@pytest.fixture
def small(page, jupyter):
    return opened(page, jupyter, "00_start_here.ipynb")


WHOLE = """(lab) => [...lab.querySelectorAll("[data-do=train], [data-part=map], [data-part=net], [data-part=curve],"
    + "select, input:not([type=file])")].filter(e => e.offsetParent).every(e => {
    const box = e.getBoundingClientRect(), all = lab.getBoundingClientRect();
    return box.width > 0 && box.right <= all.right + 1 && box.bottom <= all.bottom + 1; })"""


def test_the_lab_is_seen_whole_on_a_laptop_and_its_map_stays_square(small, page):
    for width, height in ((1280, 720), (1440, 900), (1600, 900)):
        page.set_viewport_size({"width": width, "height": height})
        page.wait_for_timeout(700)
        box = small.root.bounding_box()
        square = small.root.locator("[aria-label='decision map']").bounding_box()
        assert abs(square["width"] - square["height"]) < 1.5
        assert small.root.evaluate(WHOLE)
        if width == 1280:
            assert box["height"] <= 541
    for name in ("Train", "Step", "Restart", "Undo", "Redo"):
        assert small.button(name).is_visible()
    for name in ("depth", "width", "loss", "optimizer", "learning rate", "batch size"):
        assert small.field(name).is_visible()


def test_a_person_chooses_trains_pauses_and_starts_over(playground, page):
    lab = playground
    first = lab.picture()
    lab.fill("depth", "4")
    lab.until(lambda: lab.state() == "idle" and lab.root.locator("[data-unit='4.1']").count() == 1)
    lab.fill("width", "7")  # any whole number
    lab.until(lambda: lab.parameters() == 3 * 7 + 3 * 8 * 7 + 8 * 2)
    lab.field("loss").select_option("huber")
    lab.until(lambda: lab.parameters() == 3 * 7 + 3 * 8 * 7 + 8)
    lab.field("optimizer").focus()
    page.keyboard.type("rms")  # the keyboard's way through a menu
    lab.until(lambda: lab.field("optimizer").input_value() == "rmsprop")
    assert lab.picture() != first

    lab.button("Train").click()
    lab.until(lambda: lab.state() == "running" and lab.step() > 10)
    untrained = lab.picture()
    lab.until(lambda: lab.picture() != untrained)
    lab.button("Pause").click()
    lab.until(lambda: lab.state() == "paused")
    held = lab.step()
    page.wait_for_timeout(500)
    assert lab.step() == held
    lab.button("Step").focus()
    page.keyboard.press("Enter")
    lab.until(lambda: lab.step() == held + 1)
    lab.button("Restart").click()
    lab.until(lambda: lab.state() == "idle" and lab.step() == 0)
    lab.button("Undo").click()
    lab.until(lambda: lab.field("optimizer").input_value() == "adam")
    lab.button("Redo").click()
    lab.until(lambda: lab.field("optimizer").input_value() == "rmsprop")
    assert page.errors == []


def test_a_refused_choice_is_taken_back_with_one_sentence(small, page):
    small.fill("batch size", "5000")
    small.until(lambda: "batch_size=5000 is not allowed" in small.sentence())
    small.until(lambda: small.field("batch size").input_value() != "5000")
    small.fill("width", "0")
    small.until(lambda: "width=0 is not allowed" in small.sentence())
    assert page.errors == []


def test_a_unit_is_pointed_at_and_a_weight_edited(small, page):
    lab = small
    whole = lab.picture()
    lab.root.locator("[data-unit='1.2']").hover()
    lab.until(lambda: lab.picture() != whole)
    assert "layer 1, unit 2" in lab.part("caption")
    link = lab.root.locator("[data-link='1.1.2']")
    link.focus()
    link.press("Enter")
    value = lab.root.get_by_label("value", exact=True)
    value.fill("3")
    lab.until(lambda: "weight from" in lab.sentence())
    value.press("Enter")
    page.mouse.move(5, 5)
    lab.until(lambda: lab.picture() != whole)
    lab.tab("Share")
    lab.until(lambda: any("'w1.1.2': 3" in text for text in shared(lab)))
    assert page.errors == []


def test_instant_shows_the_end_of_every_change_for_several_seeds(small, page):
    small.root.get_by_role("switch").check(force=True)
    small.until(lambda: small.state() == "done" and small.part("seeds-name") == "8 seeds")
    before = small.picture()
    small.field("activation").select_option("relu")
    small.until(lambda: small.state() == "done" and small.picture() != before)
    assert page.errors == []


def shared(lab):
    """What the open tab Share says."""
    return lab.root.locator("textarea, input[readonly]").evaluate_all("all => all.map(each => each.value)")


def test_runs_are_pinned_compared_and_shared(small, page):
    lab = small
    lab.root.get_by_role("button", name="Pin").click()
    lab.field("optimizer").select_option("momentum")
    lab.until(lambda: lab.state() == "idle")
    lab.speed("full speed")
    lab.button("Train").click()
    lab.until(lambda: lab.state() == "done")
    lab.root.get_by_role("button", name="Pin").click()
    lab.tab("Compare")
    lab.until(lambda: "B: optimizer momentum" in lab.root.inner_text())
    lab.tab("Share")
    texts = shared(lab)
    assert any("optimizer='momentum'" in text for text in texts) and any(text.startswith("lab1.") for text in texts)
    assert page.errors == []


def test_the_pictures_follow_from_one_data_set_to_the_next(small, page):
    lab = small
    lab.speed("full speed")
    for dataset in ("plane", "digits", "chebyshev", "teacher", "moons"):
        lab.root.locator(f"[data-set='{dataset}']").click()
        lab.until(lambda dataset=dataset: lab.state() == "idle" and dataset in lab.root.inner_text())
        lab.button("Train").click()
        lab.until(lambda: lab.state() == "done")
        assert not lab.root.locator(".lk-warning").count()
    assert page.errors == []


def save_and_reload(page, lab):
    page.keyboard.press("Control+s")
    page.wait_for_timeout(1500)
    page.reload()
    page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60_000)
    page.mouse.move(700, 500)
    lab.until(lambda: page.locator(".lk").count() or page.mouse.wheel(0, 300), 60)
    lab.root.scroll_into_view_if_needed()


def test_a_page_that_is_reloaded_while_training_shows_the_lab_as_it_is_now(small, page):
    lab = small
    lab.tab("More")
    lab.fill("stop at step", "1000000")
    lab.button("Train").click()
    lab.until(lambda: lab.state() == "running")
    save_and_reload(page, lab)
    lab.until(lambda: lab.state() == "running" and lab.step() > 0)
    step = lab.step()
    lab.until(lambda: lab.step() > step)
    lab.button("Pause").click()
    lab.until(lambda: lab.state() == "paused")
    assert page.errors == []


class LandscapeScreen:
    """The open Landscape tab."""

    def __init__(self, lab):
        self.page, self.lab = lab.page, lab
        lab.tab("Landscape")
        self.figure = lab.root.locator(".labkit-figure").first
        lab.until(lambda: self.frames() > 0, 60)
        lab.until(lambda: "directions" in lab.sentence())

    def frames(self):
        return int(self.figure.get_attribute("data-frames") or 0) if self.figure.count() else 0

    def title(self):
        return self.figure.evaluate("figure => figure.layout.xaxis.title.text")

    def losses(self):
        return self.figure.evaluate("figure => JSON.stringify(figure.data[0].z)")


def test_a_person_looks_at_the_ground_while_training_and_goes_back_in_time(small, page):
    lab, ground = small, LandscapeScreen(small)
    for label, word in (("path (PCA)", "path"), ("Hessian", "eigenvector"), ("random", "random")):
        lab.root.locator(".widget-dropdown select").first.select_option(label=label)
        lab.until(lambda word=word: word in ground.title())
    lab.button("Restart").click()
    lab.until(lambda: lab.state() == "idle")
    still = ground.losses()
    lab.button("Train").click()
    lab.until(lambda: ground.losses() != still)  # it moves while training
    lab.until(lambda: lab.state() == "done")
    handle = lab.root.locator(".widget-inline-hbox", has=page.get_by_text("around step")).locator(".noUi-handle")
    lab.until(handle.is_visible)
    page.wait_for_timeout(1500)
    now = ground.losses()
    handle.focus()
    handle.press("Home")
    lab.until(lambda: ground.losses() != now)
    lab.root.get_by_role("button", name="3-D").click()
    page.wait_for_selector(".labkit-figure .gl-container canvas", timeout=30_000)
    page.wait_for_timeout(2000)
    assert len(ground.figure.screenshot()) > 10_000  # shades of a relief; a blank one packs into far less
    assert page.errors == []
