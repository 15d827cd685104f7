"""The benchmark of reports: the seconds and page size are those of the report, and a failure is reported."""

import pytest
from faults import written

from bench.reports import notebook_rows


def test_a_notebook_is_measured_by_its_report(tmp_path):
    notebook = written(tmp_path, "import time\ntime.sleep(0.5)")
    seconds, size = notebook_rows([notebook], tmp_path / "out")
    (page,) = (tmp_path / "out").glob("*.html")
    assert 0.5 < seconds.ours < 60 and seconds.met and size.met
    assert size.ours == pytest.approx(page.stat().st_size / 1000)


def test_one_that_fails_is_left_out_and_says_why(tmp_path):
    (row,) = notebook_rows([written(tmp_path, "1 / 0")], tmp_path / "out")
    assert row.ours is None and "small: left out" in row.what and "ZeroDivisionError" in row.what
