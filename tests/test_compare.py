"""The experiment behind `eqx_posemb.compare`, piece by piece."""

import dataclasses
import json
import os
import subprocess
import sys
import textwrap

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import eqx_posemb as pe


pytest.importorskip("matplotlib")
pytest.importorskip("optax")

from eqx_posemb._compare import _tasks, _text
from eqx_posemb._compare._entries import bounded, EMBEDDINGS, entries, Sizes
from eqx_posemb._compare._evaluate import BEYOND, Evaluation, hardly_learnt, NOT_FINITE
from eqx_posemb._compare._extensions import EXTENSIONS
from eqx_posemb._compare._model import at, forward, score
from eqx_posemb._compare._programs import Programs
from eqx_posemb._compare._settings import Settings
from eqx_posemb._compare._train import State, Training, untrained
from eqx_posemb._compare._weights import Weights


TINY = Settings(
    tasks=("text",), length=8, steps=3, batch=2, dim=16, heads=2, depth=2, passages=2
)
TRAINED = [name for name in EMBEDDINGS if "+" not in name]
MULTIPLES = TINY.multiples
NOTHING = lambda *_: None


def entry(given):
    (found,) = entries(given)
    return found


@pytest.fixture(scope="module")
def text():
    content = np.random.default_rng(0).integers(256, size=2000, dtype=np.uint8)
    return _text.Text(content[:1500], content[1500:], "noise", ("a",), ("b",))


@pytest.fixture(scope="module")
def task(text):
    return _tasks.tasks(TINY, text)[0]


@pytest.fixture(scope="module")
def tiny(task):
    return lambda name, **changes: untrained(
        entry(name).build, dataclasses.replace(TINY, **changes), task
    )


def of_first_seed(models):
    return jax.tree.map(lambda x: x[0] if eqx.is_array(x) else x, models)


@eqx.filter_jit
def logits_of(model, tokens, positions):
    there = at(model.embedding, positions, TINY.dim)
    return forward(model.weights, there, tokens[None], TINY.heads)[0]


@pytest.mark.parametrize("name", TRAINED)
def test_permuting_tokens_with_their_positions_permutes_the_logits(name, tiny):
    model = of_first_seed(tiny(name))
    content, positions = jr.randint(jr.key(0), (8,), 0, 256), jnp.arange(8)
    order = jnp.array([5, 2, 7, 0, 1, 6, 3, 4])
    logits = logits_of(model, content, positions)
    permuted = logits_of(model, content[order], positions[order])
    # Two blocks of sums over 16 and 64 channels, in another order.
    np.testing.assert_allclose(permuted, logits[order], atol=2e-5)
    unmoved = logits_of(model, content[order], positions)
    assert jnp.max(jnp.abs(unmoved - logits[order])) > 0.05


@pytest.mark.parametrize("name", ["rope", "cope", "path", "wall", "forgetting"])
def test_no_logit_depends_on_a_byte_that_comes_later(name, tiny):
    model = of_first_seed(tiny(name))
    content = jr.randint(jr.key(0), (8,), 0, 256)
    other = content.at[5].set((content[5] + 1) % 256)
    a, b = (logits_of(model, x, jnp.arange(8)) for x in (content, other))
    np.testing.assert_array_equal(a[:5], b[:5])
    assert jnp.max(jnp.abs(a[5:] - b[5:]), axis=1).min() > 1e-3


@pytest.mark.parametrize(
    "name, count, start", [("wall", 16, 8.0), ("forgetting", 2, 0)]
)
def test_each_block_has_a_gate_that_makes_its_positions(name, count, start, tiny):
    model = of_first_seed(tiny(name))
    gate = model.weights.gate
    np.testing.assert_array_equal(gate.bias, np.full((TINY.depth, count), start))
    assert not np.array_equal(gate.weight[0], gate.weight[1])
    content, positions = jr.randint(jr.key(0), (8,), 0, 256), jnp.arange(8)
    logits = logits_of(model, content, positions)
    for block in range(TINY.depth):
        bias = gate.bias.at[block].add(-4)
        other = eqx.tree_at(lambda m: m.weights.gate.bias, model, bias)
        moved = logits_of(other, content, positions) - logits
        assert jnp.abs(moved[1:]).max() > 1e-3


@pytest.mark.parametrize("name", TRAINED)
def test_the_first_weights_are_the_same_around_every_embedding(name, tiny):
    model, rope = tiny(name), tiny("rope")
    np.testing.assert_array_equal(model.weights.tokens, rope.weights.tokens)
    np.testing.assert_array_equal(model.weights.readout, rope.weights.readout)
    np.testing.assert_array_equal(model.weights.narrow, rope.weights.narrow)
    scale = 8**-0.5 if model.embedding.scale is None else model.embedding.scale
    query, of_rope = (x.weights.attention[..., :16] for x in (model, rope))
    np.testing.assert_allclose(scale * query, 8**-0.5 * of_rope, rtol=1e-6)


