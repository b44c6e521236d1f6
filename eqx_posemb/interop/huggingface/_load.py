"""From a configuration to a positional embedding."""

from typing import Any, Literal

from jaxtyping import PRNGKeyArray

from ..._bundle import PositionalEmbedding
from ..._checks import check_choice
from .._configuration import known, listed, meant, quoted, read, Settings
from ._additive import additive_of, stacks_of
from ._layers import labels_of, layer_types_of, NO_ATTENTION, ROTATES, rotating_labels
from ._parts import part_of
from ._rotaries import layer_of, rotary_of
from ._unread import refuse, unread, unread_around


def load(
    config: Any,
    *,
    part: str | None = None,
    layer_type: str | None = None,
    model_type: str | None = None,
    quirks: bool = False,
    engine_keys: Literal["apply", "ignore"] | None = None,
    key: PRNGKeyArray | None = None,
) -> PositionalEmbedding:
    r"""Builds the positional embedding of a model of transformers.

    It reads the `config.json` of all 382 model types of transformers 5.24.0 that
    rotate. It also reads models with T5's or ALiBi's biases, and most models with
    learned or sinusoidal tables. It needs neither transformers nor torch nor a network.
    It reads old and new spellings of the rope settings: `rope_parameters` and
    `rope_scaling`, flat or for each layer type, `type` and `rope_type`, `rotary_dim`,
    `rotary_pct`, `rotary_emb_base`, `rope_local_base_freq` and so on.

    A key about positions has an effect or raises an error. An unknown type or key in
    the rope settings raises an error that names it. Two keys that disagree also raise
    an error. The same holds for other keys about rope, rotary embeddings, ALiBi or
    relative positions that the model type does not read, and for such keys beside the
    parts of a model. Such a key is accepted if it is null or false, or if the model has
    the same value. A class of transformers may
    have default rope settings with a theta, as Ministral 3 has. The class drops a
    `rope_theta` without rope settings, and so does `load`.

    !!! Example

        ```python
        import jax.numpy as jnp
        from eqx_posemb.interop import huggingface

        config = {
            "model_type": "llama",
            "hidden_size": 4096,
            "num_attention_heads": 32,
            "max_position_embeddings": 131072,
            "rope_theta": 500000.0,
            "rope_scaling": {
                "rope_type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192,
            },
        }
        embedding = huggingface.load(config)
        q = k = v = jnp.ones((2, 10, 128))  # [heads, seq, dim]
        positions = jnp.arange(10)
        embedding.attend(q, k, v, positions, positions, causal=True)
        ```

    **Where layers differ**, each kind is loaded by its `layer_type`. Gemma 3 has local
    and global layers, and Llama 4 has layers with and without rotation.
    [`eqx_posemb.interop.huggingface.layer_types`][] lists the type of each layer. If
    several parts of a model rotate, such as text and vision, load each part:
    `part="text"`. Older files, such as the files of Qwen2.5-VL, have the settings of
    the text at the top. `part="text"` reads both forms.

    **Heads.** The embedding takes the whole head, including channels that do not
    rotate. A head of multi-head latent attention has `qk_nope_head_dim` channels
    without rotation, followed by `qk_rope_head_dim` rotated channels.

    **Positions** have the shape [seq] for text. The text of vision models has [seq, 3]
    with frame, row and column (M-RoPE, see [`eqx_posemb.positions.mrope_positions`][]).
    Vision towers have [seq, 2] with the row and the column of a patch, in the order of
    the patches ([`eqx_posemb.positions.merged_patch_positions`][]). Some models count
    differently. Llama 4's vision has column and row from one, with the class token at
    zero. EfficientLoFTR and Inkling's vision have row and column from one. DINOv3 and
    its successors have the centers of patches between -1 and 1
    ([`eqx_posemb.positions.normalized_positions`][]). MusicFlamingo has its two axes
    multiplied by minus two pi times the time in seconds. Tokens outside of the grid,
    such as class and register tokens, have position 0, where nothing rotates
    ([`eqx_posemb.positions.zero_prefixed`][]).

    **Sinks** are weights of each layer, which `attend` takes: see
    [`eqx_posemb.interop.huggingface.sinks_from_state_dict`][]. Tables and biases are
    weights, too. The method `from_state_dict` of their classes reads them.

    **Quirks.** In a few cases, transformers does not follow its configuration, or
    applies a map that is no rotation. `load` follows the configuration, and
    `quirks=True` reproduces transformers. Of the 382 model types with their default
    configurations, 375 are equal without `quirks`. The page "From transformers" of the
    documentation lists the exceptions.

    **Arguments:**

    - `config`: A dictionary, the path of a config.json or of its folder, or an object
        with a method `to_dict`, as transformers' own.
    - `part`: The part of the model, if several parts have positions, such as
        `"text_config"` or `"text"`. `"a_config.b_config"` is a part of a part.
    - `layer_type`: The kind of layer, if the layers differ.
    - `model_type`: The model type, such as `"llama"`. Give it if the configuration has
        none, or if a new model type rotates as a known model type does.
    - `quirks`: Whether to reproduce transformers where it deviates, and to ignore the
        keys that it ignores.
    - `engine_keys`: What to do with keys that inference engines read and transformers
        ignores: `"apply"` or `"ignore"`. These keys are `attn_factor` of YaRN, by which
        engines multiply the attention factor, and `original_max_position_embeddings`
        beside the settings of layer types. `None` raises an error where such a key has
        an effect. `quirks=True` ignores it. A `dual_chunk_attention_config`, as
        Qwen2.5-1M has it, builds a [`eqx_posemb.DualChunk`][] unless ignored. Engines
        also scale the queries of texts beyond its `original_max_position_embeddings`,
        and `load` does not.
    - `key`: A `jax.random` key for the initial values of learned tables and biases, by
        default `jax.random.key(0)`. Weights of a checkpoint replace the values.

    **Returns:** a [`eqx_posemb.PositionalEmbedding`][] with the `scale` of the model's
    attention. Examples are the softmax multiplier of multi-head latent attention with
    YaRN, one for T5, Gemma's `query_pre_attn_scalar` and Granite's
    `attention_multiplier`.

    **Raises:** a `ValueError` that names the key, if it is unknown, missing, of the
    wrong type or out of range. The same if a key contradicts another key, or is about
    positions and is not read. The same if a part or a `layer_type` has to be chosen, or
    if the model type is unknown. The error then names the class to build by hand, or
    says that the model has no positional embedding.
    """
    if engine_keys is not None:
        check_choice("engine_keys", engine_keys, ("apply", "ignore"))
    keys = read(config)
    settings, own = part_of(keys, model_type, part)
    settings.quirks = quirks
    # transformers ignores the keys of inference engines, and `quirks` follows
    # transformers.
    settings.engine_keys = engine_keys or ("ignore" if quirks else None)
    made, found = made_of(settings, layer_type, key)
    if not quirks:
        why = f"the model type {quoted(own)} does not read"
        refuse(found, why, lambda key: meant(key, settings.read))
        found = unread_around(settings, keys, model_type)
        why, cure = "no part of the model reads", "Put it among the keys of a part. "
        refuse(found, why, lambda _: cure)
    return made


