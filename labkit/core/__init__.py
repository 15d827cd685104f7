"""Choices, data, networks and their training."""
