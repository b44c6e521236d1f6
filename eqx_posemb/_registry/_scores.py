"""Scores: added to logits, with an eye on the content."""

from .._score import (
    DeBERTa,
    Decomposed,
    Enformer,
    Inkling,
    MusicTransformer,
    Shaw,
    TransformerXL,
    WavLM,
)
from ._encodings import square
from ._variant import Variant


SCORES: tuple[Variant, ...] = (
    Variant(
        name="transformer_xl",
        summary="queries meet a projected sinusoid of the distance (XLNet, Conformer)",
        place="score",
        of=TransformerXL,
        oracle="authors' code, transformers",
        settings=lambda sizes: dict(
            heads=sizes.heads, head_dim=sizes.head_dim, dim=sizes.dim
        ),
        parameters=("u", "v", "weight"),
    ),
    Variant(
        name="enformer",
        summary="queries meet decays, windows and bumps over the distance",
        place="score",
        of=Enformer,
        oracle="DeepMind's code",
        settings=lambda sizes: dict(
            heads=sizes.heads,
            head_dim=sizes.head_dim,
            # As Enformer has it, whose tokens are as wide as its values.
            features=6 * max(sizes.dim // sizes.heads // 6, 1),
            length=sizes.length,
        ),
        parameters=("u", "v", "weight"),
        bounded=True,
    ),
    Variant(
        name="shaw",
        summary="queries meet a learned vector for each distance up to a bound",
        place="score",
        of=Shaw,
        oracle="transformers (Wav2Vec2-BERT)",
        settings=lambda sizes: dict(head_dim=sizes.head_dim),
        parameters=("weight",),
    ),
    Variant(
        name="music_transformer",
        summary="queries meet a learned vector for each distance of the context",
        place="score",
        of=MusicTransformer,
        oracle="formula",
        settings=lambda sizes: dict(
            heads=sizes.heads, head_dim=sizes.head_dim, length=sizes.length
        ),
        parameters=("weight",),
        bounded=True,
        causal=True,
    ),
    Variant(
        name="deberta",
        summary="queries and keys meet a learned vector for the distance",
        place="score",
        of=DeBERTa,
        oracle="transformers",
        settings=lambda sizes: dict(
            heads=sizes.heads,
            head_dim=sizes.head_dim,
            dim=sizes.dim,
            reach=sizes.length,
        ),
        parameters=("table", "key_weight", "query_weight", "query_bias"),
        scale=lambda sizes: (3 * sizes.head_dim) ** -0.5,
    ),
    Variant(
        name="deberta_v2",
        summary="the same with buckets of distances and a normalised table",
        place="score",
        of=DeBERTa,
        oracle="transformers",
        settings=lambda sizes: dict(
            heads=sizes.heads,
            head_dim=sizes.head_dim,
            dim=sizes.dim,
            # 256 and 512 for the 512 positions that it was trained on.
            reach=max(sizes.length, 4),
            buckets=4 * max(sizes.length // 8, 1),
            norm=True,
            key_bias=True,
        ),
        parameters=(
            "table",
            "key_weight",
            "key_bias",
            "query_weight",
            "query_bias",
            "norm_weight",
            "norm_bias",
        ),
        scale=lambda sizes: (3 * sizes.head_dim) ** -0.5,
    ),
    Variant(
        name="decomposed",
        summary="queries meet a learned vector for the distance along each axis (SAM)",
        place="score",
        of=Decomposed,
        oracle="transformers (SAM)",
        settings=lambda sizes: dict(shape=square(sizes), head_dim=sizes.head_dim),
        parameters=("tables[0]", "tables[1]"),
        bounded=True,
        axes=lambda sizes: 2,
    ),
    Variant(
        name="inkling",
        summary="tokens mix learned profiles over the distance",
        place="score",
        of=Inkling,
        oracle="transformers",
        settings=lambda sizes: dict(
            heads=sizes.heads, dim=sizes.dim, reach=sizes.length
        ),
        parameters=("weight", "bank"),
        causal=True,
        scale=lambda sizes: 1 / sizes.head_dim,
    ),
    Variant(
        name="wavlm",
        summary="a learned number for each bucket of distances, behind a gate",
        place="score",
        of=WavLM,
        oracle="transformers",
        settings=lambda sizes: dict(heads=sizes.heads, head_dim=sizes.head_dim),
        parameters=("weight", "gate_weight", "gate_bias", "gate_scale"),
    ),
)
