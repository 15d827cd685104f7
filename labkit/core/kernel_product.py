"""Matrix products for the compiled loop: each sum whole and in order, many sums side by side in vector registers.

A tile of rows × lanes sums is held in registers while the sum runs, written as LLVM vectors, which every processor
computes lane by lane with the same bits: multiplied, rounded, added, rounded. Which tiles cover a matrix has no
influence on any sum.
"""

from collections.abc import Callable

from llvmlite import ir
from numba import int64, njit, types
from numba.extending import intrinsic

from labkit.core.kernel_math import INLINED, OPTIONS

ROWS, LANES = 4, 16  # of the largest tile: eight accumulators of a processor with AVX2, four with AVX-512
PACKED = 8192  # numbers in a matrix from which its columns are laid out side by side before they are read
ARRAY = types.Array(types.float32, 1, "C")


def _tile(rows: int, lanes: int) -> Callable[..., None]:
    """Return a function that adds to `rows` × `lanes` numbers of z: z[r, :] += Σ_s a[r, s] w[s, :]."""
    kind = ir.VectorType(ir.FloatType(), lanes)
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)

    def code(context, builder, signature, args):
        arrays = [context.make_array(ARRAY)(context, builder, args[k]).data for k in (0, 4, 7)]
        (a, w, z), (_, a_at, a_row, a_sum, _, w_at, w_row, _, z_at, z_row, count) = arrays, args

        def vector(array, place):
            return builder.bitcast(builder.gep(array, [place]), kind.as_pointer())

        def spread(number):
            one = builder.insert_element(ir.Constant(kind, ir.Undefined), number, ir.Constant(ir.IntType(32), 0))
            return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), zeros)

        numbers = [ir.Constant(ir.IntType(64), r) for r in range(rows)]
        places = [vector(z, builder.add(z_at, builder.mul(r, z_row))) for r in numbers]
        sums = [builder.load(place, align=4) for place in places]
        before, body, after = builder.block, builder.append_basic_block("sum"), builder.append_basic_block("done")
        builder.cbranch(builder.icmp_signed(">", count, numbers[0]), body, after)
        builder.position_at_end(body)
        step = builder.phi(ir.IntType(64))
        held = [builder.phi(kind) for _ in sums]
        column = builder.load(vector(w, builder.add(w_at, builder.mul(step, w_row))), align=4)
        start = builder.add(a_at, builder.mul(step, a_sum))
        added = []
        for r, value in zip(numbers, held, strict=True):
            factor = builder.load(builder.gep(a, [builder.add(start, builder.mul(r, a_row))]))
            added.append(builder.fadd(value, builder.fmul(spread(factor), column)))
        following = builder.add(step, ir.Constant(ir.IntType(64), 1))
        for phi, first, later in [(step, numbers[0], following), *zip(held, sums, added, strict=True)]:
            phi.add_incoming(first, before)
            phi.add_incoming(later, body)
        builder.cbranch(builder.icmp_signed("<", following, count), body, after)
        builder.position_at_end(after)
        totals = [builder.phi(kind) for _ in sums]
        for total, first, later, place in zip(totals, sums, added, places, strict=True):
            total.add_incoming(first, before)
            total.add_incoming(later, body)
            builder.store(total, place, align=4)
        return context.get_dummy_value()

    @intrinsic
    def tile(typing, a, a_at, a_row, a_sum, w, w_at, w_row, z, z_at, z_row, count):
        """Add to a tile."""
        return types.void(ARRAY, int64, int64, int64, ARRAY, int64, int64, ARRAY, int64, int64, int64), code

    return tile


_4x16, _4x8, _4x4, _4x2, _4x1 = (_tile(ROWS, lanes) for lanes in (16, 8, 4, 2, 1))
_1x16, _1x8, _1x4, _1x2, _1x1 = (_tile(1, lanes) for lanes in (16, 8, 4, 2, 1))


