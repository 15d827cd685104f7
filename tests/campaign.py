"""`make faults`: real faults by the hundred, their counts printed; exit code 1 where one did not hold."""

import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing.pool import ThreadPool
from pathlib import Path

import faults
import killed
from core import test_checkpoints
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from labkit.core.rules import Menu
from labkit.core.spec import RULES
from labkit.reports import parameters

PLAYGROUND = faults.TESTS.parent / "notebooks" / "01_playground.ipynb"
NAMES = (  # that nobody declares; papermill would run some of them as code
    "", " ", "Depth", "depth ", " depth", "depth=3", "depth;x", "0depth", "a-b", "a.b", "a b", "class", "None", "True",
    "深度", "dépth", "__import__('os').system('touch {mark}')", "open('{mark}','w')", "x\nopen('{mark}','w')\ny",
    "depth\n", "[depth]", "*depth", "**depth", "lambda", "import os", "spec", "labkit", "self", "__builtins__",
)  # fmt: skip
WHOLE = ("", " ", "ten", "2.5", "1e3", "nan", "inf", "-1", "true", "None", "[1]", "0x10", "1 2", "1,5", "9" * 400, "十")
NUMBER = (
    "",
    "abc",
    "nan",
    "inf",
    "-inf",
    "1e400",
    "-1",
    "1,5",
    "true",
    "None",
    "[0.1]",
    "0.1.2",
    "1e",
    "--1",
    "{mark}",
)
CHOICE = ("", "husker", "MSE", "mse ", "None", "1", "true", "['mse']", "mse;x", "open('{mark}','w')")
FLAG = ("", "2", "yes", "on", "None", "0.0", "truе", "open('{mark}','w')")
QUICK = 2  # seconds that a refusal may take
TYPED = st.characters(exclude_characters="\0", exclude_categories=["Cs"])  # what a command line can hold
ALLOWED = {"true", "false"} | {option for rule in RULES.values() if isinstance(rule, Menu) for option in rule.options}
BY_KIND = {"int": WHOLE, "float": NUMBER, "str": CHOICE, "bool": FLAG}


