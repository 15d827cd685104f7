"""The explorers of the notebooks as a person meets them: every picture answers a control, a drag or a key."""

import re

import pytest
from test_browser import LandscapeScreen, open_and_run_all, opened

pytestmark = pytest.mark.browser


@pytest.fixture
def page(cached_page):
    return cached_page


@pytest.fixture(autouse=True)
def no_kernel_is_left(jupyter):
    """Each test opens a notebook of its own: its kernel would only take memory from the next."""
    yield
    jupyter.end_kernels()


class Explorer:
    """One explorer of an open notebook page, by its place among them."""

    def __init__(self, lab, place):
        self.lab, self.box = lab, lab.page.locator(".labkit-explorer").nth(place)
        self.figure = self.box.locator(".labkit-figure")
        self.box.scroll_into_view_if_needed()
        lab.until(lambda: self.frames() > 0)

    def frames(self):
        return int(self.figure.get_attribute("data-frames") or 0)

    def sentence(self):
        return self.box.locator("[role=status]").inner_text()

    def press(self, label, key):
        """Move the slider of one choice by the keyboard, and wait for the picture's answer."""
        said, frames = self.sentence(), self.frames()
        row = self.box.locator(".widget-inline-hbox", has=self.lab.page.get_by_text(re.compile(rf"^{label}$")))
        handle = row.locator(".noUi-handle")
        handle.focus()
        handle.press(key)
        self.lab.until(lambda: self.frames() > frames and self.sentence() != said)

    def choose(self, place, option, says_the_same=False):
        """Take an option of a menu, and wait for the picture's answer."""
        said, frames = self.sentence(), self.frames()
        self.box.locator("select").nth(place).select_option(label=option)
        self.lab.until(lambda: self.frames() > frames and (says_the_same or self.sentence() != said))


def test_a_person_turns_a_neuron_counts_parameters_and_looks_inside_a_network(page, jupyter):
    lab = opened(page, jupyter, "02_networks_and_parameters.ipynb")

    neuron = Explorer(lab, 0)
    said, frames = neuron.sentence(), neuron.frames()
    map_ = neuron.figure.locator(".nsewdrag").first.bounding_box()
    middle = map_["x"] + map_["width"] / 2, map_["y"] + map_["height"] / 2
    page.mouse.move(middle[0] + 70, middle[1] - 40)
    page.mouse.down()
    page.mouse.move(middle[0] - 120, middle[1] - 80, steps=5)
    page.mouse.up()
    lab.until(lambda: neuron.frames() > frames and neuron.sentence() != said)
    lab.until(lambda: neuron.sentence().startswith("Weights -"))  # to the left of 0

    inspector = Explorer(lab, 1)
    assert "699,905 parameters" in inspector.sentence() and "805,068,800 FLOPs" in inspector.sentence()
    inspector.press("depth", "ArrowLeft")  # 6 → 5 hidden layers
    assert "699,393 parameters" in inspector.sentence()

    network = Explorer(lab, 2)
    assert network.sentence().startswith("Step 2,000: 186 parameters")
    network.press("step", "Home")
    assert network.sentence() == "Step 0: 186 parameters, moved by 0.00 on average since the start."

    unit = Explorer(lab, 3)
    assert "explains 100% of its sums" in unit.sentence()  # of the first layer
    unit.press("layer", "ArrowRight")
    assert "explains 100%" not in unit.sentence()

    deep = Explorer(lab, 4)
    deep.press("layer", "End")
    assert re.search(r"A share of [\d.]+e-0[678] of it depends on the input", deep.sentence())
    assert page.errors == []


