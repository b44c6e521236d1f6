"""What the angles of every static schedule are, in 256 bits, and how to make each."""

from collections.abc import Callable
from dataclasses import dataclass

import mpmath
import numpy as np

import eqx_posemb as pe


mp = mpmath.mp.clone()
mp.prec = 256


# The truth, written from the papers with no use of the library. Numbers that are given
# in floating point mean exactly that binary number.


def geometric(dim, theta):
    return [mp.mpf(theta) ** (-mp.mpf(2 * i) / dim) for i in range(dim // 2)]


def ntk(dim, theta, factor):
    return geometric(dim, theta * mp.mpf(factor) ** (mp.mpf(dim) / (dim - 2)))


def ntk_mixed(dim, theta, factor, exponent):
    n = dim // 2
    share = lambda i: (mp.mpf(i + 1) / n) ** mp.mpf(exponent)
    slowed = [mp.exp(-mp.log(factor) * share(i)) for i in range(n)]
    return [w * s for w, s in zip(geometric(dim, theta), slowed, strict=True)]


def dynamic_ntk(dim, theta, factor, original, length):
    stretch = mp.mpf(factor) * length / original - (mp.mpf(factor) - 1)
    return ntk(dim, theta, stretch if length > original else 1)


def yarn(dim, theta, factor, original, fast=32.0, slow=1.0, kept=1.0, truncate=True):
    def index(turns):
        ratio = original / (2 * mp.pi * mp.mpf(turns))
        return dim * mp.log(ratio) / (2 * mp.log(theta))

    low, high = index(fast), index(slow)
    if truncate:
        low, high = mp.floor(low), mp.ceil(high)
    low, high = max(low, 0), min(high, dim - 1)
    if low == high:
        high += mp.mpf("0.001")
    out = []
    for i, omega in enumerate(geometric(dim, theta)):
        mask = (1 - min(max((i - low) / (high - low), 0), 1)) * mp.mpf(kept)
        out.append(omega / mp.mpf(factor) * (1 - mask) + omega * mask)
    return out


def yarn_scale(factor):
    return mp.mpf("0.1") * mp.log(factor) + 1


def llama3(dim, theta, factor, original, low=1.0, high=4.0):
    out = []
    for omega in geometric(dim, theta):
        wavelength = 2 * mp.pi / omega
        smooth = (original / wavelength - low) / (mp.mpf(high) - low)
        if wavelength < original / mp.mpf(high):
            out.append(omega)
        elif wavelength > original / mp.mpf(low):
            out.append(omega / mp.mpf(factor))
        else:
            out.append((1 - smooth) * omega / mp.mpf(factor) + smooth * omega)
    return out


def divided(dim, theta, factors):
    return [w / mp.mpf(f) for w, f in zip(geometric(dim, theta), factors, strict=True)]


def proportional(dim, theta, fraction, factor):
    count = int(fraction * dim // 2)
    return [
        omega / mp.mpf(factor) if i < count else mp.mpf(0)
        for i, omega in enumerate(geometric(dim, theta))
    ]


SHORT = lambda dim: tuple(1 + 0.1 * i / dim for i in range(dim // 2))
LONG = lambda dim: tuple(1 + 1.3 * i for i in range(dim // 2))


@dataclass(frozen=True)
class Schedule:
    """`make` and `truth` take (dim, theta); `length` is given to the rotary."""

    name: str
    make: Callable[..., pe.Rotary]
    truth: Callable[..., list]
    scale: object = 1
    length: int | None = None
    traced: bool = False


def _longrope(name, numbers, length, traced):
    return Schedule(
        name,
        lambda dim, theta: pe.longrope(
            dim,
            theta=theta,
            short_factor=SHORT(dim),
            long_factor=LONG(dim),
            original_length=4096,
            factor=32.0,
        ),
        lambda dim, theta: divided(dim, theta, numbers(dim)),
        scale=mp.sqrt(1 + mp.log(32) / mp.log(4096)),
        length=length,
        traced=traced,
    )


def _yarn(name, factor, original, *, fast=32.0, slow=1.0, kept=1.0, truncate=True):
    return Schedule(
        name,
        lambda dim, theta: pe.yarn(
            dim,
            theta=theta,
            factor=factor,
            original_length=original,
            beta_fast=fast,
            beta_slow=slow,
            extrapolation_factor=kept,
            truncate=truncate,
        ),
        lambda dim, theta: yarn(
            dim, theta, factor, original, fast, slow, kept, truncate
        ),
        scale=yarn_scale(factor),
    )


def _dynamic(name, factor, original, length):
    return Schedule(
        name,
        lambda dim, theta: pe.dynamic_ntk_rope(
            dim, theta=theta, factor=factor, original_length=original
        ),
        lambda dim, theta: dynamic_ntk(dim, theta, factor, original, length),
        length=length,
    )


def _llama3(name, factor, original, low=1.0, high=4.0):
    return Schedule(
        name,
        lambda dim, theta: pe.llama3_rope(
            dim,
            theta=theta,
            factor=factor,
            original_length=original,
            low_freq_factor=low,
            high_freq_factor=high,
        ),
        lambda dim, theta: llama3(dim, theta, factor, original, low, high),
    )


SCHEDULES = (
    Schedule("rope", lambda dim, theta: pe.rope(dim, theta=theta), geometric),
    Schedule(
        "linear-3",
        lambda dim, theta: pe.linear_rope(dim, theta=theta, factor=3.0),
        lambda dim, theta: divided(dim, theta, [3] * (dim // 2)),
    ),
    Schedule(
        "linear-1.7",
        lambda dim, theta: pe.linear_rope(dim, theta=theta, factor=1.7),
        lambda dim, theta: divided(dim, theta, [1.7] * (dim // 2)),
    ),
    Schedule(
        "ntk-3",
        lambda dim, theta: pe.ntk_rope(dim, theta=theta, factor=3.0),
        lambda dim, theta: ntk(dim, theta, 3),
    ),
    Schedule(
        "ntk-1.7",
        lambda dim, theta: pe.ntk_rope(dim, theta=theta, factor=1.7),
        lambda dim, theta: ntk(dim, theta, 1.7),
    ),
    Schedule(
        "ntk-mixed",
        lambda dim, theta: pe.Rotary(
            pe.frequencies.NTKMixed(
                pe.frequencies.Geometric(dim, theta), 3.0, exponent=0.625
            )
        ),
        lambda dim, theta: ntk_mixed(dim, theta, 3, 0.625),
    ),
    Schedule(
        "scaled-and-listed",
        lambda dim, theta: pe.Rotary(
            pe.frequencies.Scaled(
                pe.frequencies.Listed(pe.frequencies.Geometric(dim, theta)()), 1.7
            )
        ),
        lambda dim, theta: [
            1.7 * mp.mpf(f) for f in pe.frequencies.Geometric(dim, theta)()
        ],
    ),
    Schedule(
        "concatenated",
        lambda dim, theta: pe.Rotary(
            pe.frequencies.Concatenated(
                (
                    pe.frequencies.Geometric(dim // 2, theta),
                    pe.frequencies.Geometric(dim // 2),
                )
            )
        ),
        lambda dim, theta: geometric(dim // 2, theta) + geometric(dim // 2, 1e4),
    ),
    _yarn("yarn", 4.0, 4096),
    _yarn("yarn-1.7", 1.7, 2048),
    _yarn("yarn-untruncated", 3.0, 4096, truncate=False),
    _yarn("yarn-betas", 32.0, 4096, fast=17.3, slow=0.7),
    _yarn("yarn-half-kept", 3.0, 8192, kept=0.5),
    _llama3("llama3", 8.0, 8192),
    _llama3("llama3-1.7", 1.7, 3000, low=0.9, high=3.3),
    _longrope("longrope-short", SHORT, 4096, traced=False),
    _longrope("longrope-short-traced", SHORT, 4096, traced=True),
    _longrope("longrope-long", LONG, 4097, traced=False),
    _longrope("longrope-long-traced", LONG, 4097, traced=True),
    Schedule(
        "proportional",
        lambda dim, theta: pe.proportional_rope(
            dim, theta=theta, fraction=0.3, factor=1.7
        ),
        lambda dim, theta: proportional(dim, theta, 0.3, 1.7),
    ),
    _dynamic("dynamic-short", 1.7, 2048, 2048),
    _dynamic("dynamic-long", 1.7, 2048, 7001),
    _dynamic("dynamic-3", 3.0, 4096, 10**5),
    _dynamic("dynamic-just-beyond", 32.1, 2048, 2049),
)


def true_tables(frequencies, positions, scale=1):
    """Cosines and sines in float64, from angles of 256 bits."""
    assert mp.prec >= 200
    pairs = [[mp.cos_sin(w * mp.mpf(p)) for w in frequencies] for p in positions]
    pick = lambda part: np.array(
        [[float(scale * pair[part]) for pair in row] for row in pairs]
    )
    return pick(0), pick(1)
