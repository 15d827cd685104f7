"""Tables: what scikit-learn ships and what a user-supplied csv file holds, with names for the columns."""

import numpy as np
import pytest
from sklearn.datasets import load_iris

import labkit
from labkit.core import data
from labkit.core.tables import TABLES, load_table


@pytest.mark.parametrize(
    ("name", "shape", "regression"),
    [
        ("digits", (1797, 64), False),
        ("breast_cancer", (569, 30), False),
        ("wine", (178, 13), False),
        ("diabetes", (442, 10), True),
    ],
)
def test_a_table_of_scikit_learn_in_its_own_units(name, shape, regression):
    table = load_table(name)
    assert (table.x.shape, table.y.shape, table.regression) == (shape, shape[:1], regression)
    assert len(table.columns) == shape[1] and name in TABLES
    assert np.abs(table.x.mean(0)).max() > 10  # nothing was scaled


@pytest.mark.parametrize("header", ["", "sepal length, sepal width ,petal length,petal width,kind\n"])
def test_a_table_of_ones_own_with_and_without_names(tmp_path, header):
    iris = load_iris()
    path = tmp_path / "iris.csv"
    np.savetxt(path, np.column_stack([iris.data, iris.target]), delimiter=",", fmt="%g")
    path.write_text(header + path.read_text())
    table = labkit.load_table(f"csv:{path}")
    np.testing.assert_array_equal(table.x, iris.data)
    np.testing.assert_array_equal(table.y, iris.target)
    assert table.columns[1] == ("sepal width" if header else "column 2") and len(table.columns) == 4
    assert repr(table) == f"Table csv:{path}: 150 samples, 4 inputs, 3 classes"


def test_a_table_is_read_once_and_again_when_it_has_changed(tmp_path, monkeypatch):
    path, reads = tmp_path / "mine.csv", []
    real = data.csv.reader
    monkeypatch.setattr(data.csv, "reader", lambda file: (reads.append(file), real(file))[1])
    for rows in (20, 30):
        path.write_text("a,b,c\n" + "".join(f"{k},{k % 3},{k % 2}\n" for k in range(rows)))
        table, split = load_table(f"csv:{path}"), labkit.load_data(labkit.Spec(dataset=f"csv:{path}", batch_size=0))
        assert table.columns == ("a", "b") and len(table.x) == len(split.x_train) + len(split.x_test) == rows
    assert len(reads) == 2


def test_many_whole_numbers_and_fractions_are_a_regression(tmp_path):
    for k, target in enumerate((np.arange(30), np.arange(30) % 2 / 2)):
        path = tmp_path / f"{k}.csv"
        np.savetxt(path, np.column_stack([np.arange(30), target]), delimiter=",")
        assert load_table(f"csv:{path}").regression
    assert "a regression" in repr(load_table(f"csv:{path}"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "PATH is a file that exists"),
        ("1,2,0\n", "has 1 row of data; at least 10"),
        ("1,2,0\n" * 10 + "7,tall,0\n", "line 11, column 2 holds 'tall', which is not a finite number"),
        ("1,2,0\n" * 10 + "7,,0\n", "line 11, column 2 is empty"),
    ],
)
def test_what_cannot_be_used_is_said(tmp_path, text, words):
    path = tmp_path / "mine.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match=words):
        load_table(f"csv:{path}")


def test_a_table_that_nobody_knows_is_refused_with_those_that_are():
    with pytest.raises(ValueError, match="table='iris' is not allowed: table takes digits, breast_cancer, wine, diab"):
        load_table("iris")
