"""The global random generators of torch: which of them a device uses, and leaving them as they were."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def generators(device: torch.device) -> list[torch.Generator]:
    """Return the global generators that layers such as dropout draw from: the CPU's, and that of a CUDA device."""
    if device.type != "cuda":
        return [torch.default_generator]
    index = torch.cuda.current_device() if device.index is None else device.index
    torch.cuda.init()  # type: ignore[no-untyped-call]  # before it there are no generators of GPUs
    return [torch.default_generator, torch.cuda.default_generators[index]]


@contextmanager
def preserved(device: torch.device) -> Iterator[list[torch.Generator]]:
    """Give the global generators back as they were, whatever happens meanwhile.

    Args:
        device: Where the computation runs.

    Yields:
        The generators, for `manual_seed`.
    """
    used = generators(device)
    before = [generator.get_state() for generator in used]
    try:
        yield used
    finally:
        for generator, state in zip(used, before, strict=True):
            generator.set_state(state)