def made_of(
    settings: Settings, layer_type: str | None, key: PRNGKeyArray | None = None
) -> tuple[PositionalEmbedding, dict[str, Any]]:
    """The embedding of a part, and the keys about positions that nothing reads."""
    if "adds" in settings.row:
        made = additive_of(settings, layer_type, key)
        return made, unread(settings, lambda: ())
    labels = labels_of(settings)
    label = _chosen(layer_type, labels, settings)
    layer = layer_of(settings, label)
    rotary = None
    if label not in NO_ATTENTION:
        rotary = rotary_of(layer, settings, key)
    made = PositionalEmbedding(rotary=rotary, scale=layer.scale)
    every = dict.fromkeys([label, *labels, *rotating_labels(settings)])
    if NO_ATTENTION.issuperset(every):
        # The settings are of the attention that other models of this type have.
        every = every | {ROTATES: None}
    return made, unread(settings, lambda: (layer_of(settings, kind) for kind in every))


def layer_types(
    config: Any, *, part: str | None = None, model_type: str | None = None
) -> tuple[str, ...]:
    """The `layer_type` of each layer of a model, as `load` takes it.

    !!! Example

        ```python
        from eqx_posemb.interop import huggingface

        config = {"model_type": "smollm3", "num_hidden_layers": 4}
        kinds = huggingface.layer_types(config)
        assert kinds == ("rope", "rope", "rope", "nope")
        layers = {kind: huggingface.load(config, layer_type=kind) for kind in kinds}
        ```

    **Arguments:**

    - `config`, `part`, `model_type`: as in [`eqx_posemb.interop.huggingface.load`][].

    **Returns:** a name for each layer. The configuration's `layer_types` have it, if
    they are there. Layers without position that other keys mark are `"nope"`. Layers
    that are alike are `"rope"`. Models with two stacks have `"encoder"` and
    `"decoder"`.

    **Raises:** as `load`.
    """
    settings, _ = part_of(read(config), model_type, part)
    return stacks_of(settings) if "adds" in settings.row else labels_of(settings)


def _chosen(layer_type, labels, settings) -> str:
    attending = [label for label in dict.fromkeys(labels) if label not in NO_ATTENTION]
    if layer_type is not None:
        renamed = settings.row.get("labels", {})
        names = {*labels, *layer_types_of(settings), *renamed}
        names |= {*rotating_labels(settings)} or (set() if attending else {ROTATES})
        known("layer_type", layer_type, names)
        return renamed.get(layer_type, layer_type)
    if not attending:
        return ROTATES
    first, *others = attending
    likeness = layer_of(settings, first) if others else None
    # Layers with different names may rotate alike, so their settings are compared.
    if any(layer_of(settings, label) != likeness for label in others):
        kinds = listed(attending, mark="'")
        raise ValueError(
            "`layer_type` must be given, as the layers of this model differ, but got "
            f"None. Give one of {kinds}; `layer_types` has the name of each layer."
        )
    return first
