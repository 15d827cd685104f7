"""Choices, data, networks and their training; it knows no plotly and no widgets."""
