"""`make evidence`: every notebook in full, and one table of what it claims, what is expected and what was measured.

Ends with 1 where a notebook breaks or a claim does not hold. Names of notebooks run those alone.
"""

import math
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from claims import CLAIMS, holds
from executed import Report, apart

FOLDER = Path(__file__).parent.parent / "notebooks"
SECONDS = 1800  # for one notebook
WIDTHS = 64, 26  # of the table's first columns


def shown(value: object) -> str:
    """A measured value in a few characters; many values as their range."""
    numbers = [value] if not isinstance(value, list) else value
    if isinstance(value, list) and len(value) > 3 and all(isinstance(number, float) for number in numbers):
        return f"{min(numbers):.4g} to {max(numbers):.4g} ({len(numbers)})"
    words = [f"{n:.4g}" if isinstance(n, float) and not math.isnan(n) else str(n) for n in numbers]
    return ", ".join(words)


def run(name: str, folder: Path) -> tuple[str, list[str], bool]:
    """Run one notebook in full; return its name, the lines of its table, and whether all of it holds."""
    began = time.perf_counter()
    try:
        source = FOLDER / f"{name}.ipynb"
        choices = {"full": True, **apart(source, folder)}
        results = Report(source, folder / f"{name}.ipynb", choices, FOLDER, SECONDS)
        found = list(CLAIMS[name](results.check().results(), True))
    except Exception as error:
        return name, [f"BROKEN: {type(error).__name__}: {error}"], False
    verdicts = [holds(measured, expected) for _, measured, expected in found]
    lines = [f"{time.perf_counter() - began:.0f} s"]
    for (claim, measured, expected), good in zip(found, verdicts, strict=True):
        first, second = claim.ljust(WIDTHS[0]), str(expected).ljust(WIDTHS[1])
        lines.append(f"{'yes' if good else 'NO ':4}{first} {second} {shown(measured)}")
    return name, lines, all(verdicts)


def main(names: list[str]) -> int:
    """Run the named notebooks, or all, two at a time, and print each when it is there."""
    unknown = [name for name in names if name not in CLAIMS]
    if unknown:
        print(f"no notebook {unknown[0]!r}: there is {', '.join(CLAIMS)}.", file=sys.stderr)
        return 2
    good = True
    print(f"    {'claim'.ljust(WIDTHS[0])} {'expected'.ljust(WIDTHS[1])} measured")
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
        for job in as_completed([pool.submit(run, name, Path(folder)) for name in names or CLAIMS]):
            name, lines, all_hold = job.result()
            good &= all_hold
            print(f"\n{name}, {lines[0]}", *lines[1:], sep="\n", flush=True)
    print("\nevery claim holds" if good else "\nnot every claim holds")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