def bad_parameters(rng: random.Random, many: int) -> list[tuple[str, str]]:
    """Names and values that the playground's notebook must refuse: listed ones, then what hypothesis thinks of."""
    known = parameters.declared(parameters.load(PLAYGROUND))
    listed = [(name, "3") for name in NAMES]
    for name, each in known.items():
        if name in RULES or each.kinds[-1] != "str":
            listed += [(name, value) for value in BY_KIND[each.kinds[-1]]]
    found = dict.fromkeys(listed)

    @seed(rng.randrange(2**32))
    @settings(max_examples=2 * many, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(_bad_names(known) | _bad_values(known))
    def collect(pair: tuple[str, str]) -> None:
        found[pair] = None

    collect()
    return list(found)[:many]


def _bad_names(known: dict) -> st.SearchStrategy:
    """A name with one letter changed, left out or put in, or any text at all; the value is a good one."""
    near = st.builds(
        lambda name, at, out, letters: name[:at] + letters + name[at + out :],
        st.sampled_from(list(known)), st.integers(0, 9), st.integers(0, 1), st.text(TYPED, max_size=2),
    )  # fmt: skip
    return st.tuples((near | st.text(TYPED, max_size=30)).filter(lambda name: name not in known), st.just("3"))


def _bad_values(known: dict) -> st.SearchStrategy:
    """A field of `Spec` with a text that Python itself takes for no number, and that is on no menu."""
    typed = st.text(TYPED, max_size=30).filter(lambda text: not _is_number(text) and text.lower() not in ALLOWED)
    return st.tuples(st.sampled_from([name for name in known if name in RULES]), typed)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def refused(name: str, value: str) -> float:
    """Give one to the command line; return the seconds until it was refused."""
    with tempfile.TemporaryDirectory() as place:
        mark, out = Path(place, "mark"), Path(place, "out")
        name, value = (text.replace("{mark}", str(mark)) for text in (name, value))
        began = time.monotonic()
        words = [*faults.command(PLAYGROUND, out), "-p", name, value]
        done = subprocess.run(words, capture_output=True, text=True, cwd=place)
        seconds = time.monotonic() - began
        assert done.returncode == 2, (name, value, done.returncode, done.stderr)
        assert done.stderr.count("\n") == 1 and "Traceback" not in done.stderr, (name, value, done.stderr)
        assert repr(name)[1:12].rstrip("'\"") in done.stderr, (name, done.stderr)
        assert not mark.exists() and not out.exists(), (name, value)
    return seconds


def _tried(tries: list[Callable[[], object]]) -> Iterator[object]:
    """What came of each try: its result, or the words of what did not hold."""
    for one in tries:
        try:
            yield one()
        except AssertionError as error:
            yield f"{error}" or "an assertion"
        except subprocess.SubprocessError as error:
            yield f"{type(error).__name__}: {error}"


class Counts:
    """What was injected, and what did not hold."""

    def __init__(self) -> None:
        self.failed: list[str] = []

    def row(self, kind: str, results: list[object], said: str = "") -> None:
        """Print one row, as soon as it is there."""
        bad = [f"{kind}: {result}" for result in results if isinstance(result, str)]
        self.failed += bad
        print(f"| {kind} | {len(results)} | {len(results) - len(bad)} | {said} |", flush=True)


def main() -> int:
    """Run the whole campaign and print a table of what was injected and what held."""
    rng, counts, folder = random.Random(0), Counts(), Path(tempfile.mkdtemp())
    print("| fault | injected | held | |\n|---|---|---|---|")
    with ThreadPool(2) as pool:
        tries = [lambda pair=pair: refused(*pair) for pair in bad_parameters(rng, 300)]
        results = pool.map(lambda one: next(_tried([one])), tries)
    took = [each for each in results if isinstance(each, float)]
    quick = sum(seconds < QUICK for seconds in took)
    said = f"none reached a kernel; {quick} in less than {QUICK} s, the slowest in {max(took):.2f} s"
    counts.row("bad parameters", results, said)
    field = faults.Field(folder)
    for kind, (many, make) in faults.KINDS.items():
        counts.row(kind, list(_tried([lambda make=make: field.inject(make(rng), rng)] * many)))
    for kind, (many, inject) in faults.OTHERS.items():
        counts.row(kind, list(_tried([lambda inject=inject: inject(field, rng)] * many)))
    _trainings(counts, rng, folder)
    _sweep(counts, folder)
    shutil.rmtree(folder)
    print(*counts.failed, sep="\n")
    return 1 if counts.failed else 0


def _trainings(counts: Counts, rng: random.Random, folder: Path) -> None:
    cases = list(killed.cases())

    def resume(number: int) -> None:
        killed.resumed(cases[number % len(cases)], rng, folder / f"killed {number}")

    tries = [lambda number=number: resume(number) for number in range(20)]
    counts.row("a training is killed, and goes on", list(_tried(tries)), "to the same bits")
    kept = test_checkpoints.kept_in(folder / "kept")

    def damage(number: int) -> None:
        place = folder / f"damaged {number}"
        place.mkdir()
        test_checkpoints.mutate(kept, place, number)

    tries = [lambda number=number: damage(number) for number in range(512)]
    counts.row("a damaged checkpoint", list(_tried(tries)), "none loaded, no code run, the one before used")


def _sweep(counts: Counts, folder: Path) -> None:
    place = folder / "sweep"
    place.mkdir()
    good, explained, again = faults.faulty_sweep(place, range(1, 41))
    pairs = (good, 34), (explained, 6), (again, 6)
    results = [None if found == due else f"{found}, not {due}" for found, due in pairs]
    said = f"{good} good, {explained} explained, {again} run by the second call"
    counts.row("a sweep of 40 with 6 faulty runs, twice", results, said)


if __name__ == "__main__":
    sys.exit(main())
