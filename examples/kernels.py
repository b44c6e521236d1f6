"""A positional embedding in attention kernels without positions.

`for_kernel` turns queries and keys, and makes a bias of few products into channels of
them. What a fused kernel then computes is the attention of the embedding, forward and
backward, and no kernel holds a bias `[heads, q, k]`.

    pip install -e ".[torch]"
    python examples/kernels.py
"""

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

import eqx_posemb as pe


HEADS, N, DIM = 4, 128, 16


@eqx.filter_jit
def by_jax_nn(
    embedding, q, k, v, p, implementation: Literal["xla", "cudnn"] | None = None
):
    """`jax.nn.dot_product_attention`. `implementation="cudnn"` is fused, on a GPU, for
    bfloat16 and at most 128 channels, 256 on newer ones: those added count."""
    *inputs, scale = embedding.for_kernel(q, k, v, p, p)
    wide_q, wide_k, wide_v = (x.swapaxes(0, 1) for x in inputs)  # [seq, heads, dim]
    out = jax.nn.dot_product_attention(
        wide_q,
        wide_k,
        wide_v,
        scale=scale,
        is_causal=True,
        implementation=implementation,
    )
    return out[..., : v.shape[-1]].swapaxes(0, 1)


def by_torch(embedding, q, k, v, p):
    """`scaled_dot_product_attention`, whose fused kernels take no bias, or only one
    that is there in full."""
    import torch

    for_kernel = eqx.filter_jit(pe.PositionalEmbedding.for_kernel)
    *inputs, scale = for_kernel(embedding, q, k, v, p, p)
    wide_q, wide_k, wide_v = (torch.from_numpy(np.array(x))[None] for x in inputs)
    out = torch.nn.functional.scaled_dot_product_attention(
        wide_q, wide_k, wide_v, scale=float(scale), is_causal=True, enable_gqa=True
    )
    return jnp.asarray(out[0, ..., : v.shape[-1]].numpy())


@eqx.filter_jit
def by_splash(embedding, q, k, v, p):
    """Splash attention, the fused kernel for TPUs: it takes masks, and no bias at all.
    Elsewhere it is interpreted."""
    from jax.experimental.pallas.ops.tpu import splash_attention as splash

    *inputs, scale = embedding.for_kernel(q, k, v, p, p)
    each = [jnp.repeat(x, q.shape[0] // x.shape[0], axis=0) for x in inputs]
    kernel = splash.make_splash_mha_single_device(
        splash.MultiHeadMask([splash.CausalMask((N, N))] * HEADS),
        interpret=jax.default_backend() != "tpu",
    )
    # It has no scale.
    out = kernel((scale * each[0]).astype(q.dtype), each[1], each[2])
    return jnp.asarray(out)[..., : v.shape[-1]]


@eqx.filter_jit
def attend(embedding, q, k, v, p):
    return embedding.attend(q, k, v, p, p, causal=True)


def main() -> None:
    q_key, k_key, v_key = jr.split(jr.key(0), 3)
    q = jr.normal(q_key, (HEADS, N, DIM))
    k = jr.normal(k_key, (HEADS // 2, N, DIM))
    v = jr.normal(v_key, (HEADS // 2, N, DIM))
    p = jnp.arange(N)
    embeddings = {
        "rope": pe.PositionalEmbedding(rotary=pe.rope(DIM)),
        "alibi": pe.PositionalEmbedding(bias=pe.ALiBi(HEADS)),
        "sandwich": pe.PositionalEmbedding(bias=pe.Sandwich(HEADS, dim=16)),
    }
    for name, embedding in embeddings.items():
        expected = attend(embedding, q, k, v, p)
        for kernel in by_jax_nn, by_torch, by_splash:
            error = jnp.abs(kernel(embedding, q, k, v, p) - expected).max()
            print(f"{name}, {kernel.__name__}: largest difference {error:.1e}")
            assert error < 1e-5


if __name__ == "__main__":
    main()
