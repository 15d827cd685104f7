"""What is chosen: changes of single fields → a `Spec`. A choice that a new data set rules out is mended, and said."""

from collections.abc import Mapping

from labkit.core.spec import CSV, LOSSES, OPTIMIZERS, PLAIN, RULES, LossOption, OptimizerOption, Spec

LIVE = ("lr", "steps")  # what may change while training


class Choices:
    """The fields of a spec on their way: checked or not, mended where another choice asks for it.

    Attributes:
        values: What is chosen, field by field, checked or not.
        spec: The last spec that was allowed.
        note: What was mended last, in words.
    """

    def __init__(self, spec: Spec) -> None:
        self.set(spec)

    def set(self, spec: Spec) -> None:
        """Choose all of a spec."""
        self.values = {name: getattr(spec, name) for name in RULES}
        self.spec, self.note = spec, ""
        self._taken: dict[str, tuple] = {}  # choices that a data set made impossible: (what was chosen, what it became)

    def settle(self) -> dict[str, object]:
        """Mend what the latest change rules out, and return what was mended.

        Raises:
            ValueError: if what is chosen is not allowed and is not to be mended.
        """
        mended = self._mended()
        spec = Spec(**self.values | mended)
        if mended or spec != self.spec:
            self.note = " ".join(f"{name} was changed to {shown(name, value)}." for name, value in mended.items())
        self.spec = spec
        self.values |= mended
        return mended

    def _mended(self) -> dict[str, object]:
        """What a new choice makes impossible: other layers' widths, a loss without meaning, too large a batch.

        What was taken away like that comes back with the next data set that allows it.
        """
        chosen = self.values
        if isinstance(chosen["width"], tuple) and chosen["depth"] != self.spec.depth:
            layers = chosen["width"][: chosen["depth"]]
            return {"width": layers + layers[-1:] * (chosen["depth"] - len(layers)) or max(chosen["width"])}
        if chosen["dataset"] == self.spec.dataset:
            return {}  # what was chosen for this data set is refused with its reason, not mended
        trial = Spec(**chosen | {"loss": "mse", "batch_size": 0, "features": PLAIN})
        if not trial.known:
            return {}  # only its reading tells what a csv makes impossible
        back = {name: old for name, (old, new) in self._taken.items() if chosen[name] == new}
        wanted = chosen | back
        mended = {}
        if LOSSES[wanted["loss"]].classes_only and not trial.known.classes:
            mended["loss"] = "mse"
        if wanted["features"] != PLAIN and trial.known.inputs != 2:
            mended["features"] = PLAIN
        if wanted["batch_size"] > trial.training_samples:
            mended["batch_size"] = 0
        self._taken = {name: (wanted[name], new) for name, new in mended.items()}
        return {name: value for name, value in (back | mended).items() if chosen[name] != value}


def meaningful(spec: Spec, own_data: bool) -> dict[str, bool]:
    """Return, for the fields that do not always mean something, whether they do; "csv" is the path of a table."""
    table = spec.dataset.startswith(CSV)
    fixed = table or own_data or bool(spec.known and spec.known.size)
    whole = not own_data and bool(spec.known and spec.known.all_for_training)
    return {
        "dataset": not own_data,
        "csv": table and not own_data,
        "samples": not fixed,
        "noise": not (table or own_data or whole),
        "train_share": not whole,
        "inputs": bool(spec.known and not spec.known.inputs) and not own_data,
        **_options(LOSSES, spec.loss),
        **_options(OPTIMIZERS, spec.optimizer),
    }


def _options(registry: Mapping[str, LossOption | OptimizerOption], chosen: str) -> dict[str, bool]:
    """Every option that some row of a registry has, and whether the chosen row has it."""
    return {name: name in registry[chosen].options for row in registry.values() for name in row.options}


def shown(name: str, value: object) -> str:
    """Return a value as a control shows it."""
    if name == "batch_size" and value == 0:
        return "all"
    if isinstance(value, tuple):
        return "-".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else f"{value:g}" if isinstance(value, float) else str(value)
