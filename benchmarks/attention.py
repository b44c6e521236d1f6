"""Attention with a positional embedding: time and memory, ours and others'.

Ours is `attend(implementation="auto")`. Naive materializes the same logits and applies
a softmax; `jax.nn` is `jax.nn.dot_product_attention` with the same logits as its bias;
flex is PyTorch's FlexAttention, which on CPU has no backward pass. All are called in
turn, round by round, and times are given as medians over rounds of the ratio to
`jax.nn` in the same round: absolute numbers say more of the machine than of the code.

    python -m benchmarks.attention
"""

import argparse
import math
import statistics
from collections.abc import Callable
from itertools import product

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

import eqx_posemb as pe
from benchmarks.report import machine, markdown, over, seconds, write


HEADS, HEAD_DIM = 8, 64
EMBEDDINGS = ("alibi", "t5", "kerple", "transformer_xl", "rope")
LENGTHS = (1024, 2048, 4096, 8192, 16384, 32768)


def rotated(embedding, x, p):
    return x if embedding.rotary is None else jax.vmap(embedding.rotary(p).queries)(x)


def added(embedding, q, k, p):
    """What is added to scaled products, if there is anything."""
    if embedding.bias is not None:
        return embedding.bias(p, p)
    return None if embedding.score is None else embedding.score(q, k, p, p)


def ours(embedding, q, k, v, p, causal):
    return embedding.attend(q, k, v, p, p, causal=causal)


def naive(embedding, q, k, v, p, causal):
    logits = embedding.logits(q, k, p, p)
    if causal:
        logits = jnp.where((p[None] <= p[:, None])[None], logits, -jnp.inf)
    return jnp.einsum("hqk,hkd->hqd", jax.nn.softmax(logits, axis=-1), v)


def of_jax_nn(embedding, q, k, v, p, causal):
    swap = lambda x: jnp.swapaxes(x, 0, 1)[None]
    extra = added(embedding, q, k, p)
    out = jax.nn.dot_product_attention(
        swap(rotated(embedding, q, p)),
        swap(rotated(embedding, k, p)),
        swap(v),
        bias=None if extra is None else extra[None],
        scale=embedding.scale,
        is_causal=causal,
    )
    return jnp.swapaxes(out[0], 0, 1)


CONTENDERS = {"ours": ours, "naive": naive, "jax.nn": of_jax_nn}


def gradient_of(attend):
    def call(embedding, q, k, v, p, causal):
        def loss(arguments):
            return jnp.sum(attend(*arguments, p, causal) ** 2)

        return eqx.filter_grad(loss)((embedding, q, k, v))

    return call


def compiled(attend, embedding, tokens, p, causal) -> tuple[Callable[[], object], int]:
    """A call that waits for its result, and the temporary memory that it takes."""
    arrays, static = eqx.partition(embedding, eqx.is_array)
    call = lambda arrays, *x: attend(eqx.combine(arrays, static), *x, causal)
    program = jax.jit(call).lower(arrays, *tokens, p).compile()
    memory = program.memory_analysis()
    size = 0 if memory is None else memory.temp_size_in_bytes
    return lambda: jax.block_until_ready(program(arrays, *tokens, p)), size


def flex(name, embedding, tokens, causal) -> Callable[[], object] | None:
    """FlexAttention with the same bias, computed where it is needed; None where it has
    no way to have it."""
    import torch
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    if name == "transformer_xl":  # A product of the query with a vector per distance.
        return None
    n = tokens[0].shape[1]
    p = jnp.arange(n)
    q, k, v = (rotated(embedding, x, p) if i < 2 else x for i, x in enumerate(tokens))
    q, k, v = (torch.from_numpy(np.array(x))[None] for x in (q, k, v))
    modify = None
    if embedding.bias is not None:
        # The bias of each distance, in a table that it looks up.
        delta = jnp.arange(1 - n, n)
        table = torch.from_numpy(np.array(embedding.bias.along(delta)))
        modify = lambda score, b, h, i, j: score + table[h, j - i + n - 1]
    mask = None
    if causal:
        past = lambda b, h, i, j: j <= i
        mask = create_block_mask(past, None, None, n, n, device="cpu")
    torch.compiler.reset()
    # What it makes for any length does not compile, in the second call of a process.
    attend = torch.compile(flex_attention, dynamic=False)
    scale = embedding.scale
    call = lambda: attend(q, k, v, score_mod=modify, block_mask=mask, scale=scale)
    call()
    return call


def row(name, n, causal, backward, rounds, limit) -> dict[str, object]:
    dim = HEADS * HEAD_DIM
    embedding = pe.make(
        name, heads=HEADS, head_dim=HEAD_DIM, dim=dim, length=n, key=jr.key(0)
    )
    tokens = jr.normal(jr.key(1), (3, HEADS, n, HEAD_DIM))
    p, tokens = jnp.arange(n), tuple(tokens)
    calls, sizes = {}, {}
    for contender, attend in CONTENDERS.items():
        attend = gradient_of(attend) if backward else attend
        call, sizes[contender] = compiled(attend, embedding, tokens, p, causal)
        if sizes[contender] <= limit:
            calls[contender] = call
    if calls and not backward:
        try:
            if call := flex(name, embedding, tokens, causal):
                calls["flex"] = call
        except Exception as error:  # No compiler, or a shape it does not lower.
            print(f"flex: {type(error).__name__}")
    # Long calls are few, and do not feel what was in the caches before them.
    rounds = rounds if n <= 2048 else min(rounds, 3 if n <= 4096 else 1)
    times = seconds(calls, rounds, again=n <= 4096)

    def ratio(contender):
        both = contender in times and "jax.nn" in times
        return over(times, contender, "jax.nn") if both else None

    every = (*CONTENDERS, "flex")
    median = lambda contender: statistics.median(times[contender])
    return {
        "embedding": name,
        "length": n,
        "mask": "causal" if causal else "full",
        "pass": "both" if backward else "forward",
        **{c: ratio(c) for c in every if c != "jax.nn"},
        **{f"{c} MiB": round(sizes[c] / 2**20) for c in CONTENDERS},
        **{f"{c} s": median(c) if c in times else None for c in every},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--embeddings", nargs="+", default=EMBEDDINGS)
    parser.add_argument("--lengths", nargs="+", type=int, default=LENGTHS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--limit",
        type=float,
        default=4.0,
        help="GiB of temporaries to run at most; 0 only compiles",
    )
    parser.add_argument("--json", help="a file to write the figures to")
    options = parser.parse_args()
    about = f"{machine()}; heads {HEADS}, dim {HEAD_DIM}, float32"
    print(about)
    print("time: ratio to jax.nn; temporaries: MiB, compiled; seconds: medians")
    rows = []
    for name, n, causal, backward in product(
        options.embeddings, options.lengths, (False, True), (False, True)
    ):
        limit = math.floor(options.limit * 2**30)
        rows.append(row(name, n, causal, backward, options.rounds, limit))
        print(markdown(rows[-1], first=len(rows) == 1), flush=True)
    write(options.json, about, rows)


if __name__ == "__main__":
    main()
