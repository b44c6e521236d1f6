"""Extending the context of a trained model: train short, extend, measure.

Trains the GPT of `gpt.py` with a rotary embedding on windows of 64 bytes, and reads
texts of four times that: as it is, with its frequencies scaled in three ways, and with
YaRN after a little more training at the new length. Only the embedding changes. It has
no parameters, so the model keeps all of its weights.

    pip install -e . optax
    python examples/context_extension.py
"""

import equinox as eqx
import jax.random as jr
from gpt import GPT, HEADS, held_out, LENGTH, make, train, WIDTH

import eqx_posemb as pe


FACTOR = 4
STRETCHES = {
    "linear_rope": dict(factor=FACTOR),
    "ntk_rope": dict(factor=FACTOR),
    "yarn": dict(factor=FACTOR, original_length=LENGTH),
}


def extended(model: GPT, name: str) -> GPT:
    """The trained model with another embedding."""
    sizes = dict(heads=HEADS, head_dim=WIDTH // HEADS, dim=WIDTH, length=LENGTH)
    position = pe.make(name, **sizes, key=jr.key(0), **STRETCHES[name])
    return eqx.tree_at(lambda model: model.position, model, position)


def main(steps: int = 400, more: int = 40) -> None:
    model = train(make("rope"), steps)
    short, long = held_out(model, LENGTH), held_out(model, FACTOR * LENGTH)
    print(f"trained on {LENGTH} bytes: {short:.2f} bits per byte")
    print(f"read at {FACTOR * LENGTH}, as it is: {long:.2f}")
    found = {
        name: held_out(extended(model, name), FACTOR * LENGTH) for name in STRETCHES
    }
    for name, bits in found.items():
        print(f"read at {FACTOR * LENGTH}, {name}: {bits:.2f}")
    tuned = train(extended(model, "yarn"), more, length=FACTOR * LENGTH, rate=1e-3)
    after = held_out(tuned, FACTOR * LENGTH)
    print(f"read at {FACTOR * LENGTH}, yarn and {more} steps more: {after:.2f}")
    assert after < long
    # The same weights read otherwise with each of them.
    assert len({long, *found.values()}) == 1 + len(STRETCHES)


if __name__ == "__main__":
    main()
