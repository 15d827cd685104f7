"""The training benchmark: its table, that both sides do the same work, and that the lab is not far too slow."""

import pytest
import torch

from bench import training as bench
from bench.training import NETWORKS, TINY, Row
from labkit.core.costs import cost
from labkit.core.data import load_data


def test_table_of_invented_rows():
    rows = [
        Row("train small, steps/s", 16_000.4, 4_000, 4.0, 4),
        Row("train big, steps/s", 90, 100, 0.9, 0.95),
        Row("click to first frame, s", 0.31, target=0.5, at_most=True),
        Row("graph / no graph, steps/s", 3, 2, 1.5),
        Row("digits: left out, sklearn is missing"),
    ]
    head, *table = list(bench.lines(rows))
    assert head.split() == list(bench.HEADINGS)
    assert [line.split()[-6:] for line in table[:2]] == [
        ["16,000", "4,000", "4", "≥", "4", "yes"],
        ["90", "100", "0.9", "≥", "0.95", "NO"],
    ]
    assert table[2].split()[-4:] == ["0.31", "≤", "0.5", "yes"]
    assert table[3].split()[-3:] == ["3", "2", "1.5"]
    assert table[4] == rows[4].what
    ends = {line.index("target") + len("target") for line in [head]} | {table[0].index("≥ 4") + 3}
    assert len(ends) == 1  # columns stand under their headings


def test_sides_take_turns_and_the_first_turn_does_not_count():
    turns = []

    def side(name, values):
        values = iter(values)
        return lambda: turns.append(name) or next(values)

    row = bench.compare("x", side("ours", [1, 4, 8, 90]), side("plain", [100, 2, 2, 30]), 3, 3)
    assert turns == ["ours", "plain"] * 4
    assert row == Row("x", 8, 2, 3, 3)
    assert row.met


@pytest.mark.parametrize("name, spec", NETWORKS.items())
def test_both_sides_train_the_same_network(name, spec):
    split = load_data(spec)
    model = bench.plain_model(spec, split)
    assert sum(p.numel() for p in model.parameters()) == cost(spec).parameters
    widths = [split.inputs, *spec.hidden, split.outputs]
    assert name == "2-(8×6)-1" or name == "-".join(map(str, widths))


def test_plain_batches_are_whole_epochs_in_new_orders():
    x = torch.arange(25.0).unsqueeze(1)
    batches = [batch.flatten().tolist() for batch, _ in bench._batches(x, x, 10, 5)]
    assert [len(batch) for batch in batches] == [10] * 5
    assert len(set(batches[0] + batches[1])) == 20
    assert batches[:2] != batches[2:4]


def test_the_sweep_is_one_ensemble():
    assert len(bench.SWEEP) == 64
    assert len({spec.lr for spec in bench.SWEEP}) == 16


def test_quick_run_of_one_row(monkeypatch, capsys):
    small = TINY.but(width=8, depth=2, steps=300)
    row = bench.train_row("train 2-8-8-1, steps/s", small, 4, bench.QUICK)
    assert row.ratio > row.target / 10
    monkeypatch.setattr(bench, "GROUPS", (lambda repetitions: [row],))
    assert bench.bench(quick=True) == 0
    said = capsys.readouterr().out
    assert f"torch {torch.__version__}" in said.splitlines()[0]
    assert "train 2-8-8-1" in said.splitlines()[-1]


def test_a_forecast_is_compared_with_a_training(monkeypatch):
    monkeypatch.setattr(bench.devices, "available", lambda: {"cpu": "processor"})
    (row,) = bench.forecast_rows(1)
    assert row.what == "cpu forecast, width 256 from 64, 160, 512, off by"
    assert row.at_most and 0 < row.ours < 10 * row.target


@pytest.mark.gpu
def test_cuda_rows():
    rows = list(bench._cuda_pair("2-8-8-8-1", NETWORKS["2-8-8-8-1"], 5, 1))
    assert rows[0].ratio > 0.5
    assert rows[1].ratio > 1
