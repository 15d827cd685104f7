"""The training data of an ensemble on its device, and the batches of the next steps."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from labkit.core.costs import FLOAT
from labkit.core.data import Split
from labkit.core.losses import as_columns
from labkit.core.seeds import generator
from labkit.core.spec import Spec

BLOCK_STEPS = 64  # steps laid out at once, at most
BLOCK_BYTES = 2**22


def stacked(splits: Sequence[Split], part: str, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the members' inputs and targets on a device; members with the same data share their memory.

    Args:
        splits: The data of each member.
        part: "train" or "test".
        device: Where to.
    """  # (members, N, inputs), (members, N, out)
    distinct = splits if any(split is not splits[0] for split in splits) else splits[:1]

    def stack(parts: list[Tensor]) -> Tensor:
        return torch.stack(parts).to(device).expand(len(splits), *parts[0].shape)

    x = stack([getattr(split, f"x_{part}") for split in distinct])
    return x, stack([as_columns(getattr(split, f"y_{part}"), split.classes) for split in distinct])


class BatchSampler:
    """An endless stream of sample numbers: one shuffle of the training set after another.

    Attributes:
        taken: how many numbers were taken; the whole state, since the stream follows from the seed.
    """

    def __init__(self, seed: int, samples: int) -> None:
        self._seed, self._samples = seed, samples
        self.go_to(0)

    def go_to(self, taken: int) -> None:
        """Stand where `taken` numbers have been taken from the stream."""
        self._rng, self._left, self.taken = generator(self._seed, "batches"), np.empty(0, np.int32), taken
        for _ in range(taken // self._samples):
            self._rng.permutation(self._samples)
        if taken % self._samples:
            self._left = self._epoch()[taken % self._samples :]

    def _epoch(self) -> np.ndarray:
        return self._rng.permutation(self._samples).astype(np.int32)

    def take(self, many: int) -> np.ndarray:
        """Return the next sample numbers."""  # (many,) int32
        self.taken += many
        parts, have = [self._left], len(self._left)
        while have < many:
            parts.append(self._epoch())
            have += self._samples
        joined = np.concatenate(parts)
        self._left = joined[many:]
        return joined[:many]


class Batches:
    """Blocks of batches, for each member in the order that its seed draws.

    Attributes:
        size: samples in a batch.
        steps: how many batches make a block.
        samplers: the order of the samples, for each seed.
        taken: how many samples of it had been taken before the block that was laid out last.
        x, y: the block that was laid out last.  # (steps, members, size, inputs), (steps, members, size, out)
    """

    def __init__(self, specs: Sequence[Spec], splits: Sequence[Split], device: torch.device) -> None:
        self._all_x, self._all_y = stacked(splits, "train", device)
        members, samples, inputs = self._all_x.shape
        outputs = self._all_y.shape[-1]
        self._seeds = [spec.seed for spec in specs]
        self._whole = specs[0].batch_size == 0  # every step sees all samples
        self.size = specs[0].batch_size or samples
        self.samplers = {seed: BatchSampler(seed, samples) for seed in dict.fromkeys(self._seeds)}
        self.taken = 0
        per_step = FLOAT * members * self.size * (inputs + 2 * outputs)
        self.steps = 1 << int(math.log2(min(BLOCK_STEPS, max(1, BLOCK_BYTES // per_step))))
        if self._whole:
            self.x, self.y = (part.expand(self.steps, *part.shape) for part in (self._all_x, self._all_y))
        else:
            rows = self.steps, members, self.size
            self.x, self.y = (torch.empty(*rows, columns, device=device) for columns in (inputs, outputs))

    def go_to(self, taken: int) -> None:
        """Stand where `taken` samples have been taken."""
        for sampler in self.samplers.values():
            sampler.go_to(taken)

    def prepare(self) -> None:
        """Lay out the next block."""
        if self._whole:
            return
        many, self.taken = self.steps * self.size, next(iter(self.samplers.values())).taken
        taken = {seed: torch.from_numpy(sampler.take(many)).long() for seed, sampler in self.samplers.items()}
        samples = self._all_x.shape[1]
        shared = self._all_x.stride(0) == 0  # all members read the same data
        places = [taken[seed] + (0 if shared else member * samples) for member, seed in enumerate(self._seeds)]
        index = torch.stack([place.view(self.steps, self.size) for place in places], 1).view(-1)
        index = index.to(self._all_x.device)  # (steps · members · size,)
        for source, batch in ((self._all_x, self.x), (self._all_y, self.y)):
            flat = source[0] if shared else source.flatten(0, 1)
            torch.index_select(flat, 0, index, out=batch.view(-1, batch.shape[-1]))
