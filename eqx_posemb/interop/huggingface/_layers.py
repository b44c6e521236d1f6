"""Which layers of a model rotate alike."""

from typing import Any

from .._configuration import listed, quoted, Settings
from ._rows import MOST_LAYERS


# Layers without attention, which rotate nothing.
NO_ATTENTION = frozenset(
    {"linear_attention", "conv", "mamba", "recurrent", "moe", "mlp", "kda"}
)
ATTENTION = frozenset(
    {
        "attention",
        "chunked_attention",
        "compressed_sparse_attention",
        "deepseek_sparse_attention",
        "full_attention",
        "heavily_compressed_attention",
        "hybrid",
        "hybrid_sliding",
        "indexed_attention",
        "minimax_m3_sparse",
        "qwen_sparse_attention",
        "reference_sliding_attention",
        "sliding_attention",
        "window_attention",
    }
)
ROTATES, DOES_NOT = "rope", "nope"


# How files spell the number of layers, beside the keys of a row.
COUNTS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "depth")


def count_of(settings: Settings, row: dict[str, Any], default: int = 1) -> int:
    """The number of layers, in whichever keys a configuration has it."""
    keys = row.get("layers", COUNTS[:1])
    # Files may spell the number of layers as another model type does.
    if not any(settings.has(key) for key in keys):
        keys = [key for key in COUNTS if settings.has(key)][:1] or keys
    if len(keys) == 1:
        return settings.integer(keys[0], default, most=MOST_LAYERS)
    return sum(settings.integer(key, most=MOST_LAYERS) for key in keys)


def labels_of(settings: Settings, row: dict[str, Any]) -> tuple[str, ...]:
    """For each layer, what tells it apart from layers that rotate otherwise."""
    rule = row.get("nope")
    if rule == "no_rope_layers":
        return _flagged(settings)
    if rule == "layer_rope_theta":
        if settings.has(rule):
            return tuple(map(_of_theta, settings.numbers(rule)))
        # The last layer does not rotate, nor one in so many before it.
        if "nope_every" in row:
            last, every = count_of(settings, row) - 1, row["nope_every"]
            return tuple(
                ROTATES if (last - i) % every else DOES_NOT for i in range(last + 1)
            )
    if rule == "rope_scaling_layers" and settings.has(rule):
        scaled = set(settings.integers(rule))
        count = settings.integer("num_hidden_layers", most=MOST_LAYERS)
        return tuple("scaled" if i in scaled else "unscaled" for i in range(count))
    if "dense" in row:
        return _after_dense(settings, row)
    names = row.get("labels", {})
    return tuple(names.get(kind, kind) for kind in layer_types_of(settings, row))


def layer_types_of(settings: Settings, row: dict[str, Any]) -> tuple[str, ...]:
    """The type of each layer, as the configuration lists them or counts them."""
    for key in "layer_types", "layers_block_type":
        if settings.has(key):
            return _listed(settings, row, key)
    if "attends" in row:
        return _hybrid(settings, row["attends"], count_of(settings, row))
    pattern = row.get("pattern") or rotating_labels(row) or [ROTATES]
    pattern = _told(settings, pattern) or pattern
    count = count_of(settings, row, len(pattern))
    return tuple(pattern[i % len(pattern)] for i in range(count))


def _listed(settings, row, key):
    types = settings.items(key, MOST_LAYERS)
    own = {*row.get("labels", {}), *row.get("pattern", ()), *rotating_labels(row)}
    for place in "rope_parameters", "rope_scaling":
        given = settings.get(place)
        own |= set(given) if isinstance(given, dict) else set()
    known = ATTENTION | NO_ATTENTION | own | {ROTATES, DOES_NOT}
    for kind in types:
        if not isinstance(kind, str) or kind not in known:
            raise ValueError(
                f"`{key}` must be a list of layer types of transformers, or of names "
                "from the rope settings, such as 'full_attention', "
                f"but got {quoted(kind)} in it."
            )
    # A layer of attention and one without are one layer of the model.
    return tuple(kind for kind in types if kind != row.get("besides"))


