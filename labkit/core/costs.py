"""Parameters, floating-point operations and bytes of a `Spec`, by formula. Standard library only."""

from dataclasses import dataclass
from itertools import pairwise

from labkit.core.rules import option
from labkit.core.spec import LOSSES, OPTIMIZERS, Spec

FLOAT = 4  # bytes in a float32


@dataclass(frozen=True)
class Cost:
    """What one network costs.

    Attributes:
        parameters: weights and biases.
        bytes: the parameters at rest, in float32.
        flops_forward: floating-point operations of a forward pass over one batch.
        flops_step: of a training step over one batch, counted as torch's FlopCounterMode counts:
            two for each multiply-add of a matrix product, none for biases or activations, and no
            gradient with respect to the first layer's input.
        bytes_training: the most that a training step holds: weights, gradients, optimizer state, the copy kept
            for a divergence, activations and the batch.
    """

    parameters: int
    bytes: int
    flops_forward: int
    flops_step: int
    bytes_training: int


def widths_of(spec: Spec, inputs: int | None = None, outputs: int | None = None) -> tuple[int, ...]:
    """Return (inputs, hidden …, outputs); a csv's ends are not in its spec and must be given.

    Raises:
        ValueError: if the data set is a csv and its inputs and outputs are not given.
    """
    if spec.known:
        inputs = len(spec.features) if spec.known.inputs == 2 else spec.known.inputs or spec.inputs
        outputs = outputs_of(spec.known.classes, spec.loss)
    if inputs is None or outputs is None:
        raise ValueError(f"the cost of {spec.dataset} depends on its columns: give inputs and outputs too.")
    return (inputs, *spec.hidden, outputs)


def outputs_of(classes: int, loss: str) -> int:
    """How many numbers the network answers: two classes under mse or huber need one, at ±1."""
    reads_classes = option("loss", loss, LOSSES).classes_only
    return 1 if classes == 0 or (classes == 2 and not reads_classes) else classes


def cost(spec: Spec, *, inputs: int | None = None, outputs: int | None = None, batch: int | None = None) -> Cost:
    """Count what one network of `spec` costs.

    Args:
        spec: The choices.
        inputs: Input width, where the spec cannot know it (a csv).
        outputs: Output width, likewise.
        batch: Samples in a step; by default the spec's batch, or its training set.

    Raises:
        ValueError: if the data set is a csv and its inputs, outputs or training samples are needed and not given.
    """
    widths = widths_of(spec, inputs, outputs)
    if not (batch or spec.batch_size or spec.known):
        raise ValueError(f"the cost of {spec.dataset} in steps over all of it depends on its rows: give batch too.")
    batch = batch or spec.batch_size or spec.training_samples
    products = [fan_in * fan_out for fan_in, fan_out in pairwise(widths)]
    parameters = sum(products) + sum(widths[1:])
    copies = 2 * (1 + OPTIMIZERS[spec.optimizer].states) + 2  # weights and state twice, gradient, scratch
    activations = batch * (widths[0] + 4 * sum(widths[1:]))  # sums, outputs, slopes and deltas
    return Cost(
        parameters=parameters,
        bytes=FLOAT * parameters,
        flops_forward=2 * batch * sum(products),
        flops_step=6 * batch * sum(products) - 2 * batch * products[0],
        bytes_training=FLOAT * (parameters * copies + activations),
    )


def data_bytes(spec: Spec) -> int:
    """Bytes of a spec's data set in float32; 0 for a csv, which only its reading tells."""
    if not spec.known:
        return 0
    row = (spec.known.inputs or spec.inputs) + max(1, spec.known.classes)
    return FLOAT * (spec.known.size or spec.samples) * row


def widest(spec: Spec, allowance: int, **ends: int) -> int:
    """Return the largest width whose training fits in `allowance` bytes, or 0."""
    low, high = 0, spec.width if isinstance(spec.width, int) else max(spec.width)
    while low < high:
        middle = (low + high + 1) // 2
        fits = cost(spec.but(width=middle), **ends).bytes_training <= allowance
        low, high = (middle, high) if fits else (low, middle - 1)
    return low
