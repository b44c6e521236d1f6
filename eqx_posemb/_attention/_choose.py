"""Which implementation of attention to use, and with which blocks."""

# What a block may hold of the logits: 32 MiB in float32. Larger ones are no faster.
_TILE = 2**23
_LARGEST = 512
# Blocks are multiples of this, which TPUs cut arrays into.
_STEP = 128
# What starting with a block takes, in tokens. Measured: with 8 heads of 64 channels,
# blocks of 512 take 0.7 times as long as blocks of 256.
_START = 300
# From how many logits on blocks are faster on CPU, if there are so many queries and so
# many keys; measured, with and without a bias.
_FAST_ON_CPU = 2**23
_WORTHWHILE = 256
# Elsewhere dense logits are fast while they fit: 256 MiB in float32.
_FITS = 2**26
# What a CPU's caches hold of the logits, beside what is made of them: 2 MiB in float32.
# Measured: with a score, two heads in blocks of 512 take 0.8 times as long as eight.
_IN_CACHE = 2**19


def block_size_for(heads: int, q: int, k: int) -> int:
    """How many queries, and keys, to have in a block: at most 512, and so that not much
    of the last one is padding. For symbols, as many as for many."""
    largest = _LARGEST
    while largest > _STEP and heads * largest**2 > _TILE:
        largest -= _STEP
    if not (isinstance(q, int) and isinstance(k, int)):
        return largest
    sizes = [*range(_STEP, largest + 1, _STEP)]
    if 0 < max(q, k) <= largest:
        sizes.append(max(q, k))
    filled = lambda count, size: count + -count % size
    work = lambda size: filled(q, size) * filled(k, size) * (1 + _START / size)
    return min(sizes, key=work)


def blocks_are_better(heads: int, q: int, k: int, *, on_cpu: bool) -> bool:
    """Whether to go by blocks, from the number of logits and the platform. Not for
    symbols, where the program does not know them."""
    if not (isinstance(q, int) and isinstance(k, int)):
        return False
    if min(q, k) < _WORTHWHILE or max(q, k) <= block_size_for(heads, q, k):
        return False
    return heads * q * k >= (_FAST_ON_CPU if on_cpu else _FITS)


def head_groups(heads: int, kv_heads: int, size: int) -> int:
    """How many parts a CPU cuts heads into, one after the other, from the size of
    blocks; they keep the heads together that have keys in common."""
    wanted = heads * size**2 / _IN_CACHE
    parts = [n for n in range(1, kv_heads + 1) if kv_heads % n == 0]
    return next((n for n in parts if n >= wanted), kv_heads)
