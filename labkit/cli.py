"""The command line: `labkit report`, `sweep` and `doctor`; also `python -m labkit`."""

import argparse
import contextlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from labkit.core.rules import Number, Whole, nearest
from labkit.reports import parameters
from labkit.reports.execution import FAILED, INTERRUPTED, LOCKED, REFUSED, TERMINATED, Terminated
from labkit.reports.report import Runner
from labkit.reports.sweep import SweepRunner, grid_of
from labkit.storage.atomic import OutputLocked

AGAIN = "The same command goes on with the rest."
VALUE_MARK = "\0"  # no word of a command line holds one


class Parser(argparse.ArgumentParser):
    """An argument parser that complains in one line."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and leave with 2."""
        self.exit(2, f"{self.prog}: {message}\n")


def _doctor(options: argparse.Namespace) -> int:
    from labkit.doctor import doctor  # imported when it runs: help is quick, and a missing part is its to name

    return doctor()


def _report(options: argparse.Namespace) -> int:
    try:
        source = parameters.load(options.notebook)
        if options.help_notebook:
            return _tell(parameters.declared(source))
        _once(options.p)
        chosen = parameters.checked(source, dict(options.p), typed=False)
    except ValueError as refusal:
        print(f"labkit report: {refusal}", file=sys.stderr)
        return REFUSED
    try:
        report = Runner(options.notebook, source, chosen, options.out, options.single_file).run(options.seconds)
    except OSError as error:
        print(f"labkit report: nothing was written: {error}. An earlier report is whole.", file=sys.stderr)
        return FAILED
    print(report, report.page, sep="\n", file=sys.stderr if report.verdict.code else sys.stdout)
    return report.verdict.code


def _sweep(options: argparse.Namespace) -> int:
    try:
        source = parameters.load(options.notebook)
        _once(options.p, options.g)
        runs = grid_of(dict(options.p), {name: _listed(text) for name, text in options.g})
        chosen = [parameters.checked(source, run, typed=False, here=not options.cluster) for run in runs]
    except ValueError as refusal:
        print(f"labkit sweep: {refusal}", file=sys.stderr)
        return REFUSED
    runner = SweepRunner(options.notebook, source, chosen, options.out)
    try:
        done = runner.run(options.workers, options.cluster, options.seconds)
    except OSError as error:
        print(f"labkit sweep: {error}", file=sys.stderr)
        return FAILED
    except (KeyboardInterrupt, Terminated):
        done = sum(row.status == "done" for row in runner.rows.values())
        print(f"labkit sweep: stopped; {done} of {len(runner.rows)} runs are done. {AGAIN}", file=sys.stderr)
        raise
    print(done, file=sys.stderr if done.code else sys.stdout)
    return done.code


def _listed(text: str) -> list[str]:
    """The values between the commas of -g NAME V1,V2."""
    values = [value.strip() for value in text.split(",")]
    if "" in values:
        raise ValueError(f"{text!r} is no list of values: write them between commas, as in -g depth 1,2,4.")
    return values


def _tell(known: dict) -> int:
    """List a notebook's parameters."""
    for name, each in known.items():
        print(f"{name} = {each.default!r}: {each.about or 'no comment'} ({each.rule})")
    return 0


def _number(rule: Number | Whole) -> Callable[[str], float]:
    """How an option's text becomes a number that the rule allows."""

    def read(text: str) -> float:
        with contextlib.suppress(ValueError):
            return rule.check("", int(text) if isinstance(rule, Whole) else float(text))
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed: it takes {rule.allowed}.")

    return read


def _once(*given: Sequence[Sequence[str]]) -> None:
    """Refuse a name that is given twice: one of the values would be lost silently."""
    names = [name for pairs in given for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{name} is given {names.count(name)} times; give it once.")


def _marked(words: Sequence[str]) -> list[str]:
    """Mark the two words after -p and -g, so that -inf is their value and no option."""
    marked, left = [], 0
    for word in words:
        marked.append(VALUE_MARK + word if left else word)
        left = left - 1 if left else 2 * (word in ("-p", "-g"))
    return marked


def _unmarked(word: str) -> str:
    return word.removeprefix(VALUE_MARK)


def _parser() -> tuple[Parser, list[str]]:
    """Make the parser; return it and the names of the commands."""
    parser = Parser(prog="labkit", description="Choose a network, train it live, look at what it learned.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    runs = Parser(add_help=False)  # what a report and a sweep have in common
    runs.add_argument("notebook", metavar="NOTEBOOK", type=Path)
    pairs = {"nargs": 2, "action": "append", "type": _unmarked}
    runs.add_argument("-p", **pairs, default=[], metavar=("NAME", "VALUE"), help="a parameter")
    runs.add_argument("--out", type=Path, default=Path("reports"), metavar="FOLDER", help="where to (reports)")
    runs.add_argument("--seconds", type=_number(parameters.SECONDS), metavar="S", help="the most that a run may take")
    report = commands.add_parser("report", parents=[runs], help="run a notebook without a person, keep what came out")
    report.add_argument("--single-file", action="store_true", help="a page that can travel without plotly's file")
    report.add_argument("--help-notebook", action="store_true", help="list the notebook's parameters")
    report.set_defaults(run=_report)
    sweep = commands.add_parser("sweep", parents=[runs], help="many reports over a grid, and a page that compares them")
    sweep.add_argument("-g", **pairs, required=True, metavar=("NAME", "V1,V2"), help="values to try")
    where = sweep.add_mutually_exclusive_group()
    where.add_argument("--workers", type=_number(parameters.WORKERS), metavar="N", help="runs at once here (a GPU: 1)")
    where.add_argument("--cluster", metavar="ADDRESS", help="a Dask scheduler, such as tcp://host:8786")
    sweep.set_defaults(run=_sweep)
    doctor = commands.add_parser("doctor", help="what this machine has, what the lab will use, and why")
    doctor.set_defaults(run=_doctor)
    return parser, list(commands.choices)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; without one, print what there is."""
    words = list(sys.argv[1:] if argv is None else argv)
    parser, commands = _parser()
    if not words:
        parser.print_help()
        return 0
    if not words[0].startswith("-") and words[0] not in commands:
        hint = nearest(words[0], commands)
        print(f"labkit: no command {words[0]!r}.{hint} There is {', '.join(commands)}.", file=sys.stderr)
        return REFUSED
    options = parser.parse_args(_marked(words))
    try:
        return options.run(options)
    except OutputLocked as locked:
        print(f"labkit {words[0]}: {locked}", file=sys.stderr)
        return LOCKED
    except KeyboardInterrupt:
        return INTERRUPTED
    except Terminated:
        return TERMINATED
