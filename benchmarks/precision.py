"""How far off the cosines of rotary embeddings are, at every position: a picture.

    python -m benchmarks.precision docs/precision.svg

Needs the extras `bench` and `plot`. Reference values use integers of 128 bits, as in
`reasons.py`. The figure shows the errors of transformers and of this library.
"""

import sys
from itertools import pairwise

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from benchmarks.reasons import DIM, of_transformers, ours, THETA, truth


PER_OCTAVE, SAMPLED = 4, 48
LAST = 2**31 - 1


def windows() -> list[np.ndarray]:
    """Sorted positions, in windows of a quarter of an octave each."""
    generator = np.random.default_rng(0)
    edges = np.unique(np.round(2 ** (np.arange(0, 31 * PER_OCTAVE + 1) / PER_OCTAVE)))
    found = []
    for first, last in pairwise(edges):
        drawn = generator.integers(int(first), min(int(last), LAST + 1), SAMPLED)
        found.append(np.unique(drawn))
    return found


def draw(path: str) -> None:
    errors, middles = {"ours": [], "float32": []}, []
    for positions in windows():
        exact = truth(positions)
        errors["ours"].append(np.abs(ours(positions) - exact).max())
        errors["float32"].append(np.abs(of_transformers(positions) - exact).max())
        middles.append(np.sqrt(positions[0] * float(positions[-1])))
    for name, found in errors.items():
        print(f"{name:>8}: at most {max(found):.1e}")

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.loglog(middles, errors["float32"], color="#D55E00", linestyle="--")
    axes.loglog(middles, errors["ours"], color="#0072B2")
    axes.axhline(2.0**-24, color="0.6", linewidth=0.8)
    axes.text(1.2, 2.0**-24 / 2.6, "spacing of float32 below 1", color="0.4")
    axes.text(2e4, 7e-3, "float32 product\n(transformers)", color="#D55E00", ha="right")
    axes.text(2e7, 2.2e-7, "eqx_posemb", color="#0072B2")
    for length, name in (4096, "4,096"), (131_072, "131,072"), (2**20, "1,048,576"):
        axes.axvline(length, color="0.85", linewidth=0.8, zorder=0)
        axes.text(length, 6.0, name, color="0.4", ha="center", fontsize="small")
    axes.set_ylim(1.5e-8, 4)
    axes.set_xlim(1, LAST)
    axes.set_xlabel("position")
    axes.set_ylabel("largest error of a cosine")
    axes.spines[["top", "right"]].set_visible(False)
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "precision"}):
        figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    print(f"theta={THETA:.0f}, dim={DIM}, positions below 2³¹")
    draw(sys.argv[1])
