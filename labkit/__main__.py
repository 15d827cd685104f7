"""The command line: `labkit doctor` and `labkit bench`; also `python -m labkit`."""

import argparse
import sys
from collections.abc import Sequence

from labkit.spec import nearest

INTERRUPTED = 130  # what a shell expects after Ctrl-C


class Parser(argparse.ArgumentParser):
    """An argument parser that complains in one line."""

    def error(self, message: str) -> None:
        """Say what is wrong and leave with 2."""
        self.exit(2, f"{self.prog}: {message}\n")


# What a command needs is imported when it runs: help is quick, and a missing part is the doctor's to name.


def _doctor(options: argparse.Namespace) -> int:
    from labkit.doctor import doctor

    return doctor()


def _bench(options: argparse.Namespace) -> int:
    from labkit.bench import bench
    from labkit.bench_landscape import landscape_rows
    from labkit.bench_live import live_rows

    return bench(landscape_rows, live_rows, quick=options.quick)


def _parser() -> tuple[Parser, list[str]]:
    """Make the parser; return it and the names of the commands."""
    parser = Parser(prog="labkit", description="Choose a network, train it live, look at what it learned.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    doctor = commands.add_parser("doctor", help="what this machine has, what the lab will use, and why")
    doctor.set_defaults(run=_doctor)
    bench = commands.add_parser("bench", help="measure the lab side by side against plain PyTorch and loss-landscapes")
    bench.add_argument("--quick", action="store_true", help="repeat less often")
    bench.set_defaults(run=_bench)
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
        return 2
    options = parser.parse_args(words)
    try:
        return options.run(options)
    except KeyboardInterrupt:
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
