"""The training of fully connected networks as one compiled loop: the same bits on any processor and thread count.

Sizes are data, so it compiles once for every depth, width, activation, loss and optimizer. IEEE 754 fixes
+, −, ×, ÷ and √; what differs between machines is the order of a sum, a fused multiply-add, and exp, tanh, erf
and log of the C library. So nothing here is reordered or fused (no fast-math), inner loops run over outputs and
never over a sum, and those functions are polynomials in a fixed order. Each member of an ensemble is computed by
itself; several threads on one network share out samples, then weights, and every sum stays whole.
"""

import math

import numpy as np
from numba import float64, njit

from labkit.core.kernel_math import INLINED, OPTIONS, F, activate, exp, log
from labkit.core.kernel_product import PACKED, add_product, turn
from labkit.core.kernel_threads import meet, share

MSE, CROSS_ENTROPY, HUBER = range(3)
SGD, MOMENTUM, RMSPROP, ADAM, ADAMW = range(5)
BETA2, ALPHA, EPSILON = 0.999, 0.99, 1e-8  # Adam's and RMSprop's memory of squared gradients


@njit(**INLINED)
def _add_shortcut(h, z, first, last, n_in, n_out):
    """Z += what a residual layer adds: its input, or the averages of neighbours where the width halves."""
    for b in range(first, last):
        if n_in == n_out:
            for j in range(n_out):
                z[b * n_out + j] += h[b * n_in + j]
        else:
            for j in range(n_out):
                z[b * n_out + j] += F(0.5) * (h[b * n_in + 2 * j] + h[b * n_in + 2 * j + 1])


@njit(**INLINED)
def _forward(theta, sizes, starts, places, h, slopes, strip, first, last, activation, residual):
    """Run samples first to last through the layers; layer l's outputs lie in h from places[l] on, row by row."""
    for layer in range(len(sizes) - 1):
        n_in, n_out = sizes[layer], sizes[layer + 1]
        bias = starts[layer] + n_in * n_out
        below, z = h[places[layer] : places[layer + 1]], h[places[layer + 1] : places[layer + 2]]
        for b in range(first, last):
            for j in range(n_out):
                z[b * n_out + j] = theta[bias + j]
        add_product(below, n_in, 1, theta[starts[layer] : bias], z, first, last, n_in, n_out, strip)
        if layer < len(sizes) - 2:
            slope = slopes[places[layer + 1] : places[layer + 2]]
            activate(activation, z[first * n_out : last * n_out], slope[first * n_out : last * n_out])
            if residual and (n_in == n_out or n_in == 2 * n_out):
                _add_shortcut(below, z, first, last, n_in, n_out)


@njit(**INLINED)
def _compare(loss, huber_delta, z, labels, targets, rows, delta, each, first, last, out, scale):
    """Write each sample's loss (a sum over outputs) and `scale` times its derivative by the prediction."""
    if loss == CROSS_ENTROPY:
        for b in range(first, last):
            top = z[b * out]
            for j in range(1, out):
                top = z[b * out + j] if z[b * out + j] > top else top
            for j in range(out):
                delta[b * out + j] = z[b * out + j] - top
            each[b] = float64(top) - float64(z[b * out + labels[rows[b]]])
        for i in range(first * out, last * out):
            delta[i] = exp(delta[i])
        for b in range(first, last):
            mass, broken = 0.0, F(0)
            for j in range(out):
                mass += float64(delta[b * out + j])
                broken += z[b * out + j] * F(0)  # nan where an output is not finite
            each[b] = each[b] + log(mass) + float64(broken)
            share = F(mass)
            for j in range(out):
                delta[b * out + j] = delta[b * out + j] / share * scale
            delta[b * out + labels[rows[b]]] -= scale
        return
    limit = huber_delta if loss == HUBER else F(np.inf)
    for b in range(first, last):
        total = 0.0
        for j in range(out):
            error = z[b * out + j] - targets[rows[b] * out + j]
            size = abs(error)
            inside = limit if size > limit else size
            if loss == MSE:
                total += float64(error) * float64(error)
            else:
                total += float64(inside) * (float64(size) - 0.5 * float64(inside))
            delta[b * out + j] = (inside if error > F(0) else -inside) * scale
        each[b] = total


