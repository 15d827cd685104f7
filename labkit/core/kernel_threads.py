"""How several threads work on one network inside the compiled loop: which part is whose, and waiting for the others."""

import os

from llvmlite import ir
from numba import int32, int64, njit, types
from numba.extending import intrinsic

from labkit.core.kernel_math import INLINED


@intrinsic
def _add_atomically(typing, counter):
    """Add 1 to the first number of an int64 array, seen by all threads, and return what it was before."""

    def code(context, builder, signature, args):
        array = context.make_array(signature.args[0])(context, builder, args[0])
        return builder.atomic_rmw("add", array.data, ir.Constant(ir.IntType(64), 1), "seq_cst")

    return int64(types.Array(int64, 1, "C")), code


@intrinsic
def _load_atomically(typing, counter):
    """Read the first number of an int64 array as other threads left it."""

    def code(context, builder, signature, args):
        array = context.make_array(signature.args[0])(context, builder, args[0])
        return builder.load_atomic(array.data, "seq_cst", 8)

    return int64(types.Array(int64, 1, "C")), code


_give_way = types.ExternalFunction("SwitchToThread" if os.name == "nt" else "sched_yield", int32())
SPINS = 1000  # looks at the others before a waiting thread gives way


@njit(**INLINED)
def meet(counter, waits, team):
    """Wait until all threads of a team have come here; return how often that was."""
    if team > 1:
        waits += 1
        _add_atomically(counter)
        turns = 0
        while _load_atomically(counter) < waits * team:
            turns += 1
            if turns % SPINS == 0:  # another process has the processor that this thread waits for
                _give_way()
    return waits


@njit(**INLINED)
def share(count, grain, worker, team):
    """Which of `count` things worker k of a team takes, in multiples of `grain`."""
    grains = (count + grain - 1) // grain
    first = min(count, (grains * worker // team) * grain)
    return first, min(count, (grains * (worker + 1) // team) * grain)
