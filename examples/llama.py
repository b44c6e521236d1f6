"""A Llama in Equinox, with the weights of one from transformers.

Builds a small transformers Llama with random weights, Llama 3 scaling and grouped
queries. It loads the weights here, and compares the logits, first for a whole text and
then token by token with a key-value cache.

    pip install -e ".[huggingface,torch]"
    python examples/llama.py

To use a checkpoint, pass its own `config` and `state_dict` to `Llama.load`.
"""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

import eqx_posemb as pe
from eqx_posemb.interop import huggingface


Cache = tuple[Float[Array, "kv_heads cache dim"], Float[Array, "kv_heads cache dim"]]


def linear(weights, name) -> eqx.nn.Linear:
    weight = jnp.asarray(weights[f"{name}.weight"])
    layer = eqx.nn.Linear(*weight.shape[::-1], use_bias=False, key=jax.random.key(0))
    return eqx.tree_at(lambda layer: layer.weight, layer, weight)


def norm(weights, name, config) -> eqx.nn.RMSNorm:
    weight = jnp.asarray(weights[f"{name}.weight"])
    layer = eqx.nn.RMSNorm(weight.shape, eps=config["rms_norm_eps"], use_bias=False)
    return eqx.tree_at(lambda layer: layer.weight, layer, weight)


class Attention(eqx.Module):
    query: eqx.nn.Linear
    key: eqx.nn.Linear
    value: eqx.nn.Linear
    output: eqx.nn.Linear
    position: pe.PositionalEmbedding
    head_dim: int = eqx.field(static=True)

    def __call__(
        self,
        x: Float[Array, "seq width"],
        positions: Int[Array, " seq"],
        cache: Cache,
        start: Int[Array, ""],
    ) -> tuple[Float[Array, "seq width"], Cache]:
        heads = lambda layer: jnp.moveaxis(
            jax.vmap(layer)(x).reshape(len(x), -1, self.head_dim), 1, 0
        )
        q, k, v = heads(self.query), heads(self.key), heads(self.value)
        write = lambda old, new: jax.lax.dynamic_update_slice(old, new, (0, start, 0))
        k, v = cache = write(cache[0], k), write(cache[1], v)
        # Slots that are not written yet lie in the future, and causal attention does
        # not see them.
        k_positions = jnp.arange(k.shape[1])
        out = self.position.attend(q, k, v, positions, k_positions, causal=True)
        out = jnp.moveaxis(out, 0, 1).reshape(len(x), -1)
        return jax.vmap(self.output)(out), cache


class Block(eqx.Module):
    attention: Attention
    attention_norm: eqx.nn.RMSNorm
    gate: eqx.nn.Linear
    up: eqx.nn.Linear
    down: eqx.nn.Linear
    mlp_norm: eqx.nn.RMSNorm

    def __call__(self, x, positions, cache, start):
        attended, cache = self.attention(
            jax.vmap(self.attention_norm)(x), positions, cache, start
        )
        x = x + attended
        mlp = lambda y: self.down(jax.nn.silu(self.gate(y)) * self.up(y))
        return x + jax.vmap(lambda y: mlp(self.mlp_norm(y)))(x), cache


class Llama(eqx.Module):
    embedding: Float[Array, "tokens width"]
    blocks: tuple[Block, ...]
    norm: eqx.nn.RMSNorm
    head: eqx.nn.Linear

    @staticmethod
    def load(config: Mapping[str, Any], weights: Mapping[str, np.ndarray]) -> "Llama":
        """From the config and the state dict of a Llama of transformers."""
        # The only part that depends on positions, with its scaling.
        position = huggingface.load(config)
        blocks = []
        for i in range(config["num_hidden_layers"]):
            at = f"model.layers.{i}"
            attention = Attention(
                linear(weights, f"{at}.self_attn.q_proj"),
                linear(weights, f"{at}.self_attn.k_proj"),
                linear(weights, f"{at}.self_attn.v_proj"),
                linear(weights, f"{at}.self_attn.o_proj"),
                position,
                config["head_dim"],
            )
            block = Block(
                attention,
                norm(weights, f"{at}.input_layernorm", config),
                linear(weights, f"{at}.mlp.gate_proj"),
                linear(weights, f"{at}.mlp.up_proj"),
                linear(weights, f"{at}.mlp.down_proj"),
                norm(weights, f"{at}.post_attention_layernorm", config),
            )
            blocks.append(block)
        return Llama(
            jnp.asarray(weights["model.embed_tokens.weight"]),
            tuple(blocks),
            norm(weights, "model.norm", config),
            linear(weights, "lm_head"),
        )

    def empty(self, length: int) -> tuple[Cache, ...]:
        """A cache of that many slots for each layer."""
        attention = self.blocks[0].attention
        shape = len(attention.key.weight) // attention.head_dim, length
        zeros = jnp.zeros((*shape, attention.head_dim))
        return tuple((zeros, zeros) for _ in self.blocks)

    @eqx.filter_jit
    def __call__(
        self,
        tokens: Int[Array, " seq"],
        caches: tuple[Cache, ...],
        start: Int[Array, ""],
    ) -> tuple[Float[Array, "seq tokens"], tuple[Cache, ...]]:
        """Logits of the next tokens, and the caches with these ones in them."""
        positions = start + jnp.arange(len(tokens))
        x, written = self.embedding[tokens], []
        for block, cache in zip(self.blocks, caches, strict=True):
            x, cache = block(x, positions, cache, start)
            written.append(cache)
        return jax.vmap(lambda y: self.head(self.norm(y)))(x), tuple(written)


def main() -> None:
    # Only here: the model above needs neither.
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=256,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=8,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=512,
        tie_word_embeddings=False,
        rope_parameters=dict(
            rope_type="llama3",
            rope_theta=10_000.0,
            factor=8.0,
            low_freq_factor=1.0,
            high_freq_factor=4.0,
            original_max_position_embeddings=64,
        ),
    )
    torch.manual_seed(0)
    theirs = LlamaForCausalLM(config).eval()
    tokens = torch.randint(256, (1, 48))
    with torch.no_grad():
        expected = theirs(tokens).logits[0].numpy()

    weights = {name: value.numpy() for name, value in theirs.state_dict().items()}
    model = Llama.load(config.to_dict(), weights)
    ids = jnp.asarray(tokens[0].numpy())

    full, _ = model(ids, model.empty(48), jnp.array(0))
    # A prompt as one chunk, and then single tokens, with a cache that has empty slots.
    part, caches = model(ids[:20], model.empty(64), jnp.array(0))
    decoded = [part]
    for i in range(20, 48):
        one, caches = model(ids[i : i + 1], caches, jnp.array(i))
        decoded.append(one)

    size = float(np.abs(expected).max())
    off = lambda ours: float(np.abs(np.asarray(ours) - expected).max())
    print(f"logits of transformers: up to {size:.2f}")
    print(f"all at once: off by at most {off(full):.1e}")
    print(f"with a KV cache: off by at most {off(jnp.concatenate(decoded)):.1e}")
    # Rounding of float32 through three layers.
    assert off(full) < 1e-5 * size and off(jnp.concatenate(decoded)) < 1e-5 * size


if __name__ == "__main__":
    main()
