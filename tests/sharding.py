"""Embeddings of a sequence and of heads that are sharded, run by `test_ring.py` on
eight devices in a process of its own.

Without checks of values as it runs (`EQX_ON_ERROR=off`): each of them is an exchange
of the positions that it checks, as one device raises the error for all."""

import re
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

from tests.helpers import at, build, DIM, HEAD_DIM, HEADS, LENGTH, NAMES, ROWS, states


N = 8
# What comes out of an exchange, one array or several.
EXCHANGE = re.compile(
    r"= (\(.*?\)|\S+) (?:all-\w+|collective-\w+|reduce-scatter|send|recv)(?:-start)?[(]"
)
SHAPE = re.compile(r"\w+\[[\d,]*\]")
# Whether positions follow each other is known when it runs: a device asks its neighbor
# for one, and all of them whether it is so.
OF_RUNS = {"s32[1]", "pred[]"}
# Scores of consecutive positions are moved into place by one row: the neighbor's.
OF_ONE_ROW = re.compile(rf"f32\[{HEADS // 2},1(,\d+)?\]")


def main(place: str) -> None:
    mesh = jax.make_mesh((2, 4), ("heads", "seq"), axis_types=(AxisType.Auto,) * 2)
    names = [name for name in NAMES if ROWS[name].place == place]
    built = {name: build(name) for name in names}
    arrays, static = eqx.partition(built, eqx.is_array)
    x = jr.normal(jr.key(0), (N, DIM))
    q, k = jr.normal(jr.key(1), (2, HEADS, N, HEAD_DIM))
    p = {name: at(name, jnp.arange(N)) for name in names}

    def of_all(arrays, x, q, k, q_positions, k_positions):
        found = {}
        for name, embedding in eqx.combine(arrays, static).items():
            if place == "encoding":
                found[name] = embedding.embed(x, q_positions[name])
                continue
            found[name] = embedding.logits(
                q,
                k,
                q_positions[name],
                k_positions[name],
                length=LENGTH,
                **states(embedding, jnp.zeros_like(q), jnp.zeros_like(k)),
            )
        return found

    inputs = (arrays, x, q, k, p, p)
    expected = jax.jit(of_all)(*inputs)
    out = P("seq") if place == "encoding" else P("heads", "seq")
    on = lambda spec: NamedSharding(mesh, spec)
    ways = {"sharded": P("seq")} | ({"replicated": P()} if place == "bias" else {})
    for way, of_positions in ways.items():
        specs = (P(), P("seq"), P("heads", "seq"), P("heads"), of_positions, P())
        shardings = tuple(on(spec) for spec in specs)
        call = jax.jit(of_all, in_shardings=shardings, out_shardings=on(out))
        program = call.lower(*inputs).compile()
        results = " ".join(EXCHANGE.findall(program.as_text()))
        exchanges = set(SHAPE.findall(results))
        if place == "score":
            exchanges = {
                shape for shape in exchanges if not OF_ONE_ROW.fullmatch(shape)
            }
        of_runs = place == "score" or (place == "bias" and way == "sharded")
        # Wall asks all devices whether their queries come after every key.
        allowed = {"pred[]"} if place == "rotary" else set()
        assert exchanges == (OF_RUNS if of_runs else allowed), exchanges
        placed = zip(inputs, shardings, strict=True)
        found = program(*(jax.device_put(x, sharding) for x, sharding in placed))
        for name in names:
            a, b = np.asarray(found[name]), np.asarray(expected[name])
            # The laws' bound on rounding, for the order of sums may differ.
            assert np.abs(a - b).max() <= 8 * 2**-23 * max(20, np.abs(b).max()), name
        print(f"{place}: {len(names)} variants, positions {way}, as on one device")


if __name__ == "__main__":
    for place in sys.argv[1].split(","):
        main(place)