def test_a_person_turns_delta_chooses_a_loss_and_drags_an_outlier(page, jupyter):
    lab = opened(page, jupyter, "03_loss_functions.ipynb")

    shapes = Explorer(lab, 0)
    assert "huber 0.67, mse 6" in shapes.sentence()
    shapes.press("huber delta", "End")
    assert "huber 3, mse 6" in shapes.sentence()

    chooser = Explorer(lab, 1)
    assert re.search(r"mse [\d.]+ \([\d.]+\); huber [\d.]+ \([\d.]+\)", chooser.sentence())
    chooser.press("outliers", "Home")  # none: least squares is the best again
    assert "take mse" in chooser.sentence() or "mse and" in chooser.sentence() or "and mse" in chooser.sentence()
    said, frames = chooser.sentence(), chooser.frames()
    chooser.box.locator("select").first.select_option(label="contaminated")
    lab.until(lambda: chooser.frames() > frames and chooser.sentence() != said)

    leverage = Explorer(lab, 2)

    def misses():
        return {name: float(miss) for name, miss in re.findall(r"([\w-]+) ([\d.]+)[,.] ", leverage.sentence())}

    assert misses()["huber"] > 0.4  # far out to the right, it turns every line
    frames = leverage.frames()
    box = leverage.figure.locator(".nsewdrag").first.bounding_box()
    above = box["x"] + box["width"] * 3 / 16  # the axis goes from -3 to 13: at 0
    page.mouse.move(box["x"] + box["width"] * 0.8, box["y"] + box["height"] * 0.75)
    page.mouse.down()
    page.mouse.move(above, box["y"] + box["height"] * 0.75, steps=5)
    page.mouse.up()
    lab.until(lambda: leverage.frames() > frames and "Outlier at 0." in leverage.sentence().replace("-", ""))
    lab.until(lambda: misses()["huber"] < 0.2 < misses()["mse"])
    assert page.errors == []


def test_a_person_races_optimizers_tunes_them_and_turns_the_ground(page, jupyter):
    lab = opened(page, jupyter, "04_gradient_descent_to_adam.ipynb")

    race = Explorer(lab, 0)
    assert "sgd 330, momentum 90, rmsprop 357, adam 114" in race.sentence()
    race.press("lr sgd", "End")  # 10, where it was 0.0056
    assert "sgd flies off, momentum 90," in race.sentence()
    said, frames = race.sentence(), race.frames()
    map_ = race.figure.locator(".nsewdrag").first.bounding_box()
    page.mouse.move(map_["x"] + map_["width"] / 2, map_["y"] + map_["height"] / 2)
    page.mouse.down()
    page.mouse.move(map_["x"] + map_["width"] * 0.9, map_["y"] + map_["height"] * 0.2, steps=5)
    page.mouse.up()
    lab.until(lambda: race.frames() > frames and race.sentence() != said)
    race.box.locator("select").first.select_option(label="four hollows")
    lab.until(lambda: "of the 4 hollows" in race.sentence())
    race.press("steps", "Home")
    assert "adam not yet" in race.sentence()

    tuning = Explorer(lab, 1)
    assert re.match("At 0.01 for everyone: (adam|rmsprop)", tuning.sentence())
    tuning.press("rate", "End")  # 3: too large for all of them
    assert tuning.sentence().startswith("At 3 for everyone:")

    bowl = Explorer(lab, 2)
    bowl.press("beta", "Home")  # gradient descent at half its best learning rate
    slow, yours = re.search(r"gradient descent (\S+), heavy ball \S+, yours (\S+)\.", bowl.sentence()).groups()
    assert float(yours) > 2 * float(slow)

    turned = Explorer(lab, 3)
    sgd, adam = re.search(r"sgd (\S+), adam (\S+)\.", turned.sentence()).groups()
    turned.press("degrees", "ArrowRight")
    assert f"Turned by 5°, the height after 400 steps: sgd {sgd}, adam" in turned.sentence()
    assert float(re.search(r"adam (\S+)\.", turned.sentence())[1]) > 1e10 * float(adam)
    assert page.errors == []


