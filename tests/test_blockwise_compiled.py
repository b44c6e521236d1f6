"""What attention by blocks is compiled to: how much it holds, computes and runs on."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import pytest
from jax import export

import eqx_posemb as pe
from tests.test_blockwise import assert_same, everything, qkv


@pytest.mark.parametrize("name", ["t5", "transformer_xl"])
def test_memory_grows_with_the_sequence_and_not_its_square(name):
    """Of the backward pass, which holds all that the forward pass does."""
    embedding = pe.make(name, heads=4, head_dim=8, dim=32, length=64, key=jr.key(0))

    def temporaries(n):
        def attend(embedding, q, p):
            return embedding.attend(
                q,
                q,
                q,
                p,
                p,
                causal=True,
                implementation="blockwise",
                block_size=64,
            )

        def gradient(embedding, q, p):
            loss = lambda arguments: jnp.sum(attend(*arguments, p) ** 2)
            return eqx.filter_grad(loss)((embedding, q))

        arrays, static = eqx.partition(embedding, eqx.is_array)
        of_arrays = jax.jit(lambda a, *x: gradient(eqx.combine(a, static), *x))
        lowered = of_arrays.lower(arrays, jnp.ones((4, n, 8)), jnp.arange(n))
        return lowered.compile().memory_analysis().temp_size_in_bytes

    short, long = temporaries(1024), temporaries(2048)
    assert long <= 2.1 * short
    # The dense form holds all logits.
    assert long <= 4 * 2048**2 * 4 / 10


def test_what_is_not_seen_is_not_computed():
    q, k, v = qkv(q=4, k=12)
    k, v = (x.at[:, 4:].set(jnp.nan) for x in (k, v))
    for rules in (
        dict(causal=True),
        dict(window=1),
        dict(q_segments=jnp.zeros(4, int), k_segments=jnp.arange(12) // 4),
        dict(mask=jnp.zeros((4, 12), bool).at[:, :4].set(True)),
    ):
        out = everything().attend(
            q,
            k,
            v,
            jnp.arange(4),
            jnp.arange(12),
            **rules,
            implementation="blockwise",
            block_size=4,
        )
        assert jnp.isfinite(out).all(), rules


class Counted(pe.abstract.AbstractRelativeBias):
    """Says how often it is evaluated."""

    count: Callable[[None], None] = eqx.field(static=True)

    def along(self, delta):
        jax.debug.callback(lambda: self.count(None))
        return jnp.zeros((4, delta.size))


@pytest.mark.parametrize(
    "order, times",
    [
        (jnp.arange(16), 4),  # Once for each diagonal of tiles.
        (jnp.arange(16) % 8, 2),  # Two documents, which may as well be one.
        (pe.positions.zigzag(16, 2), 4),
        (jnp.arange(16) * jnp.arange(16), 10),  # Nothing in common.
    ],
)
@pytest.mark.parametrize("of", [lambda bias: bias, pe.SumBias], ids=["bias", "sum"])
def test_a_relative_bias_is_evaluated_once_for_tiles_of_the_same_distances(
    order, times, of
):
    q, k, v = qkv(q=16, k=16)
    counts = []
    bias = Counted(counts.append)
    embedding = pe.PositionalEmbedding(bias=of(bias))

    @jax.jit
    def attend(p):
        return embedding.attend(
            q, k, v, p, p, causal=True, implementation="blockwise", block_size=4
        )

    jax.block_until_ready(attend(order))
    jax.effects_barrier()
    assert len(counts) == times


def test_auto_goes_by_blocks_where_logits_are_many():
    def temporaries(n):
        q = jax.ShapeDtypeStruct((4, n, 8), jnp.float32)
        p = jax.ShapeDtypeStruct((n,), jnp.int32)
        attend = jax.jit(lambda q, p: pe.PositionalEmbedding().attend(q, q, q, p, p))
        compiled = attend.lower(q, p).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert temporaries(512) >= 4 * 512**2 * 4
    assert temporaries(8192) < 4 * 8192**2 * 4 / 10


@pytest.mark.parametrize("name", ["alibi", "t5", "rope"])
def test_one_program_is_for_all_platforms_forward_and_backward(name):
    embedding = pe.make(name, heads=4, head_dim=8, dim=32, length=64, key=jr.key(0))
    arrays, static = eqx.partition(embedding, eqx.is_array)
    p = jnp.arange(11)

    @jax.jit
    def gradient(arrays, q, k, v):
        def loss(arrays, q, k, v):
            out = eqx.combine(arrays, static).attend(
                q, k, v, p, p, causal=True, implementation="blockwise", block_size=4
            )
            return jnp.sum(out**2)

        return jax.value_and_grad(loss, argnums=(0, 1, 2, 3))(arrays, q, k, v)

    platforms = ("cpu", "cuda", "rocm", "tpu")
    exported = export.export(gradient, platforms=platforms)(arrays, *qkv())
    assert exported.platforms == platforms
    assert_same(exported.call(arrays, *qkv()), gradient(arrays, *qkv()))
