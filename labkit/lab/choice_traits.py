"""The choices of a lab as traits: `lab.choices.depth = 4` moves the screen, `lab.choices.observe` hears it move."""

import threading
from collections.abc import Callable
from typing import Any

import traitlets

from labkit.core.spec import RULES, Spec


class ChoiceTraits(traitlets.HasTraits):
    """A trait for every field of a `Spec`.

    Args:
        spec: Where they begin.
        changed: Called with {field: value} when somebody set one.

    Raises:
        ValueError: when one is set to a value that its field does not allow.
    """

    def __init__(self, spec: Spec, changed: Callable[[dict[str, Any]], object]) -> None:
        super().__init__()
        self._changed, self._mover = changed, threading.get_ident()
        self.add_traits(**{name: traitlets.Any(getattr(spec, name)) for name in RULES})
        self._mover = 0
        self.observe(self._tell)

    def move(self, spec: Spec) -> None:
        """Set all of them to what is chosen already, which is no news."""
        self._mover = threading.get_ident()
        try:
            for name in RULES:
                setattr(self, name, getattr(spec, name))
        finally:
            self._mover = 0

    @traitlets.validate(*RULES)
    def _check(self, proposal: Any) -> Any:
        return RULES[proposal.trait.name].check(proposal.trait.name, proposal.value)

    def _tell(self, change: Any) -> None:
        if threading.get_ident() != self._mover:
            self._changed({change["name"]: change["new"]})
