"""Rotary embeddings against Equinox's own."""

import equinox as eqx
import jax
import numpy as np

import eqx_posemb as pe
from tests.parity.references import assert_close, run
from tests.parity.truths import geometric, true_tables


Q = np.random.default_rng(0).normal(size=(24, 32)).astype(np.float32)
THERE = np.arange(24)


def _equinox(theta):
    # Its tables are kept in a dictionary for the process; compiled ones in caches.
    eqx.clear_caches()
    eqx.nn._embedding.internal_rope_embedding_cache.clear()
    return eqx.nn.RotaryPositionalEmbedding(32, theta)


def _queries(rotary, positions, q):
    return rotary(positions).queries(q)


def test_halves_are_those_of_equinox_for_a_short_sequence():
    ours = run(_queries, pe.rope(32), THERE, Q)
    # Angles of up to 23 have an ulp of 1.9e-6 in float32, of which half is 1e-6.
    assert_close(ours, run(_equinox(1e4), Q), atol=3e-6)
    heads = np.stack([Q, 2 * Q], axis=1)
    ours = run(_queries, pe.rope(32), THERE, heads.swapaxes(0, 1)).swapaxes(0, 1)
    theirs = run(jax.vmap(_equinox(1e4), in_axes=1, out_axes=1), heads)
    assert_close(ours, theirs, atol=6e-6)


def test_a_second_theta_in_the_same_process_is_a_second_theta():
    """Equinox's cache has the size in its key and not theta: the second gets the first.

    Only its first is compared here, so that this stays right once that is mended.
    """
    ours = run(_queries, pe.rope(32), THERE, Q)
    assert_close(ours, run(_equinox(1e4), Q), atol=3e-6)
    ropes = [pe.rope(32, theta=theta) for theta in (1e4, 5e5)]
    tables = run(lambda ropes, p: [rope(p) for rope in ropes], ropes, THERE)
    for rotation, theta in zip(tables, (1e4, 5e5), strict=True):
        cos, sin = true_tables(geometric(32, theta), range(24))
        assert_close(rotation.cos, cos, atol=3e-7)
        assert_close(rotation.sin, sin, atol=3e-7)
    first, second = (run(_queries, rope, THERE, Q) for rope in ropes)
    assert np.abs(first - second).max() > 0.1
