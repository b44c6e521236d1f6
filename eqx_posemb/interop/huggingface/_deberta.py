"""DeBERTa's positions, from a checkpoint and its configuration."""

from collections.abc import Mapping
from typing import Any

import jax.random as jr

from ..._bundle import PositionalEmbedding
from ..._encoding import Learned
from ..._score import DeBERTa
from ..._state_dicts import array, by_head, filled
from .._configuration import known, read, require, Settings


def deberta_from_state_dict(
    state: Mapping[str, Any], config: Any, layer: int, *, prefix: str = "encoder."
) -> PositionalEmbedding:
    """Builds the positional embedding of a DeBERTa layer from a checkpoint.

    The embedding has a [`eqx_posemb.DeBERTa`][] with the weights, and the scale of the
    attention. A model whose tokens know their position (`position_biased_input`) has
    its table as an [`eqx_posemb.Learned`][], too. The weights do not tell the number of
    heads, the reach of distances and the kind of buckets, which are in the
    configuration.

    These names must be there, after `prefix`, as in transformers:

    - `rel_embeddings.weight`, [rows, dim], for all layers; and, if the table is
        normalized (`norm_rel_ebd`), `LayerNorm.weight` and `LayerNorm.bias`, [dim].
    - After `layer.{layer}.attention.self.` in the first version `pos_proj.weight`,
        [heads * head_dim, dim], and `pos_q_proj.weight` and `.bias`. In the second and
        third version they are `pos_key_proj` and `pos_query_proj`, each with `.weight`
        and `.bias`. With `share_att_key` they are `key_proj` and `query_proj`.
    - With `position_biased_input`, `embeddings.position_embeddings.weight`, with the
        prefix up to `encoder.`.

    !!! Example

        ```python
        import numpy as np
        from eqx_posemb.interop import huggingface

        config = {
            "model_type": "deberta",
            "hidden_size": 32,
            "num_attention_heads": 4,
            "relative_attention": True,
            "pos_att_type": "c2p|p2c",
            "position_biased_input": False,
            "max_position_embeddings": 512,
        }
        layer = "encoder.layer.0.attention.self."
        state = {
            "encoder.rel_embeddings.weight": np.ones((1024, 32)),
            layer + "pos_proj.weight": np.ones((32, 32)),
            layer + "pos_q_proj.weight": np.ones((32, 32)),
            layer + "pos_q_proj.bias": np.ones(32),
        }
        embedding = huggingface.deberta_from_state_dict(state, config, layer=0)
        assert embedding.score.reach == 512 and embedding.scale == (3 * 8) ** -0.5
        ```

    **Arguments:**

    - `state`: arrays by name, of NumPy or anything that it understands.
    - `config`: the configuration of the checkpoint: a dictionary, the path of a
        config.json or of its folder, or an object with a method `to_dict`.
    - `layer`: the layer, from 0 on.
    - `prefix`: what comes before the names.

    **Returns:** a [`eqx_posemb.PositionalEmbedding`][], in JAX's default float dtype.

    **Raises:** a `ValueError` if a name is missing, if an array does not fit, or if the
    configuration has no such positions.
    """
    settings = Settings(read(config))
    version = known("model_type", settings.text("model_type"), _VERSIONS)
    rule = "be true, for a model to have positions in its scores"
    relative = settings.flag("relative_attention", False)
    require(relative, "relative_attention", rule, relative)
    _check_terms(settings.get("pos_att_type"))
    length = settings.integer("max_position_embeddings", 512, most=2**20)
    reach = settings.integer("max_relative_positions", -1, least=-1, most=2**20)
    # transformers replaces a reach that is not positive by the length.
    reach = reach if reach > 0 else length
    buckets = None
    if version == "deberta-v2":
        # In transformers a number that is not positive means no buckets.
        told = settings.integer("position_buckets", -1, least=-1, most=2**16)
        buckets = told if told > 0 else None
    heads = settings.width("num_attention_heads")
    inner = f"{prefix}layer.{layer}.attention.self."
    key, query = _projections(version, settings.flag("share_att_key", False))
    arrays = dict(
        table=array(state, f"{prefix}rel_embeddings.weight"),
        key_weight=by_head(array(state, f"{inner}{key}.weight"), heads),
        query_weight=by_head(array(state, f"{inner}{query}.weight"), heads),
        query_bias=by_head(array(state, f"{inner}{query}.bias"), heads),
    )
    if version == "deberta-v2":
        arrays["key_bias"] = by_head(array(state, f"{inner}{key}.bias"), heads)
    norm = "layer_norm" in settings.text("norm_rel_ebd", "none").lower().split("|")
    if norm:
        arrays["norm_weight"] = array(state, f"{prefix}LayerNorm.weight")
        arrays["norm_bias"] = array(state, f"{prefix}LayerNorm.bias")
    head_dim = arrays["key_weight"].shape[1]
    made = DeBERTa(
        heads,
        head_dim,
        arrays["table"].shape[1],
        reach=reach,
        buckets=buckets,
        norm=norm,
        key_bias=version == "deberta-v2",
        eps=settings.number("layer_norm_eps", 1e-7, above=0),
        key=jr.key(0),
    )
    encoding = None
    if settings.flag("position_biased_input", True):
        # The table of the input lies outside of the encoder.
        outer = prefix.removesuffix("encoder.")
        table = array(state, f"{outer}embeddings.position_embeddings.weight")
        encoding = filled(Learned(*table.shape, key=jr.key(0)), weight=table)
    return PositionalEmbedding(
        encoding=encoding, score=filled(made, **arrays), scale=(3 * head_dim) ** -0.5
    )


_VERSIONS = "deberta", "deberta-v2"


def _projections(version: str, shared: bool) -> tuple[str, str]:
    """The names of the projections of keys and of queries by position, which content
    and positions may share."""
    if version == "deberta":
        return "pos_proj", "pos_q_proj"
    return ("key_proj", "query_proj") if shared else ("pos_key_proj", "pos_query_proj")


def _check_terms(told: Any) -> None:
    terms = told.lower().split("|") if isinstance(told, str) else told
    named = terms if isinstance(terms, list | tuple) else []
    fine = {str(term).strip() for term in named} == {"c2p", "p2c"}
    rule = "have both c2p and p2c, as a score with one term has another scale"
    require(fine, "pos_att_type", rule, told)
