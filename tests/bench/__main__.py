"""`make bench`: measure the lab beside its peers on this machine and print the table; `--quick` repeats less often."""

import sys

from bench.landscape import landscape_rows
from bench.live import live_rows
from bench.peers import jax_rows
from bench.reports import report_rows
from bench.training import bench

if __name__ == "__main__":
    sys.exit(bench(jax_rows, landscape_rows, report_rows, live_rows, quick="--quick" in sys.argv[1:]))
