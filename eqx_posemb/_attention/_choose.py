"""Which implementation of attention to use, and with which blocks."""

import jax


# A tile of the logits of all heads, 2 MiB in float32: what a core has at hand.
_TILE = 2**19
# From where on blocks are faster on CPU; measured, with and without a bias.
_FAST_ON_CPU = 2**22
# Elsewhere dense logits are fast while they fit: 256 MiB in float32.
_FITS = 2**26


def block_size_for(heads: int) -> int:
    """How many queries, and keys, to have in a block: a power of two, 128 to 512."""
    size = 512
    while size > 128 and heads * size**2 > _TILE:
        size //= 2
    return size


def blocks_are_better(heads: int, q: int, k: int) -> bool:
    """Whether to go by blocks, from the number of logits and the platform."""
    if min(q, k) <= block_size_for(heads):
        return False
    on_cpu = jax.default_backend() == "cpu"
    return heads * q * k >= (_FAST_ON_CPU if on_cpu else _FITS)
