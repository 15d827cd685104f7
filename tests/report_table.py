"""`python tests/report_table.py [NOTEBOOK …]`: every notebook's report, natively, in other numerics, at other seeds.

Prints the exit code and the seconds of each, and how many claims hold with the defaults. Ends with 1 where a report
does not end with 0 or a claim does not hold, and with 2 where there is no such notebook.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import nbformat
from claims import CLAIMS, holds
from executed import apart

from labkit.reports.parameters import declared, load
from labkit.reports.report import results_of

FOLDER = Path(__file__).parent.parent / "notebooks"
SECONDS = "1200"  # for one report
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}  # two reports run at a time
OTHER_NUMERICS = {"ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE"}  # the rounding of another processor
VARIANTS = {  # column → the seed, where it is not the default, and what the environment has more
    "native": (None, {}),
    "numerics": (None, OTHER_NUMERICS),
    "seed 1": ("1", {}),
    "seed 2": ("2", {}),
    "seed 4321": ("4321", {}),
}
WIDTHS = 32, 14


class Done(NamedTuple):
    """A report that was made."""

    code: int
    seconds: float
    why: str  # what it said on stderr
    claims: list[tuple[str, object, object, bool]]  # what, measured, expected, whether it holds; none at other seeds


def report(name: str, variant: str, folder: Path) -> Done:
    """Make one report in a folder of its own and judge the notebook's claims."""
    seed, more = VARIANTS[variant]
    source, out = FOLDER / f"{name}.ipynb", folder / name / variant
    choices = apart(source, out) | ({} if seed is None else {"seed": seed})
    command = [sys.executable, "-m", "labkit", "report", str(source), "--out", str(out), "--seconds", SECONDS]
    for key, value in choices.items():
        command += ["-p", key, value]
    env = os.environ | ONE_THREAD | more | {"IPYTHONDIR": str(folder / "ipython"), "OMP_WAIT_POLICY": "PASSIVE"}
    began = time.perf_counter()
    done = subprocess.run(command, cwd=FOLDER, env=env, capture_output=True, text=True)
    took = time.perf_counter() - began
    judged = seed is None and done.returncode == 0
    return Done(done.returncode, took, done.stderr.strip(), list(verdicts(name, out)) if judged else [])


def verdicts(name: str, out: Path) -> Iterator[tuple[str, object, object, bool]]:
    """Every claim about the one report in a folder, and whether it holds."""
    (path,) = out.glob(f"{name}-*.ipynb")
    results, _ = results_of(nbformat.read(path, as_version=4))
    for claim, measured, expected in CLAIMS[name](results, False):
        yield claim, measured, expected, holds(measured, expected)


def line(name: str, cells: list[str], claims: str) -> str:
    return "".join([name.ljust(WIDTHS[0]), *(cell.ljust(WIDTHS[1]) for cell in cells), claims])


def row(name: str, reports: dict[str, Done]) -> str:
    """A notebook's line of the table, and a line for whatever is wrong."""
    cells = [f"{reports[v].code}, {reports[v].seconds:.0f} s" if v in reports else "-" for v in VARIANTS]
    counts = [f"{sum(c[-1] for c in done.claims)}/{len(done.claims)}" for done in reports.values() if done.claims]
    lines = [line(name, cells, " ".join(counts))]
    for variant, done in reports.items():
        lines += [f"    {variant}: {done.why}"] if done.code else []
        lines += [f"    {variant}: NO {what}: {got}, not {want}" for what, got, want, good in done.claims if not good]
    return "\n".join(lines)


def tried(name: str) -> list[str]:
    """The variants that a notebook has: without a parameter `seed`, no other seeds."""
    seeded = "seed" in declared(load(FOLDER / f"{name}.ipynb"))
    return [variant for variant, (seed, _) in VARIANTS.items() if seeded or seed is None]


def main(names: list[str]) -> int:
    """Make all reports of the named notebooks, or of all, two at a time, and print the table."""
    unknown = [name for name in names if name not in CLAIMS]
    if unknown:
        print(f"no notebook {unknown[0]!r}: there is {', '.join(CLAIMS)}.", file=sys.stderr)
        return 2
    print(line("notebook", list(VARIANTS), "claims that hold"))
    good = True
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
        jobs = {n: {v: pool.submit(report, n, v, Path(folder)) for v in tried(n)} for n in names or CLAIMS}
        try:
            for name, futures in jobs.items():
                reports = {variant: future.result() for variant, future in futures.items()}
                good &= all(done.code == 0 and all(claim[-1] for claim in done.claims) for done in reports.values())
                print(row(name, reports), flush=True)
        finally:
            pool.shutdown(cancel_futures=True)
    print("every report ends with 0, every claim holds" if good else "not every report ends with 0 and with its claims")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