@njit(**INLINED)
def _backward(turned, sizes, starts, places, slopes, deltas, shortcuts, strip, first, last, residual):
    """From the last layer's deltas to the first hidden layer's, for samples first to last."""
    carried = False  # whether shortcuts hold what reaches this layer's output past its weights
    for layer in range(len(sizes) - 2, 0, -1):
        n_in, n_out = sizes[layer], sizes[layer + 1]
        delta, below = deltas[places[layer + 1] : places[layer + 2]], deltas[places[layer] : places[layer + 1]]
        past, slope = shortcuts[places[layer] : places[layer + 1]], slopes[places[layer] : places[layer + 1]]
        for i in range(first * n_in, last * n_in):
            below[i] = F(0)
        add_product(delta, n_out, 1, turned[starts[layer] :], below, first, last, n_out, n_in, strip)
        if carried:
            for i in range(first * n_in, last * n_in):
                below[i] += past[i]
        n_below = sizes[layer - 1]
        carried = residual and layer > 1 and (n_below == n_in or n_below == 2 * n_in)
        if carried:
            further = shortcuts[places[layer - 1] : places[layer]]
            for b in range(first, last):
                for j in range(n_below):
                    if n_below == n_in:
                        further[b * n_below + j] = below[b * n_in + j]
                    else:
                        further[b * n_below + j] = F(0.5) * below[b * n_in + j // 2]
        for i in range(first * n_in, last * n_in):
            below[i] = below[i] * slope[i]


@njit(**OPTIONS)  # by itself it is vectorised
def _update(theta, previous, gradient, mean, square, first, last, rule):
    """Move the numbers first to last of theta against the gradient (the rules are those of `core.optimizers`)."""
    theta, gradient, mean, square = theta[first:last], gradient[first:last], mean[first:last], square[first:last]
    optimizer, beta, l1, l2, left, (size, epsilon) = rule
    previous[first:last] = theta
    if l1 > F(0):
        for i in range(len(theta)):
            sign = F(1) if theta[i] > F(0) else (F(-1) if theta[i] < F(0) else F(0))
            gradient[i] += l1 * sign
    if l2 > F(0):
        for i in range(len(theta)):
            if optimizer == ADAMW:
                theta[i] = theta[i] * left
            else:
                gradient[i] += l2 * theta[i]
    if optimizer == SGD:
        for i in range(len(theta)):
            theta[i] -= size * gradient[i]
    elif optimizer == MOMENTUM:
        for i in range(len(theta)):
            mean[i] = beta * mean[i] + gradient[i]
            theta[i] -= size * mean[i]
    elif optimizer == RMSPROP:
        for i in range(len(theta)):
            square[i] = F(ALPHA) * square[i] + F(1 - ALPHA) * (gradient[i] * gradient[i])
            theta[i] -= size * (gradient[i] / (np.sqrt(square[i]) + epsilon))
    else:
        for i in range(len(theta)):
            mean[i] = beta * mean[i] + (F(1) - beta) * gradient[i]
            square[i] = F(BETA2) * square[i] + F(1 - BETA2) * (gradient[i] * gradient[i])
            theta[i] -= size * (mean[i] / (np.sqrt(square[i]) + epsilon))


@njit(**INLINED)
def _sum(each, count):
    total = 0.0
    for b in range(count):
        total += each[b]
    return total


@njit(**INLINED)
def _offsets(sizes, batch):
    """Where each layer's parameters begin in theta, and where its outputs begin in the room for a batch."""
    layers = len(sizes) - 1
    starts, places = np.zeros(layers + 1, np.int64), np.zeros(layers + 2, np.int64)
    for layer in range(layers):
        starts[layer + 1] = starts[layer] + (sizes[layer] + 1) * sizes[layer + 1]
        places[layer + 1] = places[layer] + batch * sizes[layer]
    places[layers + 1] = places[layers] + batch * sizes[layers]
    return starts, places


@njit(**INLINED)
def _step_size(optimizer, rate, power1, power2):
    """The step size and what is added to the root, corrected for Adam's start: powers are β₁ᵗ and β₂ᵗ."""
    if optimizer < ADAM:
        return F(rate), F(EPSILON)
    correction = math.sqrt(1.0 - power2)
    return F(rate * correction / (1.0 - power1)), F(EPSILON * correction)


@njit(**INLINED)
def _turn_weights(theta, sizes, starts, turned, worker, team):
    """Write a worker's share of the weights, all but the first layer's, with inputs and outputs exchanged."""
    for layer in range(1, len(sizes) - 1):
        n_in, n_out, start = sizes[layer], sizes[layer + 1], starts[layer]
        low, high = share(n_out, 4, worker, team)
        turn(theta[start : start + n_in * n_out], n_in, n_out, low, high, turned[start + low * n_in :])


@njit(**INLINED)
def _set_layer(h, delta, gradient, start, ends, batch, room, worker, team):
    """Write a worker's part of one layer's gradient; return from where to where in theta that is."""
    fan_in, fan_out, (turned, strip) = ends[0], ends[1], room
    low, high = share(fan_in, 4, worker, team)
    bias = start + fan_in * fan_out
    part = gradient[start + low * fan_out : start + high * fan_out]
    for i in range(len(part)):
        part[i] = F(0)
    if batch * fan_in > PACKED:
        turn(h, batch, fan_in, low, high, turned)
        add_product(turned, batch, 1, delta, part, 0, high - low, batch, fan_out, strip)
    else:
        add_product(h[low:], 1, fan_in, delta, part, 0, high - low, batch, fan_out, strip)
    if worker < team - 1:
        return start + low * fan_out, start + high * fan_out
    for j in range(fan_out):  # the last worker has the last weights, so that the biases follow them
        gradient[bias + j] = F(0)
    for b in range(batch):
        for j in range(fan_out):
            gradient[bias + j] += delta[b * fan_out + j]
    return start + low * fan_out, bias + fan_out


@njit(**INLINED)
def _take_rows(x, rows, h, first, last):
    """Lay a batch's inputs out, for samples first to last."""
    for b in range(first, last):
        for k in range(x.shape[1]):
            h[b * x.shape[1] + k] = x[rows[b], k]


@njit(**INLINED)
def _advance_member(
    theta, previous, mean, square, powers, rate, sizes, choices, constants, x, labels, targets, batches, losses,
    h, slopes, deltas, shortcuts, turned, columns, strips, gradient, each, counter, worker, team,
):  # fmt: skip
    """Train one member, one worker of a team on it, for as many steps as `losses` has room for.

    A loss that is not finite ends it: theta then is what it was at the last finite one. theta and previous (P,) are
    the parameters now and a step ago; mean and square (P,) what the optimizer keeps; powers (2,) β₁ᵗ and β₂ᵗ after t
    steps; sizes the units of each layer; choices the codes of activation, loss and optimizer, and whether layers are
    residual; constants momentum, l1, l2, huber_delta; x (N, inputs), labels (N,) and targets (N · out,) the data;
    batches (steps, batch) the samples of each step, (1, batch) the same in all. The rest is room: h, slopes, deltas,
    shortcuts (batch · Σ sizes,), turned and gradient (P,), columns (team, batch · widest), strips (team, 16 · longest
    sum), each (batch,), and a counter of meetings at 0.
    """
    layers, batch, activation, loss, optimizer = len(sizes) - 1, batches.shape[1], choices[0], choices[1], choices[2]
    beta, l1, l2, residual = F(constants[0]), F(constants[1]), F(constants[2]), choices[3] > 0
    starts, places = _offsets(sizes, batch)
    out, z, delta = sizes[layers], h[places[layers] :], deltas[places[layers] :]
    count = batch if loss == CROSS_ENTROPY else batch * out
    scale, left = F((2.0 if loss == MSE else 1.0) / count), F(1.0 - rate * constants[2])
    (first, last), room = share(batch, 4, worker, team), (columns[worker], strips[worker])
    waits, whole, power1, power2 = 0, batches.shape[0] == 1, powers[0], powers[1]
    for step in range(len(losses)):
        rows = batches[0 if whole else step]
        if step == 0 or not whole:
            _take_rows(x, rows, h, first, last)
        _turn_weights(theta, sizes, starts, turned, worker, team)
        _forward(theta, sizes, starts, places, h, slopes, room[1], first, last, activation, residual)
        _compare(loss, F(constants[3]), z, labels, targets, rows, delta, each, first, last, out, scale)
        waits = meet(counter, waits, team)
        _backward(turned, sizes, starts, places, slopes, deltas, shortcuts, room[1], first, last, residual)
        if worker == 0:
            losses[step] = F(_sum(each, batch) / count)
        waits = meet(counter, waits, team)
        if not np.isfinite(losses[step]):
            if worker == 0:
                theta[:] = previous
            break
        power1, power2 = power1 * constants[0], power2 * BETA2
        rule = optimizer, beta, l1, l2, left, _step_size(optimizer, rate, power1, power2)
        for k in range(layers):
            below, above = h[places[k] : places[k + 1]], deltas[places[k + 1] : places[k + 2]]
            low, high = _set_layer(below, above, gradient, starts[k], sizes[k : k + 2], batch, room, worker, team)
            if team > 1:
                _update(theta, previous, gradient, mean, square, low, high, rule)
        if team == 1:  # in one go, which is quicker
            _update(theta, previous, gradient, mean, square, 0, len(theta), rule)
        waits = meet(counter, waits, team)
    if worker == 0:
        powers[0], powers[1] = power1, power2


@njit(**OPTIONS)
def advance(
    members, theta, previous, mean, square, powers, rates, sizes, choices, constants, places, x, labels, targets,
    orders, batches, losses, h, slopes, deltas, shortcuts, turned, columns, strips, gradient, each, counter, worker,
    team,
):  # fmt: skip
    """Train members one after another, by one thread or, a single one, by a team of them.

    Arrays are those of `_advance_member` with a row for each member; member m reads data places[m] and batches
    orders[m], which several members may share.
    """
    for m in members:
        _advance_member(
            theta[m], previous[m], mean[m], square[m], powers[m], rates[m], sizes, choices, constants,
            x[places[m]], labels[places[m]], targets[places[m]], batches[orders[m]], losses[m],
            h, slopes, deltas, shortcuts, turned, columns, strips, gradient, each, counter, worker, team,
        )  # fmt: skip


@njit(**OPTIONS)
def judge_members(members, theta, sizes, choices, constants, classes, places, x, labels, targets, found):
    """Write the loss and the score of several members on their data."""  # found (members, 2)
    answers = np.empty((x.shape[1], sizes[len(sizes) - 1]), np.float32)
    for m in members:
        place = places[m]
        predict(theta[m], sizes, choices, x[place], answers)
        found[m, 0], found[m, 1] = judge(choices, constants, classes, answers, labels[place], targets[place])


@njit(**OPTIONS)
def predict(theta, sizes, choices, x, answers):
    """Write one member's predictions, a few samples at a time."""  # (P,), …, (N, inputs) → (N, out)
    layers, tile = len(sizes) - 1, 32
    starts, places = _offsets(sizes, tile)
    h, slopes = np.empty(places[layers + 1], np.float32), np.empty(places[layers + 1], np.float32)
    strip = np.empty(16 * max(sizes), np.float32)
    out = sizes[layers]
    for begin in range(0, len(x), tile):
        count = min(tile, len(x) - begin)
        _take_rows(x, np.arange(begin, begin + count), h, 0, count)
        _forward(theta, sizes, starts, places, h, slopes, strip, 0, count, choices[0], choices[3] > 0)
        for b in range(count):
            for j in range(out):
                answers[begin + b, j] = h[places[layers] + b * out + j]


@njit(**OPTIONS)
def judge(choices, constants, classes, answers, labels, targets):
    """Return the mean loss and the score of predictions: accuracy for classes, R² for a regression."""  # (N, out)
    samples, out = answers.shape
    flat, delta = answers.ravel(), np.empty(samples * out, np.float32)
    rows, each = np.arange(samples).astype(np.int32), np.empty(samples)
    _compare(choices[1], F(constants[3]), flat, labels, targets, rows, delta, each, 0, samples, out, F(1))
    loss = _sum(each, samples) / (samples if choices[1] == CROSS_ENTROPY else samples * out)
    if classes == 0:
        return loss, _explained(flat, targets)
    right = 0
    for b in range(samples):
        if out == 1:
            right += (flat[b] > F(0)) == (targets[b] > F(0))
            continue
        best, true = 0, 0
        for j in range(1, out):
            best = j if flat[b * out + j] > flat[b * out + best] else best
            if choices[1] != CROSS_ENTROPY:
                true = j if targets[b * out + j] > targets[b * out + true] else true
        right += best == (labels[b] if choices[1] == CROSS_ENTROPY else true)
    return loss, right / samples


@njit(**INLINED)
def _explained(answers, targets):
    """R²: the share of the targets' variance that is explained; nan where they do not vary."""
    mean, missed, spread = 0.0, 0.0, 0.0
    for i in range(len(targets)):
        mean += float64(targets[i])
    mean /= len(targets)
    for i in range(len(targets)):
        missed += (float64(answers[i]) - float64(targets[i])) ** 2
        spread += (float64(targets[i]) - mean) ** 2
    return 1.0 - missed / spread if spread > 0.0 else np.nan
