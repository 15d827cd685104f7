"""What one seed drives: a generator of random numbers for each, the same on every machine."""

import numpy as np

STREAMS = {"data": 1, "init": 2, "batches": 3}  # what one seed drives, each from a generator of its own


def generator(seed: int, stream: str) -> np.random.Generator:
    """Return the generator of one of the seed's `STREAMS`: NumPy's PCG64, the same on every machine."""
    return np.random.Generator(np.random.PCG64([seed, STREAMS[stream]]))
