"""Speed of `eqx_posemb.interop.torch` beside what PyTorch users have, in eager mode.

Every comparison runs both libraries in turn, and prints the median ratio of their
times, so that other load affects both. rotary-embedding-torch and
positional-embeddings-pytorch are compared if they are installed. The second requires
PyTorch below 2, and runs with a newer version if installed with `--no-deps`.
"""

import argparse
import functools
import importlib
import importlib.metadata
import time

import numpy as np
import torch
from transformers import LlamaConfig
from transformers.models.llama import modeling_llama as llama

import eqx_posemb as pe
from benchmarks.report import keep_memory, markdown, write
from eqx_posemb.interop import torch as pt
from eqx_posemb.interop.torch._angles import Angles, rotate


HEADS, KV_HEADS, DIM = 32, 8, 128


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lengths", type=int, nargs="+", default=[128, 1024])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--cpu-time", action="store_true", help="of one thread, for a busy machine"
    )
    parser.add_argument("--json", help="writes a file of the rows as well")
    args = parser.parse_args()
    keep_memory()
    if args.cpu_time:
        torch.set_num_threads(1)
    clock = time.process_time if args.cpu_time else time.perf_counter
    once = functools.partial(seconds, clock=clock, device=args.device)
    names = "transformers", "rotary_embedding_torch"
    versions = [
        f"{name.replace('_', '-')} {importlib.metadata.version(name)}"
        for name in names
        if installed(name) is not None
    ]
    about = (
        f"torch {torch.__version__}, {', '.join(versions)}, {args.device}, "
        f"{torch.get_num_threads()} threads"
    )
    print(about)
    rows = []
    for length in args.lengths:
        for dtype in torch.float32, torch.bfloat16:
            for beside, what, theirs, ours in comparisons(length, dtype, args.device):
                times = [(once(theirs), once(ours)) for _ in range(args.rounds + 2)]
                times = np.array(times[2:])
                row = {
                    "what": what,
                    "beside": beside,
                    "dtype": str(dtype).removeprefix("torch."),
                    "length": length,
                    "ratio": float(np.median(times[:, 0] / times[:, 1])),
                    "theirs, ms": float(1e3 * np.median(times[:, 0])),
                    "ours, ms": float(1e3 * np.median(times[:, 1])),
                }
                print(markdown(row, not rows), flush=True)
                rows.append(row)
    write(args.json, about, rows)


def comparisons(length, dtype, device):
    """The calls to compare, by name: of the other library and of this one."""
    draw = lambda heads: torch.randn(1, heads, length, DIM, dtype=dtype, device=device)
    q, k = draw(HEADS), draw(KV_HEADS)
    positions = torch.arange(length, device=device)
    yield from beside_transformers(q, k, positions)
    if (package := installed("rotary_embedding_torch")) is not None:
        yield from beside_rotary_embedding_torch(package, q, positions)
    if (package := installed("positional_embeddings_pytorch")) is not None:
        yield from beside_positional_embeddings(package, q, positions)


def beside_transformers(q, k, positions):
    config = LlamaConfig(
        hidden_size=HEADS * DIM,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        max_position_embeddings=len(positions),
    )
    their_tables = llama.LlamaRotaryEmbedding(config).to(q.device)
    our_tables = Angles(pe.frequencies.Geometric(DIM).turns()).to(q.device)
    cos_sin = their_tables(q, positions[None])
    cos, sin = our_tables(positions)

    def ours(q, k):
        return rotate(q, cos, sin, "halves"), rotate(k, cos, sin, "halves")

    def theirs(q, k):
        return llama.apply_rotary_pos_emb(q, k, *cos_sin)

    beside = "transformers"
    yield (
        beside,
        "tables",
        lambda: their_tables(q, positions[None]),
        lambda: our_tables(positions),
    )
    yield beside, "queries and keys", lambda: theirs(q, k), lambda: ours(q, k)
    compiled = [torch.compile(call, fullgraph=True) for call in (theirs, ours)]
    yield (
        beside,
        "queries and keys, compiled",
        lambda: compiled[0](q, k),
        lambda: compiled[1](q, k),
    )
    yield (
        beside,
        "queries, keys and their gradients",
        lambda: with_gradient(theirs, q, k),
        lambda: with_gradient(ours, q, k),
    )
    yarn = pt.YarnEmbedding(DIM, max(2048, len(positions))).to(q.device)
    yield (
        beside,
        "tables, queries and keys (`YarnEmbedding`)",
        lambda: llama.apply_rotary_pos_emb(q, k, *their_tables(q, positions[None])),
        lambda: yarn.rotate_queries_and_keys(q, k),
    )


def beside_rotary_embedding_torch(package, q, positions):
    theirs = package.RotaryEmbedding(DIM).to(q.device)
    tables = Angles(pe.frequencies.Geometric(DIM).turns()).to(q.device)

    def ours(q):
        cos, sin = tables(positions)
        return rotate(q, cos, sin, "adjacent")

    turn = theirs.rotate_queries_or_keys
    beside = "rotary-embedding-torch"
    yield beside, "tables and queries", lambda: turn(q), lambda: ours(q)
    yield (
        beside,
        "tables, queries and their gradients",
        lambda: with_gradient(turn, q),
        lambda: with_gradient(ours, q),
    )
    theirs = package.RotaryEmbedding(DIM, use_xpos=True).to(q.device)
    xpos = pt.XPOS(DIM).to(q.device)
    yield (
        beside,
        "xPos of queries and keys",
        lambda: theirs.rotate_queries_and_keys(q, q),
        lambda: xpos.rotate_queries_and_keys(q, q),
    )


def beside_positional_embeddings(package, q, positions):
    if q.dtype != torch.float32 or q.device.type != "cpu":
        return
    sizes = dict(num_heads=HEADS, head_dim=DIM, embed_dim=HEADS * DIM)
    theirs = package.TransformerXLPositionalEmbedding(**sizes, dropout_p=0.1).eval()
    ours = pt.TransformerXLPositionalEmbedding(**sizes).eval()
    beside = "positional-embeddings-pytorch"
    yield (
        beside,
        "Transformer-XL",
        lambda: theirs(positions, q, q),
        lambda: ours.forward_attn(q, q, positions, positions),
    )
    t5 = package.T5PositionalEmbedding(num_heads=HEADS)
    our_t5 = pt.T5PositionalEmbedding(num_heads=HEADS)
    yield (
        beside,
        "T5",
        lambda: t5(q, q),
        lambda: our_t5.forward_attn(q, q, positions, positions),
    )


def with_gradient(function, *inputs):
    inputs = [x.detach().requires_grad_() for x in inputs]
    results = function(*inputs)
    results = results if isinstance(results, tuple) else (results,)
    return torch.autograd.grad(results, inputs, [x.detach() for x in inputs])


def installed(name):
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def seconds(function, clock, device):
    synchronize = torch.cuda.synchronize if device == "cuda" else lambda: None
    synchronize()
    before = clock()
    function()
    synchronize()
    return clock() - before


if __name__ == "__main__":
    main()
