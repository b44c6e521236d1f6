"""The keys that each rope type of a configuration has."""

# Each type has these keys in addition to the keys that all types have.
KEYS: dict[str, tuple[str, ...]] = {
    "default": (),
    "axial": (),
    "linear": ("factor",),
    "dynamic": ("factor",),
    # HunYuan's code reads `alpha` alone, but its published configuration has all of
    # these keys.
    "ntk_alpha": (
        "alpha",
        "factor",
        "beta_fast",
        "beta_slow",
        "mscale",
        "mscale_all_dim",
    ),
    "yarn": (
        "factor",
        "original_max_position_embeddings",
        "attention_factor",
        "attn_factor",
        "beta_fast",
        "beta_slow",
        "mscale",
        "mscale_all_dim",
        "truncate",
    ),
    "longrope": (
        "factor",
        "original_max_position_embeddings",
        "attention_factor",
        "short_factor",
        "long_factor",
        "short_mscale",
        "long_mscale",
    ),
    "llama3": (
        "factor",
        "original_max_position_embeddings",
        "low_freq_factor",
        "high_freq_factor",
    ),
    "proportional": ("factor",),
}
# Published files have these keys, and no implementation reads them.
CARRIED = {"yarn": ("finetuned",)}
ORIGINAL = "original_max_position_embeddings"
TYPES = tuple(kind for kind in KEYS if kind != "ntk_alpha")
COMMON = ("rope_type", "type", "rope_theta", "partial_rotary_factor")
# Older files have these two keys beside the rope settings.
BESIDE = {"rope_theta", "partial_rotary_factor"}
SECTIONED = ("mrope_section", "mrope_interleaved", "xdrope_section")
TEMPERED = ("llama_4_scaling_beta", "max_position_embeddings")
ALIASES = {
    "deepseek_yarn": "yarn",
    "mrope": "default",
    "su": "longrope",
    "telechat3-yarn": "yarn",
    "xdrope": "dynamic",
}
# The slope multiplies the 0.1 by which YaRN's factor grows for each e-fold of the
# scaling factor.
SLOPES = {"telechat3-yarn": 0.7}
FOPE = ("use_fope", "fope_init_factor", "fope_sep_head", "num_inv_freq")