@njit(**INLINED)
def _add_columns(a, a_row, a_sum, w, w_at, w_row, z, z_at, z_row, first, last, n_sum, lanes):
    """Add to a strip of `lanes` columns of z, for rows first to last."""
    r = first
    while r + 4 <= last:
        if lanes == 16:
            _4x16(a, r * a_row, a_row, a_sum, w, w_at, w_row, z, z_at + r * z_row, z_row, n_sum)
        elif lanes == 8:
            _4x8(a, r * a_row, a_row, a_sum, w, w_at, w_row, z, z_at + r * z_row, z_row, n_sum)
        elif lanes == 4:
            _4x4(a, r * a_row, a_row, a_sum, w, w_at, w_row, z, z_at + r * z_row, z_row, n_sum)
        elif lanes == 2:
            _4x2(a, r * a_row, a_row, a_sum, w, w_at, w_row, z, z_at + r * z_row, z_row, n_sum)
        else:
            _4x1(a, r * a_row, a_row, a_sum, w, w_at, w_row, z, z_at + r * z_row, z_row, n_sum)
        r += 4
    while r < last:
        if lanes == 16:
            _1x16(a, r * a_row, a_row, a_sum, w, w_at, w_row, z, z_at + r * z_row, z_row, n_sum)
        elif lanes == 8:
            _1x8(a, r * a_row, a_row, a_sum, w, w_at, w_row, z, z_at + r * z_row, z_row, n_sum)
        elif lanes == 4:
            _1x4(a, r * a_row, a_row, a_sum, w, w_at, w_row, z, z_at + r * z_row, z_row, n_sum)
        elif lanes == 2:
            _1x2(a, r * a_row, a_row, a_sum, w, w_at, w_row, z, z_at + r * z_row, z_row, n_sum)
        else:
            _1x1(a, r * a_row, a_row, a_sum, w, w_at, w_row, z, z_at + r * z_row, z_row, n_sum)
        r += 1


@njit(**OPTIONS)
def add_product(a, a_row, a_sum, w, z, first, last, n_sum, n_out, strip):
    """z[r, j] += Σ_s a[r · a_row + s · a_sum] w[s, j] for rows first to last, each sum in the order of s.

    w (n_sum, n_out) and z (…, n_out) lie row by row; strip (16 · n_sum,) is room for the columns that are at work.
    """
    j = 0
    while j < n_out:
        left = n_out - j
        lanes = 16 if left >= 16 else 8 if left >= 8 else 4 if left >= 4 else 2 if left >= 2 else 1
        source, at, row = w, j, n_out
        if lanes == 16 and n_sum * n_out > PACKED and last - first > 8:
            source, at, row = strip, 0, 16
            for s in range(n_sum):
                for i in range(16):
                    strip[s * 16 + i] = w[s * n_out + j + i]
        _add_columns(a, a_row, a_sum, source, at, row, z, j, n_out, first, last, n_sum, lanes)
        j += lanes


@intrinsic
def _turn_4x4(typing, w, w_at, w_row, turned, t_at, t_row):
    """Write a block of 4 × 4 numbers of w as columns."""
    kind, whole = ir.VectorType(ir.FloatType(), 4), ir.VectorType(ir.IntType(32), 4)

    def code(context, builder, signature, args):
        arrays = [context.make_array(ARRAY)(context, builder, args[k]).data for k in (0, 3)]

        def vector(array, at, row, k):
            place = builder.add(at, builder.mul(row, ir.Constant(ir.IntType(64), k)))
            return builder.bitcast(builder.gep(array, [place]), kind.as_pointer())

        def mixed(one, other, *lanes):
            return builder.shuffle_vector(one, other, ir.Constant(whole, lanes))

        a, b, c, d = (builder.load(vector(arrays[0], args[1], args[2], k), align=4) for k in range(4))
        low, high = (
            (mixed(a, b, 0, 4, 1, 5), mixed(c, d, 0, 4, 1, 5)),
            (mixed(a, b, 2, 6, 3, 7), mixed(c, d, 2, 6, 3, 7)),
        )
        columns = [mixed(*pair, *lanes) for pair in (low, high) for lanes in ((0, 1, 4, 5), (2, 3, 6, 7))]
        for k, column in enumerate(columns):
            builder.store(column, vector(arrays[1], args[4], args[5], k), align=4)
        return context.get_dummy_value()

    return types.void(ARRAY, int64, int64, ARRAY, int64, int64), code


@njit(**OPTIONS)
def turn(w, rows, columns, first, last, turned):
    """Write columns first to last of w as rows of `turned`, block by block, so that both stay in the cache."""
    for block in range(first, last, 16):
        end = min(block + 16, last)
        r = 0
        while r + 4 <= rows:
            c = block
            while c + 4 <= end:
                _turn_4x4(w, r * columns + c, columns, turned, (c - first) * rows + r, rows)
                c += 4
            for rest in range(c, end):
                for k in range(4):
                    turned[(rest - first) * rows + r + k] = w[(r + k) * columns + rest]
            r += 4
        for rest in range(r, rows):
            for c in range(block, end):
                turned[(c - first) * rows + rest] = w[rest * columns + c]