def test_a_person_mends_the_article_network_and_weighs_its_cost(page, jupyter):
    lab = opened(page, jupyter, "06_the_article_network.ipynb")

    mends = Explorer(lab, 0)
    assert re.match(
        r"Training mse (0\.9\d|1(\.0\d)?) after 300 steps", mends.sentence()
    )  # the default start, plain SGD
    said, frames = mends.sentence(), mends.frames()
    mends.box.locator("select").first.select_option(label="he")
    lab.until(lambda: mends.frames() > frames and mends.sentence() != said)
    assert float(re.match(r"Training mse (\S+) ", mends.sentence())[1]) < 0.1
    said, frames = mends.sentence(), mends.frames()
    mends.box.locator("input[type=checkbox]").check()
    lab.until(lambda: mends.frames() > frames and mends.sentence() != said)
    assert mends.sentence().startswith("diverged at step")

    trade = Explorer(lab, 1)
    assert trade.sentence() == "Lowest test mse on 1× the samples: linear, for 1,025 parameters."
    said, frames = trade.sentence(), trade.frames()
    trade.box.locator("select").last.select_option(label="train")
    lab.until(lambda: trade.frames() > frames and trade.sentence() != said)
    assert "linear" not in trade.sentence()
    assert page.errors == []


NOTHING_WAITS = """() => ![...document.querySelectorAll('.jp-InputPrompt')].some(
    prompt => prompt.textContent.includes('*'))"""


def explored(page, jupyter, notebook, **choices):
    """Open the explorers of a notebook that has no lab, and wait until all of it has run."""
    lab = open_and_run_all(page, jupyter, jupyter.excerpt(notebook, **choices), ".labkit-explorer")
    page.wait_for_function(NOTHING_WAITS, timeout=300_000)  # between two cells the kernel counts as idle, too
    return lab


def test_a_person_compares_sizes_at_equal_compute_and_plans_a_training(page, jupyter):
    lab = explored(page, jupyter, "07_bigger_models.ipynb")

    sizes = Explorer(lab, 0)
    at_equal_steps = sizes.sentence()
    assert re.match(
        r"Best size of each line, from the first to the last: ([\d,]+, )+[\d,]+ parameters\.", at_equal_steps
    )
    sizes.choose(0, "compute")
    bests = [int(each.replace(",", "")) for each in re.findall(r"([\d,]+)[, ] ?", sizes.sentence().split(": ")[1])]
    assert bests == sorted(bests) and bests[-1] < 1281
    sizes.choose(1, "test mse", says_the_same=True)

    planner = Explorer(lab, 1)
    assert planner.sentence().startswith("In 1 s: ")
    planner.press("seconds", "Home")
    assert planner.sentence().startswith("In 0.1 s: ")
    assert page.errors == []


def test_a_person_turns_the_time_limit_of_a_server(page, jupyter):
    lab = explored(page, jupyter, "08_hardware_and_serving.ipynb")

    limit = Explorer(lab, 0)
    assert limit.sentence().startswith("Within 1 ms: ")
    limit.press("budget ms", "Home")
    assert limit.sentence().startswith("Within 0.03 ms: ")
    limit.choose(0, "bfloat16", says_the_same=True)
    limit.press("budget ms", "End")
    assert re.match(r"Within 100 ms: a batch of [\d,]+ at most, [\d,]+ answers a second\.", limit.sentence())
    assert page.errors == []


def test_a_person_draws_learning_curves_and_trains_on_more_images(page, jupyter):
    lab = opened(page, jupyter, "09_data.ipynb", steps=100)
    page.wait_for_function(NOTHING_WAITS, timeout=300_000)
    few = lab.sentence()

    curves = Explorer(lab, 0)
    assert curves.sentence().startswith("digits: the error is the share that is wrong;")
    curves.choose(0, "diabetes")
    assert curves.sentence().startswith("diabetes: the error is the unexplained variance (1 − R²);")
    curves.choose(1, "linear", says_the_same=True)

    share = lab.field("for training")
    share.focus()
    share.press("End")  # nearly all
    lab.until(lambda: lab.state() == "idle")
    lab.button("Train").click()
    lab.until(lambda: lab.state() == "done" and lab.sentence() != few)
    right, many = re.search(r"(\d+) of (\d+) test points are right", lab.sentence()).groups()
    assert int(right) / int(many) > 0.93
    assert page.errors == []


