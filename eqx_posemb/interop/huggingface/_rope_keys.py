"""The keys that each rope type of a configuration has."""

ORIGINAL = "original_max_position_embeddings"
RAMP = ("beta_fast", "beta_slow", "mscale", "mscale_all_dim")
LISTS = ("short_factor", "long_factor")
SCALES = ("short_mscale", "long_mscale")
# Each type has these keys in addition to the keys that all types have.
KEYS: dict[str, tuple[str, ...]] = {
    "default": (),
    "axial": (),
    "linear": ("factor",),
    "dynamic": ("factor",),
    "proportional": ("factor",),
    # HunYuan's code reads `alpha` alone, but its published configuration has all of
    # these keys.
    "ntk_alpha": ("alpha", "factor", *RAMP),
    "yarn": ("factor", ORIGINAL, "attention_factor", "attn_factor", "truncate", *RAMP),
    "longrope": ("factor", ORIGINAL, "attention_factor", *LISTS, *SCALES),
    "llama3": ("factor", ORIGINAL, "low_freq_factor", "high_freq_factor"),
}
# Published files have these keys, and no implementation reads them.
CARRIED = {"yarn": ("finetuned",)}
TYPES = tuple(kind for kind in KEYS if kind != "ntk_alpha")
COMMON = ("rope_type", "type", "rope_theta", "partial_rotary_factor")
# Older files have these two keys beside the rope settings.
BESIDE = {"rope_theta", "partial_rotary_factor"}
PLACES = ("rope_parameters", "rope_scaling")
OF_ROPE = {*PLACES, *BESIDE}
SECTIONS = ("mrope_section", "xdrope_section")
# The rules of `_axes.py` that read sections, and the rules that deal out the pairs of
# one schedule. The other rules have schedules of their own.
SECTIONED = ("chunked", "interleaved", "tail")
DEALT = (*SECTIONED, "turns")
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