def test_a_model_that_knows_nothing_pays_eight_bits_for_each_answer():
    answers = jnp.array([[3, -1, 5], [-1, -1, -1]])
    found = score(jnp.zeros((2, 3, 256)), answers)
    assert float(found.bits) == pytest.approx(16, rel=1e-6)
    assert [float(x) for x in found[1:]] == [2, 0, 0]


def test_a_text_is_complete_if_all_its_answers_are_the_likeliest_tokens():
    answers = jnp.array([[1, -1], [1, 0], [-1, -1]])
    logits = jnp.broadcast_to(jnp.array([0.0, 1.0]), (3, 2, 2))
    found = score(logits, answers)
    assert [float(x) for x in found[1:]] == [3, 2, 1]


def trained(model, settings, task, after=NOTHING):
    training = Training(settings, task, Programs())
    return training.run(training.start(model), after)


def test_seeds_that_are_trained_together_are_those_of_a_seed_each(tiny, task):
    together = dataclasses.replace(TINY, seeds=2)
    both = trained(tiny("kerple", seeds=2), together, task)
    for seed in (0, 1):
        alone = dataclasses.replace(TINY, seed=seed)
        one = trained(tiny("kerple", seed=seed), alone, task)
        losses = np.array(both.losses)[:, [seed]]
        np.testing.assert_allclose(losses, one.losses, rtol=1e-5)
        weight = both.model.embedding.bias.raw_a[seed]
        np.testing.assert_allclose(weight, one.model.embedding.bias.raw_a[0], rtol=1e-4)


def test_a_training_that_was_stopped_goes_on_to_the_last_bit(tiny, task, tmp_path):
    states = []
    whole = trained(tiny("t5"), TINY, task, states.append)
    assert [len(state.losses) for state in states] == [1, 3]
    training = Training(TINY, task, Programs())
    start = training.start(tiny("t5", seed=1))
    weights = Weights(tmp_path / "w.eqx", {"seed": 0})
    weights.save(states[0], finished=False)
    loaded = weights.load(start)
    assert loaded is not None and loaded.losses == states[0].losses
    again = training.run(loaded, NOTHING)
    assert again.losses == whole.losses
    assert eqx.tree_equal(again.model, whole.model)


def test_weights_are_of_use_only_to_what_they_were_trained_for(tiny, tmp_path):
    weights = Weights(tmp_path / "w.eqx", {"seed": 0})
    state = State(tiny("t5"), None, [[2.0]])
    other = State(tiny("t5", seed=1), None, [])
    assert weights.load(other) is None
    weights.save(state, finished=True)
    loaded = weights.load(other)
    assert loaded is not None and loaded.losses == [[2.0]]
    assert eqx.tree_equal(loaded.model, state.model)
    assert Weights(weights.path, {"seed": 1}).load(other) is None
    weights.path.write_bytes(b"not weights\n")
    assert weights.load(other) is None


@pytest.mark.parametrize("rate", [10.0, 1.0])
def test_the_parameters_of_an_embedding_learn_faster_by_the_rate(rate, tiny, task):
    settings = dataclasses.replace(TINY, steps=1, position_rate=rate)
    model = tiny("t5")
    found = trained(model, settings, task).model
    weights = [lambda m: m.embedding.bias.weight, lambda m: m.weights.readout]
    moved = [jnp.max(jnp.abs(w(found) - w(model))) for w in weights]
    # The first step of Adam is the learning rate, but for its epsilon.
    np.testing.assert_allclose(moved, [0.003 * rate, 0.003], rtol=1e-2)


def test_a_batch_is_windows_of_the_training_text(text, task):
    settings = dataclasses.replace(TINY, batch=5)
    tokens, answers = task.batch(settings, 3, 1)
    assert tokens.shape == answers.shape == (5, 8)
    np.testing.assert_array_equal(tokens[:, 1:], answers[:, :-1])
    content = text.training.tobytes()
    assert all(bytes(window.tolist()) in content for window in tokens)
    assert not np.array_equal(tokens, task.batch(settings, 4, 1)[0])
    assert not np.array_equal(tokens, task.batch(settings, 3, 2)[0])
    np.testing.assert_array_equal(tokens, task.batch(settings, 3, 1)[0])


