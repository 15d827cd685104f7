"""Notebooks run without a person: reports, their pages, and sweeps of them."""
