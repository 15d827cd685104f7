"""The compiled loop beside JAX: `jit(vmap(scan))` with optax on the same network; needs the extra `peers`."""

import time
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import torch

from bench.training import DEFAULT, NETWORKS, SWEEP, Row, compare, train_rate
from labkit.core.data import load_data
from labkit.core.spec import Spec


def jax_rate(specs: list[Spec]) -> tuple[object, float]:
    """Return a function that trains by JAX and gives member steps per second, and the seconds that compiling took."""
    import jax
    import jax.numpy as jnp
    import optax

    spec, split = specs[0], load_data(specs[0])
    sizes = (split.inputs, *spec.hidden, split.outputs)
    x, y = jnp.asarray(split.x_train.numpy()), jnp.asarray(split.y_train.numpy())
    rng = np.random.default_rng(0)
    weights = [
        (jnp.asarray(rng.normal(size=(len(specs), a, b)) / a**0.5, jnp.float32), jnp.zeros((len(specs), b)))
        for a, b in pairwise(sizes)
    ]
    batches = jnp.asarray(rng.integers(0, len(x), (spec.steps, spec.batch_size or len(x))))
    rates = jnp.asarray([each.lr for each in specs], jnp.float32)

    def loss(layers, rows):
        h = x[rows]
        for w, b in layers[:-1]:
            h = jnp.tanh(h @ w + b)
        answer, true = h @ layers[-1][0] + layers[-1][1], y[rows]
        if spec.loss == "mse":
            return jnp.mean((answer - true) ** 2)
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(answer), true[:, None], 1))

    def train(layers, lr):
        rule = optax.adam(lr)

        def step(carry, rows):
            layers, state = carry
            value, slopes = jax.value_and_grad(loss)(layers, rows)
            moves, state = rule.update(slopes, state)
            return (optax.apply_updates(layers, moves), state), value

        return jax.lax.scan(step, (layers, rule.init(layers)), batches)

    together = jax.jit(jax.vmap(train))
    began = time.perf_counter()
    jax.block_until_ready(together(weights, rates))
    compiling = time.perf_counter() - began

    def rate() -> float:
        began = time.perf_counter()
        jax.block_until_ready(together(weights, rates))
        return len(specs) * spec.steps / (time.perf_counter() - began)

    return rate, compiling


def jax_rows(repetitions: int) -> Iterator[Row]:
    """Measure whole calls of `train` against JAX, whose compiling stands in the row's name and is not counted."""
    try:
        import jax  # noqa: F401
    except ImportError:
        yield Row("JAX: left out, install the extra `peers`")
        return
    goals = {"2-4-2-1": 1.5, "2-8-8-8-1": 1.5, "2-(8×6)-1": 1.5, "2-32-32-1": 1.2}
    for name, spec in NETWORKS.items():
        yield _row(name, [spec], goals[name], repetitions)
    yield _row("list of 64, 2-8-8-1", SWEEP, 1.5, repetitions)
    yield _row("list of 64, 2-32-32-1", [each.but(width=32, steps=2000) for each in SWEEP], 1.2, repetitions)
    yield _row("the default spec", [DEFAULT], 1.3, repetitions)


def _row(name: str, specs: list[Spec], target: float, repetitions: int) -> Row:
    rate, compiling = jax_rate(specs)
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if len(specs) == 1 else threads)
    try:
        row = compare("", lambda: train_rate(specs if len(specs) > 1 else specs[0]), rate, target, repetitions)
    finally:
        torch.set_num_threads(threads)
    return row._replace(what=f"JAX: {name} ({compiling:.1f} s to compile)")
