"""Wall attention against `naive_wall_attn` of flash-linear-attention (fla-org) at
bc3b101, and the gradients of both."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eqx_posemb as pe
from tests.parity.references import assert_close, golden, run


GIVEN = golden("wall")
COUNT, HEADS, DIM = GIVEN["q"].shape
WALL = pe.PositionalEmbedding(rotary=pe.Wall(HEADS, DIM))


def attended(q, k, v, gates, order, **how):
    """The authors have tokens first, and logarithms of gates."""
    p = -jnp.cumsum(gates.reshape(COUNT, -1), axis=0)
    q, k, v = (x.swapaxes(0, 1) for x in (q, k, v))
    place = jnp.arange(COUNT)
    rules = dict(causal=True, q_order=place, k_order=place[order])
    keys = k[:, order], v[:, order]
    return WALL.attend(q, *keys, p, p[order], **rules, **how).swapaxes(0, 1)


BLOCKS = dict(implementation="blockwise", block_size=4)


@pytest.mark.parametrize("how", [dict(implementation="dense"), BLOCKS], ids=str)
# Strong gates forget a channel by e⁻²⁰⁰ and more with each token, and others by 1e-3.
@pytest.mark.parametrize("gates", ["mild", "strong"])
def test_wall_attends_and_learns_as_in_flash_linear_attention(gates, how):
    given = *(GIVEN[name] for name in "qkv"), GIVEN[f"{gates}_g"]

    def both(given, cotangent, order):
        out, pull = jax.vjp(lambda *x: attended(*x, order, **how), *given)
        return out, pull(cotangent)

    for order in np.arange(COUNT), (5 * np.arange(COUNT)) % COUNT:
        out, gradients = run(both, given, GIVEN["c"], order)
        # Both are in float32, with values of size 3 and gradients of size 9.
        assert_close(out, GIVEN[gates], atol=2e-6)
        for name, gradient in zip("qkvg", gradients, strict=True):
            assert np.isfinite(gradient).all()
            # Strong gates of future keys overflow in the gradients of the authors.
            if gates == "mild" or name == "v":
                assert_close(gradient, GIVEN[f"{gates}_d{name}"], atol=1e-5)


def test_a_future_key_overflows_nothing():
    """Without a mask its factors are one, though its sums are larger by thousands."""
    q, k = (GIVEN[name].swapaxes(0, 1) for name in "qk")
    p = -np.cumsum(GIVEN["strong_g"].reshape(COUNT, -1), axis=0)
    products = run(WALL.rotary.products, q, k, p, p)
    plain = np.einsum("hqd,hkd->hqk", q, np.repeat(k, 2, axis=0))
    future = np.triu(np.ones((COUNT, COUNT), bool))
    assert_close(products[:, future], plain[:, future], atol=2e-6)


def test_one_gate_for_all_channels_multiplies_the_product():
    """As its formula says, with a plain product and the sum of its gates."""
    q, k = (GIVEN[name].swapaxes(0, 1) for name in "qk")
    sums = np.cumsum(np.abs(GIVEN["mild_g"][..., :1]), axis=0)
    p = np.repeat(sums, DIM, axis=2).reshape(COUNT, -1)
    found = run(WALL.rotary.products, q[:, 9:], k[:, :9], p[9:], p[:9])
    plain = np.einsum("hqd,hkd->hqk", q, np.repeat(k, 2, axis=0))[:, 9:, :9]
    ago = sums[9:, None, :, 0] - sums[None, :9, :, 0]
    assert_close(found, plain * np.exp(-np.moveaxis(ago, 2, 0)), atol=2e-6)
