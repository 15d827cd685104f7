"""A goal for the lab, as a person writes it: "score >= 0.95 with < 100 parameters"."""

import operator
import re
from typing import NamedTuple

from labkit.core.rules import nearest

COMPARE = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}
NAMES = ("score", "loss", "parameters", "steps")
_FORMS = (  # "score >= 0.95" and "< 100 parameters"
    re.compile(r"^\s*(?P<name>\w+)\s*(?P<sign>>=|<=|>|<)\s*(?P<number>[\d.eE+-]+)\s*$"),
    re.compile(r"^\s*(?P<sign>>=|<=|>|<)\s*(?P<number>[\d.eE+-]+)\s*(?P<name>\w+)\s*$"),
)


class Goal(NamedTuple):
    """What is to be reached: all of some comparisons."""

    text: str
    parts: tuple[tuple[str, str, float], ...]  # (name, sign, number)

    @classmethod
    def of(cls, text: str) -> "Goal":
        """Read a goal.

        Raises:
            ValueError: if a part is no comparison of a number with one of `NAMES`.
        """
        return cls(text, tuple(_part(each) for each in re.split(r"\bwith\b|\band\b|,", text)))

    def met(self, **values: float | None) -> bool:
        """Whether the values reach it; one that is not known yet does not."""
        known = [values.get(name) for name, _, _ in self.parts]
        return all(
            value is not None and COMPARE[sign](value, number)
            for value, (_, sign, number) in zip(known, self.parts, strict=True)
        )


def _part(text: str) -> tuple[str, str, float]:
    for form in _FORMS:
        if (found := form.match(text)) and found["name"] in NAMES:
            return found["name"], found["sign"], float(found["number"])
    word = next(iter(re.findall(r"[A-Za-z_]\w*", text)), text)
    raise ValueError(
        f"goal part {text.strip()!r} is not allowed: write a comparison of one of {', '.join(NAMES)} with a number, "
        f"as 'score >= 0.95 with < 100 parameters'.{nearest(word, list(NAMES))}"
    )