def _hybrid(settings, rule, count):
    """Which layers attend, in a model whose other layers do not."""
    if "ratios" in rule:
        return _compressed(settings, rule, count)
    other = rule.get("others", "linear_attention")
    if "blocks" in rule:
        names = {"recurrent": other, "attention": "sliding_attention"}
        given = settings.get(rule["blocks"], rule["default"])
        kinds = Settings({rule["blocks"]: given}).items(rule["blocks"], MOST_LAYERS)
        for kind in kinds:
            if kind not in names:
                raise ValueError(
                    f"`{rule['blocks']}` must be a list of {listed(names, mark='`')}, "
                    f"but got {quoted(kind)} in it."
                )
        return tuple(names[kinds[i % len(kinds)]] for i in range(count))
    if "every" in rule:
        every = rule["default"]
        if rule["every"] is not None:
            every = settings.integer(rule["every"], every, most=MOST_LAYERS)
        attends = set(range(every - 1, count, every))
        if rule["every"] is None and not attends:
            attends = {count - 1}
    elif settings.has(rule["at"]):
        attends = set(settings.integers(rule["at"]))
    else:
        attends = set(range(count)) if rule["default"] == "all" else set()
    return tuple("full_attention" if i in attends else other for i in range(count))


def _compressed(settings, rule, count):
    """The types of layers by how many tokens a key of a layer stands for."""
    kinds = rule["kinds"]
    if not settings.has(rule["ratios"]):
        _, even, odd = kinds.values()
        return tuple(odd if i < 2 or i % 2 == 0 else even for i in range(count))
    # More ratios than layers belong to layers that predict further tokens.
    ratios = settings.integers(rule["ratios"])
    wrong = next((ratio for ratio in ratios if str(ratio) not in kinds), None)
    if wrong is not None or len(ratios) < count:
        raise ValueError(
            f"`{rule['ratios']}` must have one of {', '.join(kinds)} for each of "
            f"{count} layers, but got {quoted(list(ratios))}."
        )
    return tuple(kinds[str(ratio)] for ratio in ratios[:count])


def _after_dense(settings, row):
    """Where the first layers have no experts, and rotate if they see all keys."""
    first = settings.integer("first_k_dense_replace", 0, least=0, most=MOST_LAYERS)
    every = settings.integer("prefix_dense_sliding_window_pattern", 1)
    types = layer_types_of(settings, row)
    if not settings.has("layer_types"):
        begin = [
            row["pattern"][-1 if (i + 1) % every == 0 else 0] for i in range(first)
        ]
        types = (*begin, *types[: len(types) - first])
    experts = ["dense"] * first + ["sparse"] * (len(types) - first)
    if settings.has("mlp_layer_types"):
        experts = settings.items("mlp_layer_types", MOST_LAYERS)
    if len(experts) != len(types):
        raise ValueError(
            "`mlp_layer_types` must have an entry for each of the "
            f"{len(types)} layers, but got {len(experts)}."
        )
    rotates = [every == 1 and kind == "dense" for kind in experts]
    return tuple(
        row["dense"] if dense else kind
        for dense, kind in zip(rotates, types, strict=True)
    )


def _told(settings: Settings, pattern: list[str]) -> list[str] | None:
    """How often a layer is a global one, from before each had a type."""
    local, whole = "sliding_attention", "full_attention"
    keys = "sliding_window_pattern", "global_attn_every_n_layers"
    key = next((key for key in keys if settings.has(key)), None)
    if key is None or set(pattern) != {local, whole}:
        return None
    letters = settings.get(key)
    if isinstance(letters, str):
        if not letters or set(letters) - {"L", "G"}:
            raise ValueError(
                f"`{key}` must be a number of layers, or a string of L for a local "
                f"layer and G for a global one, but got {quoted(letters)}."
            )
        return [local if letter == "L" else whole for letter in letters]
    others = [local] * (settings.integer(key, most=MOST_LAYERS) - 1)
    return [whole, *others] if pattern[0] == whole else [*others, whole]


def rotating_labels(row: dict[str, Any]) -> list[str]:
    """The layer types that a model type has rope settings of their own for."""
    nested = row.get("rope", {})
    return [name for name, value in nested.items() if isinstance(value, dict)]


def _flagged(settings):
    # transformers marks every fourth layer by default.
    every = settings.integer("no_rope_layer_interval", 4)
    if settings.has("no_rope_layers") and settings.items("no_rope_layers"):
        flags = settings.integers("no_rope_layers")
    else:
        count = settings.integer("num_hidden_layers", most=MOST_LAYERS)
        flags = tuple(int((i + 1) % every != 0) for i in range(count))
    return tuple(ROTATES if flag else DOES_NOT for flag in flags)


def _of_theta(theta: float) -> str:
    return f"theta={theta:g}" if theta else DOES_NOT


def rotates(label: str, settings: Settings, row: dict[str, Any]) -> bool:
    """Whether layers with that label have rotary embeddings at all."""
    if label == DOES_NOT or label in NO_ATTENTION:
        return False
    if row.get("nope") == "full_attention" and label == "full_attention":
        # EXAONE 4 has these layers only where others have a window.
        windows = settings.get("sliding_window", 1)
        return row.get("nope_if") == "sliding_window" and not windows
    return True
