"""Which layers of a model rotate alike."""

from .._configuration import listed, quoted, require, Settings
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


def count_of(settings: Settings, default: int = 1) -> int:
    """The number of layers, in whichever keys a configuration has it."""
    keys = settings.row.get("layers", COUNTS[:1])
    # Files may spell the number of layers as another model type does.
    if not any(settings.has(key) for key in keys):
        keys = [key for key in COUNTS if settings.has(key)][:1] or keys
    return sum(settings.integer(key, default, most=MOST_LAYERS) for key in keys)


def labels_of(settings: Settings) -> tuple[str, ...]:
    """For each layer, what tells it apart from layers that rotate otherwise."""
    row = settings.row
    rule = row.get("nope")
    if rule == "no_rope_layers":
        return _flagged(settings)
    if rule == "layer_rope_theta":
        if settings.has(rule):
            return tuple(map(_of_theta, settings.numbers(rule)))
        # The last layer does not rotate, nor one in so many before it.
        if "nope_every" in row:
            count = count_of(settings)
            still = range(count - 1, -1, -row["nope_every"])
            return _marked(still, count, DOES_NOT, ROTATES)
    if rule == "rope_scaling_layers" and settings.has(rule):
        scaled = {*settings.integers(rule)}
        count = settings.integer("num_hidden_layers", most=MOST_LAYERS)
        return _marked(scaled, count, "scaled", "unscaled")
    if "dense" in row:
        return _after_dense(settings)
    names = row.get("labels", {})
    return tuple(names.get(kind, kind) for kind in layer_types_of(settings))


def layer_types_of(settings: Settings) -> tuple[str, ...]:
    """The type of each layer, as the configuration lists them or counts them."""
    for key in "layer_types", "layers_block_type":
        if settings.has(key):
            return _listed(settings, key)
    row = settings.row
    if "attends" in row:
        return _hybrid(settings, row["attends"], count_of(settings))
    pattern = row.get("pattern") or rotating_labels(settings) or [ROTATES]
    pattern = _told(settings, pattern) or pattern
    return _repeated(pattern, count_of(settings, len(pattern)))


def _repeated(pattern, count) -> tuple[str, ...]:
    return tuple(pattern[i % len(pattern)] for i in range(count))


def _marked(marks, count, name, other) -> tuple[str, ...]:
    return tuple(name if i in marks else other for i in range(count))


def _listed(settings, key):
    row = settings.row
    types = settings.items(key, MOST_LAYERS)
    known = ATTENTION | NO_ATTENTION | {ROTATES, DOES_NOT, *rotating_labels(settings)}
    known |= {*row.get("labels", ()), *row.get("pattern", ())}
    for place in "rope_parameters", "rope_scaling":
        given = settings.get(place)
        known |= {*given} if isinstance(given, dict) else set()
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
    other = rule.get("others", "linear_attention")
    if "ratios" in rule:
        return _compressed(settings, rule, count)
    if "blocks" in rule:
        names = {"recurrent": other, "attention": "sliding_attention"}
        kinds = settings.items(rule["blocks"], MOST_LAYERS)
        known = f"be a list of {listed(names, mark='`')}"
        fine = kinds and all(kind in [*names] for kind in kinds)
        require(fine, rule["blocks"], known, kinds)
        return _repeated([names[kind] for kind in kinds], count)
    if "at" in rule:
        attends = range(count) if "all" in rule else ()
        if settings.has(rule["at"]):
            attends = {*settings.integers(rule["at"])}
    elif isinstance(every := rule["every"], int):
        attends = range(every - 1, count, every) or {count - 1}
    else:
        every = settings.integer(every, most=MOST_LAYERS)
        attends = range(every - 1, count, every)
    return _marked(attends, count, "full_attention", other)


def _compressed(settings, rule, count):
    """The types of layers by how many tokens a key of a layer stands for."""
    kinds, key = rule["kinds"], rule["ratios"]
    if not settings.has(key):
        _, even, odd = kinds.values()
        return tuple(odd if i < 2 or i % 2 == 0 else even for i in range(count))
    # More ratios than layers belong to layers that predict further tokens.
    ratios = settings.integers(key)
    fine = len(ratios) >= count and all(str(ratio) in kinds for ratio in ratios)
    each = f"have one of {', '.join(kinds)} for each of {count} layers"
    require(fine, key, each, list(ratios))
    return tuple(kinds[str(ratio)] for ratio in ratios[:count])


def _after_dense(settings):
    """Where the first layers have no experts, and rotate if they see all keys."""
    row = settings.row
    first = settings.integer("first_k_dense_replace", 0, least=0, most=MOST_LAYERS)
    every = settings.integer("prefix_dense_sliding_window_pattern", 1)
    types = layer_types_of(settings)
    if not settings.has("layer_types"):
        whole = range(every - 1, first, every)
        begin = _marked(whole, first, row["pattern"][-1], row["pattern"][0])
        types = (*begin, *types[: len(types) - first])
    experts = ["dense"] * first + ["sparse"] * (len(types) - first)
    if settings.has("mlp_layer_types"):
        experts = settings.items("mlp_layer_types", MOST_LAYERS)
    each = f"have an entry for each of the {len(types)} layers"
    require(len(experts) == len(types), "mlp_layer_types", each, len(experts))
    return tuple(
        row["dense"] if every == 1 and expert == "dense" else kind
        for expert, kind in zip(experts, types, strict=True)
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
        rule = "be a number, or a string of L for a local layer and G for a global one"
        require(letters and {*letters} <= {"L", "G"}, key, rule, letters)
        return [local if letter == "L" else whole for letter in letters]
    others = [local] * (settings.integer(key, most=MOST_LAYERS) - 1)
    return [whole, *others] if pattern[0] == whole else [*others, whole]


def rotating_labels(settings: Settings) -> list[str]:
    """The layer types that a model type has rope settings of their own for."""
    nested = settings.row.get("rope", {})
    return [name for name, value in nested.items() if isinstance(value, dict)]


def _flagged(settings):
    # transformers marks every fourth layer by default.
    every = settings.integer("no_rope_layer_interval", 4)
    flags = "no_rope_layers"
    if settings.has(flags) and (rotate := settings.integers(flags)):
        return tuple(ROTATES if flag else DOES_NOT for flag in rotate)
    count = settings.integer("num_hidden_layers", most=MOST_LAYERS)
    return _marked(range(every - 1, count, every), count, DOES_NOT, ROTATES)


def _of_theta(theta: float) -> str:
    return f"theta={theta:g}" if theta else DOES_NOT


def rotates(label: str, settings: Settings) -> bool:
    """Whether layers with that label have rotary embeddings at all."""
    row = settings.row
    if label == DOES_NOT or label in NO_ATTENTION:
        return False
    if row.get("nope") == "full_attention" and label == "full_attention":
        # EXAONE 4 has these layers only where others have a window.
        windows = settings.get("sliding_window", 1)
        return row.get("nope_if") == "sliding_window" and not windows
    return True