@pytest.mark.parametrize("multiple", MULTIPLES)
def test_the_predicted_bytes_are_the_same_at_every_length(text, multiple):
    (passage, _) = _text.passages(text, length=128, most=2)
    tokens, answers = _text.windows(passage, 8 * multiple)
    assert tokens.shape == (16 // multiple, 8 * multiple)
    np.testing.assert_array_equal(answers.reshape(-1), passage[1:])
    np.testing.assert_array_equal(tokens.reshape(-1), passage[:-1])


def test_passages_are_spread_over_the_held_out_text(text):
    passages = _text.passages(text, length=128, most=2)
    np.testing.assert_array_equal(passages[0], text.held_out[:129])
    np.testing.assert_array_equal(passages[1], text.held_out[-129:])
    assert _text.evaluated(text, 128, 2) == 256
    # 500 bytes have three passages of 128.
    assert _text.passages(text, length=128, most=100).shape == (3, 129)


RETRIEVAL = Settings(
    tasks=("recall", "copy", "passkey"), length=128, batch=2, passages=1
)


def example_of(name, multiple=2):
    task = next(t for t in _tasks.tasks(RETRIEVAL, None) if t.name == name)
    tokens, answers = next(task.tests(RETRIEVAL, multiple))
    assert tokens.shape == answers.shape == (16 // multiple, 32 * multiple)
    assert 0 <= tokens.min() and tokens.max() < task.vocabulary
    # An answer is the next token, which the model has not read.
    there = answers[:, :-1] >= 0
    np.testing.assert_array_equal(tokens[:, 1:][there], answers[:, :-1][there])
    return tokens.tolist(), answers.tolist()


def test_recall_asks_once_for_the_value_of_each_key():
    for tokens, answers in zip(*example_of("recall"), strict=True):
        pairs = dict(zip(tokens[0:8:2], tokens[1:8:2], strict=True))
        asked = [i for i, answer in enumerate(answers) if answer >= 0]
        assert {tokens[i]: answers[i] for i in asked} == pairs
        assert len(asked) == len(pairs) == 4 and min(asked) >= 8
        assert sum(token > 0 for token in tokens) == 16


def test_copying_repeats_the_string_behind_the_mark():
    for tokens, answers in zip(*example_of("copy"), strict=True):
        assert tokens[32] == 1 and answers[:32] == [-1] * 32
        assert answers[32:] == tokens[:32]


def test_the_passkey_stands_once_in_the_noise_and_is_asked_for_at_the_end():
    for tokens, answers in zip(*example_of("passkey"), strict=True):
        first, last = (i for i, token in enumerate(tokens) if token == 1)
        assert last == 58 and first + 5 < last
        key = tokens[first + 1 : first + 6]
        assert answers[last:-1] == key and max(key) < 12
        assert all(token >= 12 for token in tokens[:first] + tokens[first + 6 : last])


def test_learned_positions_are_not_tested_beyond_their_table(tiny, task):
    test, models = Evaluation(TINY, task, Programs()), tiny("learned")
    assert len(test.run(models, entry("learned"), 1, NOTHING)) == 1
    for multiple in MULTIPLES[1:]:
        assert test.run(models, entry("learned"), multiple, NOTHING) == BEYOND


def test_the_end_of_a_custom_embedding_is_found(tiny, task):
    built = {"mine": lambda sizes, key: pe.Learned(sizes.length, sizes.dim, key=key)}
    found = Evaluation(TINY, task, Programs()).run(
        tiny("learned"), entry(built), 2, NOTHING
    )
    assert found == BEYOND
    within = pe.tupe(8, 8, 2, 4, key=jax.random.key(0))
    assert bounded(pe.PositionalEmbedding(bias=within))
    assert not bounded(pe.make("t5", heads=2, dim=16, key=jax.random.key(0)))


@pytest.mark.parametrize(
    ("name", "recipe"),
    [
        ("linear", lambda: pe.linear_rope(8, factor=4.0)),
        ("ntk", lambda: pe.ntk_rope(8, factor=4.0)),
        (
            "dynamic",
            lambda: pe.dynamic_ntk_rope(8, factor=1.0, original_length=64),
        ),
        ("yarn", lambda: pe.yarn(8, factor=4.0, original_length=64)),
        ("llama3", lambda: pe.llama3_rope(8, factor=4.0, original_length=64)),
        (
            "longrope",
            lambda: pe.longrope(
                8,
                short_factor=(1.0,) * 4,
                long_factor=[4 ** (i / 3) for i in range(4)],
                original_length=64,
                factor=4.0,
            ),
        ),
        ("rerope", lambda: pe.ReRoPE(pe.rope(8), window=32)),
        ("self_extend", lambda: pe.SelfExtend(pe.rope(8), group=5, window=16)),
        ("dual_chunk", lambda: pe.DualChunk(pe.rope(8), chunk=64, window=16)),
    ],
)
def test_an_extension_is_the_recipe_of_its_name(name, recipe):
    found = entry(f"rope+{name}")
    assert found.base == "rope" and found.source
    rope = pe.PositionalEmbedding(rotary=pe.rope(8))
    assert found.at(rope, 4, 64) == pe.PositionalEmbedding(rotary=recipe())


def test_every_extension_is_compared_with_its_recipe():
    (mark,) = vars(test_an_extension_is_the_recipe_of_its_name)["pytestmark"]
    assert {case[0] for case in mark.args[1]} == set(EXTENSIONS)


def test_an_extension_is_the_trained_model_with_another_rotation(tiny, task):
    test, models = Evaluation(TINY, task, Programs()), tiny("rope")
    plain = test.run(models, entry("rope"), 4, NOTHING)
    linear = test.run(models, entry("rope+linear"), 4, NOTHING)
    at_training_length = test.run(models, entry("rope+linear"), 1, NOTHING)
    assert at_training_length == test.run(models, entry("rope"), 1, NOTHING)
    slowed = pe.PositionalEmbedding(rotary=pe.linear_rope(8, factor=4.0))
    by_hand = entry({"rope": slowed})
    replaced = eqx.tree_at(lambda m: m.embedding, models, slowed)
    assert linear == test.run(replaced, by_hand, 4, NOTHING) != plain


def test_embeddings_at_positions_of_one_structure_share_programs(tiny, task):
    programs = Programs()
    test = Evaluation(TINY, task, programs)
    for name, structures in (
        ("rope", 1), ("rope+yarn", 1), ("sinusoidal", 2), ("learned", 2)
    ):  # fmt: skip
        test.prepare(tiny(name.split("+")[0]), entry(name))
        assert len(programs._programs) == structures * len(MULTIPLES), name


def test_a_result_that_is_not_finite_is_not_a_number_in_the_table(tiny, task):
    readout = jnp.full((1, 16, 256), jnp.nan)
    broken = eqx.tree_at(lambda m: m.weights.readout, tiny("nope"), readout)
    found = Evaluation(TINY, task, Programs()).run(broken, entry("nope"), 1, NOTHING)
    assert found == NOT_FINITE


def test_a_model_has_hardly_learnt_if_the_loss_of_a_seed_stays_high(task):
    low, high = [[9.0, 9.0], [4.0, 4.0]], [[9.0, 9.0], [4.0, 4.3]]
    assert task.threshold == 4.2
    assert [hardly_learnt(losses, task) for losses in (low, high)] == [False, True]


@pytest.mark.parametrize("length", [8, 32, 64, 128, 512])
def test_no_distance_falls_into_a_bucket_of_t5_that_was_not_trained(length):
    bias = entry("t5").build(Sizes(2, 8, 16, length), jr.key(0)).bias
    trained = set(bias.buckets(-jnp.arange(length)).tolist())
    assert set(bias.buckets(-jnp.arange(16 * length)).tolist()) == trained
    assert len(trained) > length // 8 or length > 128


def run(code, devices=1):
    flags = f"--xla_force_host_platform_device_count={devices}"
    found = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {flags}"},
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stderr
    return found.stdout


def test_the_library_imports_nothing_of_it():
    code = """
        import sys
        import eqx_posemb as pe
        pe.rope, pe.compare
        found = [m for m in ("optax", "matplotlib", "eqx_posemb._compare._run")
                 if m in sys.modules]
        print(found)
    """
    assert run(code) == "[]\n"


def test_devices_share_a_batch_that_they_do_not_divide_and_losses_agree():
    code = """
        import json
        import eqx_posemb as pe
        found = pe.compare(
            {"learned": "learned", "alibi": "alibi"}, text=bytes(range(256)) * 8,
            tasks=["text"], length=8, multiples=[1, 2], steps=3, batch=3, dim=8,
            heads=2, depth=1, passages=3, progress=False,
        ).results
        kept = [(r["scores"], r["training_loss"]) for r in found["results"].values()]
        print(json.dumps([found["platform"]["devices"], kept]))
    """
    (alone, expected), (shared, got) = (json.loads(run(code, n)) for n in (1, 4))
    assert (alone, shared) == ("1 × cpu", "4 × cpu")
    flat = lambda tree: [x for x in jax.tree.leaves(tree) if isinstance(x, float)]
    np.testing.assert_allclose(flat(got), flat(expected), rtol=1e-5)
    assert jax.tree.structure(got) == jax.tree.structure(expected)
