"""Clipped and whole wavelengths against the code of their authors.

RoPE-ID has no public code, and is tested against its formula.

The golden arrays have `inv_freq` of `modeling_cope.py` in hrlics/CoPE at ed52ba5 with
theta 500,000, and wavelengths and cosines of sheryc/resonance_rope at 4a7f5a7:
`rotary_resonance.py` for 256 positions, and
`LlamaYaRNScaledResonanceRotaryEmbedding.py` for 512 of 4 times 128.
"""

import dataclasses

import numpy as np
import pytest

import eqx_posemb as pe
from tests.parity.references import golden, run


GOLDEN = golden("periods")


@pytest.mark.parametrize("dim, clip", [(128, 20), (32, 16)])
def test_clipped_rope(dim, clip):
    rope = pe.clipped_rope(dim, clip=clip, theta=500_000.0)
    # Their powers are float32, and their cosines end in 6e-8.
    np.testing.assert_allclose(
        rope.frequencies(), GOLDEN[f"clipped_{dim}"], rtol=2e-5, atol=1e-12
    )


def test_rope_id_by_its_formula():
    # Two turns in 8,192 positions are 4,096 positions a turn, and 128 = 2 ** 7.
    rope = pe.rope_id(32, length=8192)
    wavelengths = 2 * np.pi / rope.frequencies()[:8]
    np.testing.assert_allclose(wavelengths, 2.0 ** (5 + np.arange(8)), rtol=1e-15)
    assert not rope.frequencies()[8:].any()
    x = np.tile(np.arange(1, 33, dtype=np.float32), (3, 1))
    rotated = run(lambda p, x: rope(p).queries(x), np.array([4096, 8192 * 99, 5]), x)
    # Whole turns, and the second and the fourth quarter, stay.
    np.testing.assert_allclose(rotated[:2], x[:2], rtol=1e-5)
    quarters, before = rotated[2].reshape(4, 8), x[2].reshape(4, 8)
    np.testing.assert_array_equal(quarters[1::2], before[1::2])
    assert (quarters[::2] != before[::2]).all()


@pytest.mark.parametrize("name", ["resonance", "resonance_yarn"])
def test_resonance_rope(name):
    rope = pe.resonance_rope(64)
    if name == "resonance_yarn":
        rope = pe.yarn(64, factor=4.0, original_length=128)
        whole = pe.frequencies.Resonance(rope.frequencies)
        rope = dataclasses.replace(rope, frequencies=whole)
    wavelengths = 2 * np.pi / rope.frequencies()
    # The longest wavelength of theirs is a float32 of 6 digits.
    np.testing.assert_allclose(wavelengths, GOLDEN[name], atol=0.05)
    cos = GOLDEN[f"{name}_cos"]
    found = run(lambda rope, p: rope(p).cos, rope, np.arange(len(cos)))
    # Their positions are reduced, so angles are below 2 pi times a few ulps.
    np.testing.assert_allclose(found, cos, atol=2e-6)
