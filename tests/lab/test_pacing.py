"""Pacing: steps by the speed that is asked for, chunks that take a moment, pictures and the landscape in time."""

import itertools
import math

import pytest

from labkit.lab.pacing import CHUNK_SECONDS, LANDSCAPE_GAP, LANDSCAPE_TIME_SHARE, MAX_FRAME_GAP, MIN_FRAME_GAP, Pacer


def trained(pacer, seconds, a_step, block=1):
    """Train as a worker does for so many seconds, on a clock that moves with the steps; return (step, chunks)."""
    now, step, chunks = 0.0, 0, []
    pacer.resume(now, step)
    while now < seconds:
        steps = pacer.steps(now, step, block)
        if not steps:
            now += max(1e-4, pacer.rest(now, step, running=True, stale=False))
            continue
        began, now, step = now, now + steps * a_step, step + steps
        pacer.trained(steps, began, now, step)
        chunks.append(steps)
    return step, chunks


@pytest.mark.parametrize("speed", [30, 300, 3000])
def test_a_speed_is_kept(speed):
    pacer = Pacer()
    pacer.speed = speed
    step, _ = trained(pacer, 2, 1e-5)
    assert step == pytest.approx(2 * speed, rel=0.02, abs=2) and pacer.rate == pytest.approx(speed, rel=0.05)


@pytest.mark.parametrize("a_step", [1e-6, 1e-4, 0.01, 0.5])
def test_at_full_speed_a_chunk_grows_until_it_takes_a_moment_and_is_one_step_at_least(a_step):
    pacer = Pacer()
    pacer.speed = math.inf
    _, chunks = trained(pacer, 5, a_step)
    assert chunks[0] == 1
    assert 0.6 * CHUNK_SECONDS <= chunks[-1] * a_step <= 1.01 * CHUNK_SECONDS or chunks[-1] == 1


def test_a_chunk_ends_where_a_block_ends():
    pacer = Pacer()
    pacer.speed = math.inf
    step, chunks = trained(pacer, 2, 1e-4, block=64)
    assert step % 64 == 0 and set(chunks[10:]) == {256}


def test_a_cell_that_waits_trains_at_full_speed_until_somebody_else_goes_on():
    pacer = Pacer()
    pacer.resume(0.0, 0, full_speed=True)
    pacer.resume(1.0, 10)  # the speed control was moved meanwhile
    assert pacer.due(2.0, 10) == math.inf
    pacer.resume(3.0, 10, full_speed=False)
    assert pacer.due(4.0, 10) == pacer.speed + 1


@pytest.mark.parametrize(("took", "gap"), [(0.001, MIN_FRAME_GAP), (0.05, 0.5), (3.0, 3 + MAX_FRAME_GAP)])
def test_the_next_picture_comes_the_later_the_longer_one_takes(took, gap):
    pacer = Pacer()
    pacer.drew(10.0, 10.0 + took)
    assert not pacer.frame_due(10 + gap - 1e-6) and pacer.frame_due(10 + gap + 1e-6)
    assert pacer.rest(10 + took, 0, running=False, stale=True) == pytest.approx(gap - took)
    assert pacer.rest(10.0, 0, running=False, stale=False) is None
    pacer.hurry()
    assert pacer.frame_due(10.0)


def test_at_full_speed_the_landscape_gets_its_share_and_a_gap_between_pictures():
    pacer, now, pictures = Pacer(), 0.0, []
    pacer.speed = math.inf
    while now < 20:
        if pacer.landscape_due(now, 0, begun=False):
            pictures.append(now)
            pacer.turned(now, now + 0.02, begun=False)
        now += 0.03
    assert 20 * LANDSCAPE_TIME_SHARE * 0.9 <= pacer.landscape_seconds <= 20 * LANDSCAPE_TIME_SHARE
    assert min(b - a for a, b in itertools.pairwise(pictures)) >= LANDSCAPE_GAP
    pacer.hurry_landscape()
    assert pacer.landscape_due(pictures[-1] + 10, 0, begun=False)
