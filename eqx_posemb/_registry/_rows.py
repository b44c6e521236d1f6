"""The rows of the registry."""

import math

from ._variant import SIZES, Variant


_HEADS, _LENGTH = SIZES["heads"], SIZES["length"]


def _square(length):
    """The shape of the smallest square grid that has a cell for every position."""
    side = math.isqrt(length - 1) + 1
    return side, side


def _eighth(length):
    return max(length // 8, 1)


def _quarter(length):
    return 2 * _eighth(length)


def _half_and_rest(dim):
    return dim // 2, dim - dim // 2


def _quarter_time(head_dim):
    # Qwen2-VL has 16, 24 and 24 of 64 pairs.
    pairs = head_dim // 2
    space = 3 * pairs // 8
    return (pairs - 2 * space, space, space)


def _each_pair(divisor):
    return lambda head_dim: (divisor,) * (head_dim // 2)


def _tupe_scale(head_dim):
    return (2 * head_dim) ** -0.5


def _deberta_scale(head_dim):
    return (3 * head_dim) ** -0.5


# A row has its name, path, description and oracle, and then its settings.
# fmt: off
_ENCODINGS = (
    Variant("sinusoidal", "_encoding._sinusoidal.Sinusoidal",
        "sines and cosines added to tokens", "transformers, fairseq"),
    Variant("scaled_sinusoidal", "_encoding._scaled_sinusoidal.ScaledSinusoidal",
        "sines and cosines times a learned number added to tokens", "x-transformers"),
    Variant("learned", "_encoding._learned.Learned",
        "a learned vector for each position added to tokens",
        "transformers (OPT, RoBERTa)"),
    Variant("sinusoidal_grid", "_encoding._sinusoidal_grid.SinusoidalGrid",
        "sines and cosines of rows and columns added to patches",
        "MAE, MoCo v3, timm, DETR", axes=2),
    Variant("sinusoidal_video", "_encoding._sinusoidal_grid.SinusoidalGrid",
        "sines and cosines of frames, rows and columns added to tubelets",
        "V-JEPA, positional-encodings", dict(axes=3, layout="v_jepa"), axes=3),
    Variant("learned_grid", "_encoding._learned_grid.LearnedGrid",
        "a learned vector for each cell of a grid added to patches",
        "transformers (ViT, DINOv2), torch", dict(shape=_square, prefix=1), axes=2,
        prefix=1),
    Variant("axial", "_encoding._axial.AxialLearned",
        "learned vectors of the row and the column, concatenated",
        "transformers (Reformer)", dict(shape=_square, dims=_half_and_rest), axes=2),
    Variant("learned_box", "_encoding._box.LearnedBox",
        "learned vectors of the edges and the size of a box on a page",
        "transformers (LayoutLM)", axes=4),
    Variant("fourier", "_encoding._fourier.Fourier",
        "sines and cosines at every scale of a box (Perceiver)",
        "transformers (Perceiver)",
        dict(bands=lambda dim: dim // 4, resolution=_square, include_positions=False),
        axes=2),
    Variant("gaussian_fourier", "_encoding._fourier.GaussianFourier",
        "sines and cosines along random directions", "transformers (SAM)", axes=2),
    Variant("learned_fourier", "_encoding._learned_fourier.LearnedFourier",
        "a small network over learned frequencies",
        "learnable_fourier_positional_encoding", axes=2),
)

_ROPE = Variant("rope", "_rotary._recipes._rope.rope",
    "rotation by angles proportional to the position", "transformers, Equinox")
_ROTARIES = (
    Variant("nope", "_rotary._nope.NoPE",
        "no positional embedding; order from the causal mask alone", "none needed"),
    _ROPE,
    Variant("proportional_rope", "_rotary._recipes._rope.proportional_rope",
        "rotation of the fastest pairs only (p-RoPE, Gemma 4)", "transformers",
        dict(fraction=0.5)),
    Variant("xpos", "_rotary._recipes._rope.xpos",
        "rotation, with logits that fade towards the past", "torchscale",
        traits=("causal",)),
    Variant("linear_rope", "_rotary._recipes._scaling.linear_rope",
        "rotation with interpolated positions", "transformers",
        dict(factor=4.0)),
    Variant("ntk_rope", "_rotary._recipes._scaling.ntk_rope",
        "rotation with a larger base (NTK)", "transformers (Hunyuan)",
        dict(factor=4.0)),
    Variant("dynamic_ntk_rope", "_rotary._recipes._scaling.dynamic_ntk_rope",
        "rotation with a base that grows with the context", "transformers",
        dict(factor=1.0, original_length=_LENGTH)),
    Variant("yarn", "_rotary._recipes._by_parts.yarn",
        "rotation scaled per frequency, with sharper attention",
        "authors' code, transformers", dict(factor=4.0, original_length=_LENGTH)),
    Variant("llama3_rope", "_rotary._recipes._by_parts.llama3_rope",
        "rotation scaled per frequency, as in Llama 3.1", "transformers",
        dict(factor=8.0, original_length=_LENGTH)),
    # Published divisors belong to a checkpoint. The example keeps frequencies up to the
    # length, and divides them by 4 beyond it.
    Variant("longrope", "_rotary._recipes._by_parts.longrope",
        "rotation with searched divisors beyond a length (Phi-3)",
        "transformers",
        dict(short_factor=_each_pair(1.0), long_factor=_each_pair(4.0),
             original_length=_LENGTH, factor=4.0)),
    # As the authors have it, 20 of 64 pairs.
    Variant("clipped_rope", "_rotary._recipes._periods.clipped_rope",
        "rotation whose slowest pairs fade to none (CoPE)", "authors' code",
        dict(clip=lambda head_dim: max(5 * head_dim // 32, 2))),
    Variant("resonance_rope", "_rotary._recipes._periods.resonance_rope",
        "rotation by whole wavelengths", "authors' code"),
    Variant("rope_id", "_rotary._recipes._periods.rope_id",
        "rotation of half of the pairs, each of whole turns in training",
        settings=dict(length=_LENGTH, shortest=lambda length: min(32.0, length / 4))),
    Variant("grape_rope", "_rotary._recipes._rope.grape_rope",
        "rotation at learned frequencies, positive (GRAPE-M)", "authors' code",
        trained=True),
    Variant("rerope", "_rotary._extension.ReRoPE",
        "rotation with distances clipped to a window",
        settings=dict(rotary=_ROPE, window=_eighth)),
    Variant("self_extend", "_rotary._extension.SelfExtend",
        "rotation with far keys in groups",
        settings=dict(rotary=_ROPE, group=4, window=_eighth)),
    Variant("dual_chunk", "_rotary._extension.DualChunk",
        "rotation with clipped distances of chunks (Qwen2.5-1M)",
        settings=dict(rotary=_ROPE, chunk=_quarter, window=_eighth)),
    Variant("axial_rope", "_rotary._recipes._axes.axial_rope",
        "rotation by the row for some channels, by the column for others",
        "transformers", axes=2),
    Variant("mixed_rope", "_rotary._recipes._axes.mixed_rope",
        "rotation along learned directions of an image", trained=True, axes=2),
    Variant("mrope", "_rotary._recipes._axes.mrope",
        "rotation by time, height and width; of text as by rope (Qwen-VL)",
        "transformers", dict(sizes=_quarter_time), axes=3),
    Variant("riflex_rope", "_rotary._recipes._diffusion.riflex_rope",
        "rotation by frame, row and column for longer videos (RIFLEx)",
        "authors' code", dict(pair=1, length=lambda length: 4 * length), axes=3),
    Variant("dype_rope", "_rotary._recipes._diffusion.dype_rope",
        "axial rotation scaled by the time of diffusion (DyPE)",
        "authors' code", dict(factor=4.0), axes=2),
    Variant("string_rope", "_rotary._recipes._axes.string_rope",
        "axial rotation in a learned orthogonal basis (STRING)", trained=True, axes=2),
    Variant("liere", "_rotary._lie.LieRE",
        "rotation of whole blocks of channels by learned generators",
        settings=dict(block=4, scale=0.2), axes=2),
    Variant("comrope", "_rotary._comrope.ComRoPE",
        "rotation of blocks of channels by learned matrices that commute",
        "authors' code", dict(block=4, std=0.2), axes=2),
    Variant("pope", "_rotary._pope.PoPE",
        "lengths for content and angles for position (polar coordinates)"),
    Variant("fope", "_rotary._fope.FoPE",
        "rotation at learned mixtures of frequencies"),
    Variant("temperature", "_rotary._temperature.Temperature",
        "queries that grow with their position (Llama 4)", "transformers",
        dict(beta=0.1, length=lambda length: length / 8)),
    Variant("scalable_softmax", "_rotary._temperature.ScalableSoftmax",
        "queries scaled by the number of keys, learned",
        "transformers (Mistral Large 4)"),
    Variant("path", "_rotary._path.PaTH",
        "products of reflections by the tokens between key and query",
        "flash-linear-attention"),
    Variant("wall", "_rotary._wall.Wall",
        "channels of keys that fade by gates of the tokens", "flash-linear-attention",
        axes=lambda heads, head_dim: heads * head_dim),
)

_BIASES = (
    Variant("alibi", "_bias._alibi.ALiBi", "a fixed penalty linear in the distance",
        "transformers (Bloom, MPT)", dict(heads=_HEADS), traits=("causal",)),
    Variant("alibi_symmetric", "_bias._alibi.ALiBi",
        "a fixed penalty linear in the distance, to either side",
        settings=dict(heads=_HEADS, form="symmetric")),
    Variant("alibi_one_sided", "_bias._alibi.ALiBi",
        "a fixed linear penalty; half of the heads for each direction",
        settings=dict(heads=_HEADS, form="one_sided")),
    Variant("alibi_asymmetric", "_bias._alibi.ALiBi",
        "a fixed linear penalty, half a step less for the past (DeepMind)",
        settings=dict(heads=_HEADS, form="asymmetric")),
    Variant("learned_alibi", "_bias._learned_alibi.LearnedALiBi",
        "a penalty linear in the distance with learned slopes", traits=("causal",)),
    Variant("t5", "_bias._t5.T5Bias", "a learned number for each bucket of distances",
        "transformers", dict(std=lambda dim: dim**-0.5), scale=1.0),
    Variant("kerple", "_bias._kerple.KERPLE",
        "a learned penalty logarithmic in the distance", settings=dict(kind="log")),
    Variant("kerple_power", "_bias._kerple.KERPLE",
        "a learned penalty that is a power of the distance",
        settings=dict(kind="power")),
    Variant("bam", "_bias._bam.BAM",
        "a learned penalty shaped as a generalized Gaussian", "authors' code"),
    Variant("sandwich", "_bias._sandwich.Sandwich",
        "a fixed penalty, the product of sinusoidal encodings"),
    Variant("fire", "_bias._fire.FIRE",
        "a learned function of the distance relative to the position",
        settings=dict(threshold=lambda length: max(1.0, length / 4))),
    Variant("tisa", "_bias._tisa.TISA", "a learned sum of bumps over the distance"),
    Variant("dynamic_bias", "_bias._dynamic.DynamicBias",
        "a small network of the distance",
        settings=dict(width=lambda dim: max(1, dim // 4))),
    Variant("clipped", "_bias._clipped.ClippedBias",
        "a learned number for each distance up to one (AlphaFold)"),
    Variant("forgetting", "_bias._forgetting.Forgetting",
        "a penalty of what tokens forget, from positions they make", axes=_HEADS),
    Variant("tupe_absolute", "_bias._tupe.TUPE",
        "products of positions projected apart from the content", "authors' code",
        scale=_tupe_scale),
    Variant("tupe", "_bias._tupe.tupe",
        "untied absolute positions, T5's bias, and [CLS] apart", "authors' code",
        scale=_tupe_scale, traits=("absolute", "bounded"), trained=True),
    Variant("grid_alibi", "_bias._grid_alibi.GridALiBi",
        "a fixed penalty linear in the distance on a grid", axes=2),
    Variant("t5_grid", "_bias._t5_grid.T5GridBias",
        "a learned number for each bucket of distances along each axis",
        "transformers (LayoutLMv3, UDOP)", axes=2, trained=True),
    Variant("swin", "_bias._swin.SwinBias",
        "a learned number for each difference of rows and columns", "transformers",
        dict(window=_square), axes=2),
    Variant("log_cpb", "_bias._log_cpb.LogCPB",
        "a small network over differences of rows and columns (SwinV2)", "transformers",
        dict(window=_square), axes=2),
    Variant("beit", "_bias._beit.BEiTBias",
        "a table of differences of patches, and three numbers for [CLS]",
        "transformers", dict(window=_square), axes=2, prefix=1),
    Variant("levit", "_bias._levit.LeViTBias",
        "a learned number for distances in rows and columns, signs aside",
        "transformers", dict(window=_square), axes=2),
)

_SCORES = (
    Variant("transformer_xl", "_score._transformer_xl.TransformerXL",
        "product with a projected sinusoid (XLNet, Conformer)",
        "authors' code, transformers"),
    # In Enformer the number of features equals the number of channels of a value.
    Variant("enformer", "_score._enformer.Enformer",
        "product with decays, windows and bumps of the distance", "DeepMind's code",
        dict(features=lambda heads, dim: 6 * max(dim // heads // 6, 1))),
    Variant("shaw", "_score._shaw.Shaw",
        "product with a learned vector per clipped distance",
        "transformers (Wav2Vec2-BERT)"),
    Variant("music_transformer", "_score._music_transformer.MusicTransformer",
        "product with a learned vector per distance"),
    Variant("deberta", "_score._deberta.DeBERTa",
        "products of both with a learned vector per distance", "transformers",
        dict(reach=_LENGTH), scale=_deberta_scale),
    # DeBERTa v2 has 256 buckets and a reach of 512 for the 512 positions of its
    # training.
    Variant("deberta_v2", "_score._deberta.DeBERTa",
        "the same with buckets of distances and a normalized table", "transformers",
        dict(reach=lambda length: max(length, 4),
             buckets=lambda length: 4 * max(length // 8, 1), norm=True, key_bias=True),
        scale=_deberta_scale),
    Variant("decomposed", "_score._decomposed.Decomposed",
        "product with a learned vector per axis distance (SAM)",
        "transformers (SAM)", dict(shape=_square), axes=2),
    Variant("inkling", "_score._inkling.Inkling",
        "tokens mix learned profiles over the distance", "transformers",
        dict(reach=_LENGTH), scale=lambda head_dim: 1 / head_dim),
    Variant("wavlm", "_score._wavlm.WavLM",
        "a learned number for each bucket of distances, behind a gate", "transformers"),
    Variant("cope", "_score._cope.CoPE",
        "product with a learned vector for the count of gates back to a key",
        "authors' code, x-transformers"),
)
# fmt: on

VARIANTS = (*_ENCODINGS, *_ROTARIES, *_BIASES, *_SCORES)
