"""Materialized logits of some variants compiled for a TPU that is not there, run by
`test_look_up.py` where `libtpu` is installed, in a process of its own."""

import sys

from benchmarks.attention_tpu import attention
from benchmarks.compiled import compiled, loops


SIZES = dict(heads=4, length=1024, head_dim=64)
LOGITS = 4 * 4 * 1024**2
# Of loops over blocks, heads and rows of a window. A loop over queries has 1,024.
TRIPS = 64


def main() -> None:
    for name in sys.argv[1:]:
        # The positions are unknown, so the program has the forms for all positions.
        of = attention(name, "dense", consecutive=False, **SIZES)
        program = compiled("v5e", *of[:1], *of[1])
        trips, memory = loops(program.as_text()), program.memory_analysis()
        assert all(n is not None and n <= TRIPS for n in trips), (name, trips)
        temporaries = memory.temp_size_in_bytes / LOGITS
        assert temporaries <= 4, (name, temporaries)
        print(f"{name} is lean on a TPU: {temporaries:.1f} of the logits", flush=True)


if __name__ == "__main__":
    main()
