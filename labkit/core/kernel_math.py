"""Exp, tanh, erf, log and the activations for the compiled loop: polynomials in a fixed order of operations.

So they have the same bits on every processor, which those of the C library have not. Comparisons are written so that
nan stays nan.
"""

import numpy as np
from llvmlite import ir
from numba import float32, float64, int32, int64, njit
from numba.extending import intrinsic

F = np.float32
OPTIONS = {"nogil": True, "error_model": "numpy"}  # no fast-math: nothing is reordered or fused
INLINED = OPTIONS | {"inline": "always"}  # numba optimises a function anew in each that calls it: minutes in all
RELU, TANH, SIGMOID, GELU, LINEAR = range(5)


@intrinsic
def _float_of_bits(typing, bits):
    """Read 32 bits as a float32."""
    return float32(int32), lambda context, builder, signature, args: builder.bitcast(args[0], ir.FloatType())


@intrinsic
def _bits_of_float(typing, value):
    """Read a float32 as 32 bits."""
    return int32(float32), lambda context, builder, signature, args: builder.bitcast(args[0], ir.IntType(32))


@intrinsic
def _double_of_bits(typing, bits):
    """Read 64 bits as a float64."""
    return float64(int64), lambda context, builder, signature, args: builder.bitcast(args[0], ir.DoubleType())


@intrinsic
def _bits_of_double(typing, value):
    """Read a float64 as 64 bits."""
    return int64(float64), lambda context, builder, signature, args: builder.bitcast(args[0], ir.IntType(64))


@njit(**OPTIONS)
def exp(x):
    """Exp of a float32 by range reduction and a polynomial (Cephes, expf), within 2 units of the last place."""
    x = F(88.0) if x > F(88.0) else (F(-87.0) if x < F(-87.0) else x)
    shifted = x * F(1.44269504) + F(12582912.0)  # adding 1.5·2²³ rounds to a whole number, kept in the last bits
    k = shifted - F(12582912.0)
    r = x - k * F(0.693359375)
    r = r - k * F(-2.12194440e-4)
    p = F(1.9875691500e-4)
    p = p * r + F(1.3981999507e-3)
    p = p * r + F(8.3334519073e-3)
    p = p * r + F(4.1665795894e-2)
    p = p * r + F(1.6666665459e-1)
    p = p * r + F(5.0000001201e-1)
    y = p * r * r + r + F(1.0)
    exponent = _bits_of_float(shifted) - int32(0x4B400000) + int32(127)
    return y * _float_of_bits(int32(exponent << int32(23)))


@njit(**OPTIONS)
def tanh(x):
    """Tanh of a float32 as a ratio of polynomials (Eigen's ptanh, also XLA's), within 5 units of the last place."""
    x = F(7.90531110763549805) if x > F(7.90531110763549805) else x
    x = F(-7.90531110763549805) if x < F(-7.90531110763549805) else x
    s = x * x
    p = F(-2.76076847742355e-16)
    p = p * s + F(2.00018790482477e-13)
    p = p * s + F(-8.60467152213735e-11)
    p = p * s + F(5.12229709037114e-08)
    p = p * s + F(1.48572235717979e-05)
    p = p * s + F(6.37261928875436e-04)
    p = p * s + F(4.89352455891786e-03)
    q = F(1.19825839466702e-06)
    q = q * s + F(1.18534705686654e-04)
    q = q * s + F(2.26843463243900e-03)
    q = q * s + F(4.89352518554385e-03)
    return x * p / q


@njit(**OPTIONS)
def erf(x):
    """Erf of a float32 as a ratio of polynomials (Eigen's, also XLA's), within 5e-7."""
    x = F(4) if x > F(4) else (F(-4) if x < F(-4) else x)
    s = x * x
    p = F(-2.72614225801306e-10)
    p = p * s + F(2.77068142495902e-08)
    p = p * s + F(-2.10102402082508e-06)
    p = p * s + F(-5.69250639462346e-05)
    p = p * s + F(-7.34990630326855e-04)
    p = p * s + F(-2.95459980854025e-03)
    p = p * s + F(-1.60960333262415e-02)
    q = F(-1.45660718464996e-05)
    q = q * s + F(-2.13374055278905e-04)
    q = q * s + F(-1.68282697438203e-03)
    q = q * s + F(-7.37332916720468e-03)
    q = q * s + F(-1.42647390514189e-02)
    return x * p / q


@njit(**OPTIONS)
def log(x):
    """Log of a positive float64: x = m·2ᵏ with m near 1, and the series of 2·artanh((m − 1)/(m + 1))."""
    bits = _bits_of_double(x)
    k = ((bits >> int64(52)) & int64(0x7FF)) - int64(1023)
    m = _double_of_bits((bits & int64(0x000FFFFFFFFFFFFF)) | int64(0x3FF0000000000000))  # 1 to 2
    if m > 1.4142135623730951:
        m = m * 0.5
        k = k + int64(1)
    s = (m - 1.0) / (m + 1.0)
    t = s * s
    p = 1.0 / 19.0
    p = p * t + 1.0 / 17.0
    p = p * t + 1.0 / 15.0
    p = p * t + 1.0 / 13.0
    p = p * t + 1.0 / 11.0
    p = p * t + 1.0 / 9.0
    p = p * t + 1.0 / 7.0
    p = p * t + 1.0 / 5.0
    p = p * t + 1.0 / 3.0
    return float(k) * 0.6931471805599453 + 2.0 * (s + s * t * p)


@njit(**OPTIONS)
def activate(code, z, slope):
    """Z ← f(z) and slope ← f′(z), for every number of z."""
    if code == RELU:
        for i in range(len(z)):
            a = F(0) if z[i] < F(0) else z[i]
            slope[i] = F(1) if a > F(0) else F(0)
            z[i] = a
    elif code == TANH:
        for i in range(len(z)):
            a = tanh(z[i])
            slope[i] = F(1) - a * a
            z[i] = a
    elif code == SIGMOID:
        for i in range(len(z)):
            a = F(1) / (F(1) + exp(-z[i]))
            slope[i] = a * (F(1) - a)
            z[i] = a
    elif code == GELU:
        for i in range(len(z)):
            x = z[i]
            below = F(0.5) + F(0.5) * erf(x * F(0.70710678118))  # of the normal distribution, up to x
            slope[i] = below + x * exp(F(-0.5) * x * x) * F(0.39894228)
            z[i] = x * below
    else:
        for i in range(len(z)):
            slope[i] = F(1)
