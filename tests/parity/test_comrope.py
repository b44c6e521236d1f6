"""ComRoPE against `model.py` of Longin-Yu/ComRoPE at 7aeef08."""

import jax
import numpy as np
import pytest

import eqx_posemb as pe
from tests.parity.references import golden, replaced, run


COMROPE = golden("comrope")


@pytest.mark.parametrize("form", ["dependent", "partition"])
def test_comrope_has_the_matrices_of_the_authors(form):
    make = lambda: pe.ComRoPE(16, heads=3, block=4, form=form, key=jax.random.key(0))
    weights = dict(generators=COMROPE[f"{form}_generators"])
    if form == "dependent":
        weights["multipliers"] = COMROPE["multipliers"]
    rotary = replaced(run(make), **weights)
    # Each channel in turn, as a batch before the heads.
    eye = np.broadcast_to(np.eye(16, dtype=np.float32)[:, None, None], (16, 3, 5, 16))
    turn = lambda rotary, p, x: rotary(p).queries(x)
    found = run(turn, rotary, COMROPE["positions"], eye)
    np.testing.assert_allclose(np.moveaxis(found, 0, -1), COMROPE[form], atol=2e-6)


def test_its_logits_depend_on_the_offset():
    make = lambda: pe.ComRoPE(16, heads=3, block=4, std=0.3, key=jax.random.key(0))
    rotary = run(make)
    draw = np.random.default_rng(0)
    q, k = draw.normal(size=(2, 3, 5, 16)).astype(np.float32)
    embedding = pe.PositionalEmbedding(rotary=rotary, scale=1.0)
    p = COMROPE["positions"]
    here, there = (run(embedding.logits, q, k, p + by, p + by) for by in (0, 0.5))
    # Products of up to 16 channels, and matrices known to 2e-6.
    np.testing.assert_allclose(here, there, atol=5e-5)
