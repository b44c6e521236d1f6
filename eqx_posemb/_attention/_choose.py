"""The choice between blocks and materialized logits, and the size of blocks."""

# The number of logits of a block: 32 MiB in float32. Larger blocks were no faster.
_TILE = 2**23
_LARGEST = 512
# Blocks are multiples of the tiles that TPUs cut arrays into.
_STEP = 128
# The overhead of a block, in tokens. With 8 heads of 64 channels, blocks of 512 took
# 0.7 times as long as blocks of 256.
_START = 300
# Blocks are faster on a CPU from this number of logits on, for at least this number of
# queries and keys. It was measured with and without a bias.
_FAST_ON_CPU = 2**23
_WORTHWHILE = 256
# Elsewhere materialized logits are faster up to 256 MiB in float32.
_FITS = 2**26
# The number of logits that fit into a CPU's caches with their temporaries, 2 MiB in
# float32. With a score, two heads in blocks of 512 took 0.8 of the time of eight.
_IN_CACHE = 2**19


def block_size_for(heads: int, q: int, k: int) -> int:
    """The number of queries, and of keys, in a block: at most 512, with little padding
    in the last block. Symbolic sizes get the number of a long sequence."""
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
    """The number of groups of heads that a CPU processes one after the other, from the
    size of blocks. Heads that share keys stay in one group."""
    wanted = heads * size**2 / _IN_CACHE
    parts = [n for n in range(1, kv_heads + 1) if kv_heads % n == 0]
    return next((n for n in parts if n >= wanted), kv_heads)
