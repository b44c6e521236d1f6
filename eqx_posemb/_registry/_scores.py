"""Scores: added to logits, with an eye on the content."""

from ._variant import SIZES, square, Variant


_LENGTH = SIZES["length"]


def _deberta_scale(head_dim):
    return (3 * head_dim) ** -0.5


SCORES = (
    Variant(
        "transformer_xl",
        "_score._transformer_xl.TransformerXL",
        "queries meet a projected sinusoid of the distance (XLNet, Conformer)",
        "authors' code, transformers",
    ),
    Variant(
        "enformer",
        "_score._enformer.Enformer",
        "queries meet decays, windows and bumps over the distance",
        "DeepMind's code",
        # As Enformer has it, whose tokens are as wide as its values.
        dict(features=lambda heads, dim: 6 * max(dim // heads // 6, 1)),
    ),
    Variant(
        "shaw",
        "_score._shaw.Shaw",
        "queries meet a learned vector for each distance up to a bound",
        "transformers (Wav2Vec2-BERT)",
    ),
    Variant(
        "music_transformer",
        "_score._music_transformer.MusicTransformer",
        "queries meet a learned vector for each distance of the context",
    ),
    Variant(
        "deberta",
        "_score._deberta.DeBERTa",
        "queries and keys meet a learned vector for the distance",
        "transformers",
        dict(reach=_LENGTH),
        scale=_deberta_scale,
    ),
    Variant(
        "deberta_v2",
        "_score._deberta.DeBERTa",
        "the same with buckets of distances and a normalized table",
        "transformers",
        dict(
            # 256 and 512 for the 512 positions that it was trained on.
            reach=lambda length: max(length, 4),
            buckets=lambda length: 4 * max(length // 8, 1),
            norm=True,
            key_bias=True,
        ),
        scale=_deberta_scale,
    ),
    Variant(
        "decomposed",
        "_score._decomposed.Decomposed",
        "queries meet a learned vector for the distance along each axis (SAM)",
        "transformers (SAM)",
        dict(shape=square),
        axes=2,
    ),
    Variant(
        "inkling",
        "_score._inkling.Inkling",
        "tokens mix learned profiles over the distance",
        "transformers",
        dict(reach=_LENGTH),
        scale=lambda head_dim: 1 / head_dim,
    ),
    Variant(
        "wavlm",
        "_score._wavlm.WavLM",
        "a learned number for each bucket of distances, behind a gate",
        "transformers",
    ),
)