def test_a_person_moves_a_point_over_the_network_and_catches_the_clever_one(page, jupyter):
    lab = opened(page, jupyter, "10_interpretability.ipynb")
    page.wait_for_function(NOTHING_WAITS, timeout=300_000)

    shares = Explorer(lab, 0)
    rise, ours, ablated = (float(each) for each in re.findall(SHARES, shares.sentence())[0])
    assert abs(ours - rise) < 0.11 and ablated > 1.2 * rise  # xor: the whole is given twice
    frames = shares.frames()
    box = shares.figure.locator(".nsewdrag").first.bounding_box()
    page.mouse.move(box["x"] + 0.7 * box["width"], box["y"] + 0.3 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.2 * box["width"], box["y"] + 0.2 * box["height"], steps=5)
    page.mouse.up()
    lab.until(lambda: shares.frames() > frames and shares.sentence().startswith("The answer is -"))  # the other class
    shares.choose(0, "the other side")
    trained = shares.sentence()

    lab.root.locator("[data-set='gauss']").click()
    lab.until(lambda: lab.state() == "idle")
    lab.button("Train").click()
    lab.until(lambda: lab.state() == "done")
    shares.choose(0, "the mean")
    assert shares.sentence() != trained  # of the network that was just trained
    rise, ours, _ = (float(each) for each in re.findall(SHARES, shares.sentence())[0])
    assert abs(ours - rise) < 0.11

    lab.root.locator("[data-set='digits']").click()
    lab.until(lambda: lab.state() == "idle")
    lab.button("Train").click()
    lab.until(lambda: lab.state() == "done", 60)

    pixels = Explorer(lab, 1)
    part = int(re.search(r"says 7\. .* get (\d+)%", pixels.sentence())[1])
    pixels.choose(1, "honest")
    assert int(re.search(r"get (\d+)%", pixels.sentence())[1]) < part / 2
    pixels.choose(2, "occlusion")
    pixels.choose(3, "black")
    pixels.choose(0, "a 3")
    pixels.choose(1, "yours")
    assert re.match(r"Your network says \d\.", pixels.sentence())
    assert page.errors == []


def test_a_person_masks_answers_and_spends_a_privacy_budget(page, jupyter):
    lab = explored(page, jupyter, "11_privacy.ipynb")

    def auc():
        return float(re.match(r"AUC ([\d.]+), gap", attack.sentence())[1])

    attack = Explorer(lab, 0)
    learnt = auc()
    attack.choose(0, "label only")
    assert 0.6 < auc() < learnt
    attack.press("steps", "Home")
    attack.choose(0, "probabilities")
    assert auc() < 0.7  # the goal

    budget = Explorer(lab, 1)
    assert budget.sentence().startswith("ε = 2: ") and "0.76 is the bound" in budget.sentence()
    budget.press("epsilon", "Home")
    assert budget.sentence().startswith("ε = 0.3: ") and "0.15 is the bound" in budget.sentence()
    assert page.errors == []


SHARES = r"a change of ([+-]\d+\.\d) from .* integrated gradients ([+-]\d+\.\d), feature ablation ([+-]\d+\.\d)"


def test_a_person_turns_the_ground_of_a_notebook_on_landscapes(page, jupyter):
    lab = opened(page, jupyter, "05_loss_landscapes.ipynb")
    page.wait_for_function(NOTHING_WAITS, timeout=300_000)
    ground = LandscapeScreen(lab)
    assert "random" in ground.title()
    still = ground.losses()
    lab.root.locator(".widget-dropdown select").first.select_option(label="Hessian")
    lab.until(lambda: "eigenvector" in ground.title() and ground.losses() != still)

    lab.fill("batch size", "0")  # all samples
    lab.until(lambda: lab.state() == "idle")
    still = ground.losses()
    lab.button("Train").click()
    lab.until(lambda: ground.losses() != still)
    assert page.errors == []
