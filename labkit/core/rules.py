"""What a choice may be: menus, numbers, flags; and the sentence that a wrong value gets. Standard library only."""

import numbers
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, TypeVar

Row = TypeVar("Row")


def refusal(name: str, value: object, allowed: str, hint: str = "") -> ValueError:
    """The one sentence that every wrong value gets."""
    try:
        shown = reprlib.repr(value).replace("\n", "")
    except ValueError:  # Python writes no whole number of more than 4,300 digits
        shown = "a number of thousands of digits"
    return ValueError(f"{name}={shown} is not allowed: {name} takes {allowed}.{hint}")


def option(name: str, value: object, registry: Mapping[str, Row]) -> Row:
    """Return the row called `value` of a registry.

    Raises:
        ValueError: if there is none: what was given for `name`, what is allowed, and the nearest match.
    """
    return registry[Menu("", registry).check(name, value)]


def nearest(word: object, words: list[str]) -> str:
    """Return " Did you mean …?" for a near miss among `words`, or nothing."""
    close = get_close_matches(str(word), words, n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""


@dataclass(frozen=True)
class Menu:
    """A choice among named options."""

    about: str
    options: Mapping[str, object]

    def check(self, name: str, value: object) -> str:
        """Return `value` if it is on the menu."""
        if not (isinstance(value, str) and value in self.options):
            raise refusal(name, value, self.allowed, nearest(value, list(self.options)))
        return str(value)

    @property
    def allowed(self) -> str:
        """What it takes, in words."""
        return f"one of {', '.join(self.options)}"


@dataclass(frozen=True)
class Several(Menu):
    """One or more named options, kept in the order of the menu."""

    def check(self, name: str, value: object) -> Any:
        """Return `value` as a tuple of options."""
        given = [value] if isinstance(value, str) else value
        if not isinstance(given, tuple | list) or not given or len(set(map(str, given))) < len(given):
            raise refusal(name, value, self.allowed)
        for each in given:
            super().check(name, each)
        return tuple(option for option in self.options if option in given)

    @property
    def allowed(self) -> str:
        """What it takes, in words."""
        return f"one or more of {', '.join(self.options)}, each once"


@dataclass(frozen=True)
class Whole:
    """A whole number between two bounds, both allowed."""

    about: str
    low: int
    high: int

    def check(self, name: str, value: Any) -> int:
        """Return `value` as an int; a bool is not one."""
        is_whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
        if is_whole and self.low <= value <= self.high:
            return int(value)
        raise refusal(name, value, self.allowed)

    @property
    def allowed(self) -> str:
        """What it takes, in words."""
        return f"a whole number from {self.low:,} to {self.high:,}"


@dataclass(frozen=True)
class Widths(Whole):
    """A whole number for all layers, or one for each."""

    def check(self, name: str, value: Any) -> Any:
        """Return `value` as an int, or as a tuple of ints."""
        one = Whole(self.about, self.low, self.high)
        if isinstance(value, tuple | list) and value:
            return tuple(one.check(f"{name}[{place}]", each) for place, each in enumerate(value))
        if isinstance(value, numbers.Integral):
            return one.check(name, value)
        raise refusal(name, value, self.allowed)

    @property
    def allowed(self) -> str:
        """What it takes, in words."""
        return f"{super().allowed}, or one for each hidden layer, as (8, 4, 2)"


@dataclass(frozen=True)
class Number:
    """A finite number between two bounds; `open_low` and `open_high` leave the bound itself out."""

    about: str
    low: float
    high: float
    open_low: bool = False
    open_high: bool = False

    def check(self, name: str, value: Any) -> float:
        """Return `value` as a float."""
        is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
        if is_number and abs(value) <= self.high:  # not so for nan, nor for a whole number too long for a float
            above = value > self.low if self.open_low else value >= self.low
            below = value < self.high if self.open_high else value <= self.high
            if above and below:
                return float(value)
        raise refusal(name, value, self.allowed)

    @property
    def allowed(self) -> str:
        """What it takes, in words."""
        low = f"above {self.low:g}" if self.open_low else f"from {self.low:g}"
        high = f"below {self.high:g}" if self.open_high else f"up to {self.high:g}"
        return f"a number {low} and {high}"


@dataclass(frozen=True)
class Flag:
    """Yes or no."""

    about: str
    allowed = "True or False"

    def check(self, name: str, value: object) -> bool:
        """Return `value` if it is a bool."""
        if not isinstance(value, bool):
            raise refusal(name, value, self.allowed)
        return value
