"""Which specs are trained together as one ensemble, and whether a training fits into the memory that is free."""

from collections.abc import Sequence

import torch
from torch import nn

from labkit.core import devices
from labkit.core.costs import FLOAT, cost, data_bytes, widest
from labkit.core.data import Split
from labkit.core.spec import Spec

FREE_AMONG_MEMBERS = ("lr", "seed", "noise", "init")  # what may differ within one ensemble
DATA_COPIES = 4  # of the data at once while they are made, shuffled and scaled
USABLE = 0.9  # share of the free memory that a run may ask for
ENSEMBLE_SHARE = 0.25  # of the free memory, for one ensemble
UNKNOWN_ENSEMBLE = 64  # members at once where the data's width is known only once it is read


def same_ensemble(spec: Spec) -> Spec:
    """Return what specs must have in common to be trained as one ensemble."""
    default = Spec()
    return spec.but(**{name: getattr(default, name) for name in FREE_AMONG_MEMBERS})


class DoesNotFit(ValueError, MemoryError):
    """A run that needs more memory than its device has free."""


def check_data(specs: Sequence[Spec]) -> None:
    """Refuse data that are too big to be made.

    Raises:
        DoesNotFit: saying how many samples would fit.
    """
    spec = specs[0]
    need = DATA_COPIES * data_bytes(spec) * len({(each.seed, each.noise) for each in specs})
    free = int(USABLE * devices.free_bytes(torch.device("cpu")))
    if need > free:
        raise DoesNotFit(
            f"samples={spec.samples} is not allowed here: making the data needs {need:,} bytes and the memory has "
            f"{free:,} bytes free for it; {spec.samples * free // need:,} samples would fit."
        )


def step_work(specs: Sequence[Spec], split: Split, model: nn.Module | None) -> float:
    """Return the floating-point operations of one step of an ensemble, or of a user-supplied module."""
    ends = _ends(specs[0], split)
    if model is None:
        return float(len(specs) * cost(specs[0], **ends).flops_step)
    return float(6 * sum(p.numel() for p in model.parameters()) * ends["batch"])


def check_training(specs: Sequence[Spec], split: Split, device: torch.device, model: nn.Module | None) -> None:
    """Refuse a training that is too big for its device.

    Args:
        specs: The members of the ensemble.
        split: Their data.
        device: Where they are trained.
        model: A user-supplied module, if there is one.

    Raises:
        DoesNotFit: naming the largest width that fits.
    """
    spec, members, ends = specs[0], len(specs), _ends(specs[0], split)
    one = cost(spec, **ends)
    parameters = one.parameters if model is None else sum(p.numel() for p in model.parameters())
    per_parameter = (one.bytes_training - one.bytes) // max(1, one.parameters)
    need = members * (one.bytes_training if model is None else parameters * max(FLOAT, per_parameter))
    free = int(USABLE * devices.free_bytes(device))
    if need > free:
        fits = widest(spec, free // members, **ends)
        hint = f"the largest width that fits is {fits:,}" if fits and model is None else "take a smaller model"
        raise DoesNotFit(
            f"width={spec.width} is not allowed here: training needs {need:,} bytes and the "
            f"{device} has {free:,} bytes free for it; {hint}."
        )


def _ends(spec: Spec, split: Split) -> dict[str, int]:
    """What a cost depends on beside the spec."""
    return {"inputs": split.inputs, "outputs": split.outputs, "batch": spec.batch_size or len(split.x_train)}


def ensembles(specs: Sequence[Spec], *, own_data: bool, own_model: bool) -> list[list[int]]:
    """Return the places of the specs that are trained together: those that share a shape, as many as memory holds.

    Args:
        specs: In any order.
        own_data: Whether the data are user-supplied.
        own_model: Whether the model is; each spec is trained alone then.
    """
    alike: dict[Spec, list[int]] = {}
    for place, each in enumerate(specs):
        alike.setdefault(same_ensemble(each), []).append(place)
    groups = []
    for spec, places in alike.items():
        many = 1 if own_model else UNKNOWN_ENSEMBLE
        if spec.known and not (own_data or own_model):
            one = cost(spec)
            free = devices.free_bytes(devices.choose(spec.device, one.flops_step * len(places)).device)
            member = one.bytes_training + DATA_COPIES * data_bytes(spec)
            many = max(1, int(ENSEMBLE_SHARE * free) // member)
        groups += [places[start : start + many] for start in range(0, len(places), many)]
    return groups
