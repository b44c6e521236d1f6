"""Schedules of diffusion models against the code of their authors.

The golden arrays have cosines and sines of `riflex_utils.py` in thu-ml/RIFLEx at
18e0bc3, and of `get_1d_rotary_pos_embed` of `flux/transformer_flux.py` in
guyyariv/DyPE at 436fe61, divided by its magnitude.
"""

import jax.numpy as jnp
import numpy as np
import pytest

import eqx_posemb as pe
from tests.parity.references import golden, run


GOLDEN = golden("diffusion")
POSITIONS = np.arange(0, 70, 7)
# Theirs are float32 angles of up to 63 radians, whose ulp is 3.8e-6.
ATOL = 2e-5


def assert_same(rope, positions, pairs, name):
    rotation = run(lambda rope, p: rope(p), rope, positions)
    cos, sin = GOLDEN[name]
    np.testing.assert_allclose(rotation.cos[:, pairs], cos, atol=ATOL)
    np.testing.assert_allclose(rotation.sin[:, pairs], sin, atol=ATOL)


@pytest.mark.parametrize(
    "name, theta, pair, length",
    [("hunyuan", 256.0, 3, 66), ("cogvideox", 10_000.0, 1, 25)],
)
def test_riflex(name, theta, pair, length):
    rope = pe.riflex_rope(32, pair=pair, length=length, widths=(16, 8, 8), theta=theta)
    frames = np.pad(POSITIONS[:, None], [(0, 0), (0, 2)])
    assert_same(rope, frames, slice(0, 8), f"riflex_{name}")


def test_the_pair_of_riflex_is_found_by_its_period():
    periods = 2 * np.pi / pe.frequencies.Geometric(16, 256.0)()
    assert abs(periods - 48).argmin() == GOLDEN["riflex_pair"]


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("time", [1.0, 0.7, 0.3, 0.1])
@pytest.mark.parametrize("method", ["ntk", "yarn"])
def test_dype(method, time, traced):
    given = jnp.float32(time) if traced else time
    settings = dict(factor=(1.0, 4.0), time=given, widths=(16, 56))
    rope = pe.dype_rope(72, method=method, original_length=64, **settings)
    columns = np.stack([POSITIONS, POSITIONS], axis=1)
    assert_same(rope, columns, slice(8, None), f"dype_{method}_{time}")
