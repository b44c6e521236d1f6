"""A T5 in Equinox, encoder and decoder, with the weights of one from transformers.

T5 adds a learned bias of the distance to the logits, which all layers of a stack share.
The encoder's bias is bidirectional, the decoder's bias is causal, and cross-attention
has no bias. The example builds a small T5 with random weights, loads it here, and
compares the logits.

    pip install -e ".[huggingface,torch]"
    python examples/t5.py
"""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

import eqx_posemb as pe


Weights = Mapping[str, np.ndarray]


class Attention(eqx.Module):
    """The arrays are as a checkpoint has them, [outputs, inputs]."""

    norm: Float[Array, " width"]
    q: Float[Array, "heads_x_dim width"]
    k: Float[Array, "heads_x_dim width"]
    v: Float[Array, "heads_x_dim width"]
    o: Float[Array, "width heads_x_dim"]

    @staticmethod
    def load(weights: Weights, at: str, kind: str) -> "Attention":
        arrays = (jnp.asarray(weights[f"{at}.{kind}.{x}.weight"]) for x in "qkvo")
        return Attention(jnp.asarray(weights[f"{at}.layer_norm.weight"]), *arrays)

    def __call__(self, x, memory, position, heads, causal=False):
        """`memory`: what keys and values are of; the tokens themselves if None."""
        normed = rms_norm(x, self.norm)
        memory = normed if memory is None else memory
        split = lambda y: y.reshape(len(y), heads, -1).transpose(1, 0, 2)
        q, k, v = (
            split(normed @ self.q.T),
            split(memory @ self.k.T),
            split(memory @ self.v.T),
        )
        positions = jnp.arange(len(x)), jnp.arange(len(memory))
        out = position.attend(q, k, v, *positions, causal=causal)
        return x + out.transpose(1, 0, 2).reshape(len(x), -1) @ self.o.T


class FeedForward(eqx.Module):
    norm: Float[Array, " width"]
    wi: Float[Array, "hidden width"]
    wo: Float[Array, "width hidden"]

    @staticmethod
    def load(weights: Weights, at: str) -> "FeedForward":
        names = "layer_norm", "DenseReluDense.wi", "DenseReluDense.wo"
        return FeedForward(*(jnp.asarray(weights[f"{at}.{x}.weight"]) for x in names))

    def __call__(self, x):
        return x + jax.nn.relu(rms_norm(x, self.norm) @ self.wi.T) @ self.wo.T


class Layer(eqx.Module):
    attention: Attention
    across: Attention | None
    network: FeedForward


class Stack(eqx.Module):
    position: pe.PositionalEmbedding
    layers: tuple[Layer, ...]
    norm: Float[Array, " width"]
    heads: int = eqx.field(static=True)

    @staticmethod
    def load(config: Mapping[str, Any], weights: Weights, name: str) -> "Stack":
        decoder = name == "decoder"
        bias = pe.T5Bias.from_state_dict(
            weights,
            prefix=f"{name}.block.0.layer.0.SelfAttention.",
            max_distance=config["relative_attention_max_distance"],
            bidirectional=not decoder,
        )
        layers = []
        for i in range(config["num_decoder_layers" if decoder else "num_layers"]):
            at = f"{name}.block.{i}.layer"
            attention = Attention.load(weights, f"{at}.0", "SelfAttention")
            across = None
            if decoder:
                across = Attention.load(weights, f"{at}.1", "EncDecAttention")
            network = FeedForward.load(weights, f"{at}.{2 if decoder else 1}")
            layers.append(Layer(attention, across, network))
        # T5 does not divide its logits by the root of the width of a head.
        position = pe.PositionalEmbedding(bias=bias, scale=1.0)
        norm = jnp.asarray(weights[f"{name}.final_layer_norm.weight"])
        return Stack(position, tuple(layers), norm, config["num_heads"])

    def __call__(self, x, memory=None):
        # The bundle without its bias: attention to the encoder knows no distances.
        blind = pe.PositionalEmbedding(scale=1.0)
        causal = memory is not None
        for layer in self.layers:
            x = layer.attention(x, None, self.position, self.heads, causal)
            if layer.across is not None:
                x = layer.across(x, memory, blind, self.heads)
            x = layer.network(x)
        return rms_norm(x, self.norm)


class T5(eqx.Module):
    tokens: Float[Array, "tokens width"]
    encoder: Stack
    decoder: Stack

    @staticmethod
    def load(config: Mapping[str, Any], weights: Weights) -> "T5":
        """From the config and the state dict of a T5 of transformers."""
        return T5(
            jnp.asarray(weights["shared.weight"]),
            Stack.load(config, weights, "encoder"),
            Stack.load(config, weights, "decoder"),
        )

    @eqx.filter_jit
    def __call__(
        self, text: Int[Array, " seq"], translation: Int[Array, " out"]
    ) -> Float[Array, "out tokens"]:
        """Logits of what follows each token of the translation so far."""
        memory = self.encoder(self.tokens[text])
        x = self.decoder(self.tokens[translation], memory)
        return x @ self.tokens.T * self.tokens.shape[1] ** -0.5


def rms_norm(x, weight, eps=1e-6):
    return x * jax.lax.rsqrt(jnp.mean(x**2, axis=-1, keepdims=True) + eps) * weight


def main() -> None:
    # Only here: the model above needs neither.
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(
        vocab_size=128,
        d_model=64,
        d_kv=16,
        d_ff=128,
        num_layers=2,
        num_heads=4,
        relative_attention_num_buckets=8,
        relative_attention_max_distance=20,
    )
    torch.manual_seed(0)
    theirs = T5ForConditionalGeneration(config).eval()
    text, translation = torch.randint(128, (1, 40)), torch.randint(128, (1, 30))
    with torch.no_grad():
        out = theirs(input_ids=text, decoder_input_ids=translation)
    expected = out.logits[0].numpy()

    weights = {name: value.numpy() for name, value in theirs.state_dict().items()}
    model = T5.load(config.to_dict(), weights)
    logits = model(jnp.asarray(text[0].numpy()), jnp.asarray(translation[0].numpy()))
    size = float(np.abs(expected).max())
    error = float(np.abs(np.asarray(logits) - expected).max())
    print(f"logits of transformers: up to {size:.2f}; off by at most {error:.1e}")
    # Rounding of float32 through four layers.
    assert error < 1e-5 * size

    plain = eqx.tree_at(
        lambda m: m.encoder.position.bias.weight, model, replace_fn=jnp.zeros_like
    )
    other = plain(jnp.asarray(text[0].numpy()), jnp.asarray(translation[0].numpy()))
    print(f"without the encoder's bias: off by {np.abs(other - expected).max():.1e}")


if __name__ == "__main__":
    main()
