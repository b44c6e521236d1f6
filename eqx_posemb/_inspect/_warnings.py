"""What a careful engineer would say of a model's positions."""

from collections.abc import Iterator

from ..interop._configuration import quoted
from ._facts import Facts, NOTICED
from ._words import label_of, layers_of


def warnings_of(facts: Facts) -> list[str]:
    """A sentence or two for each, those that hold for several kinds of layers once."""
    kinds = [kind for kind in facts["kinds"] if kind["attention"]]
    schedules = [part for kind in kinds for part in kind["rotary"] if "dynamic" in part]
    said = [
        f"The key `{key[:80]}` with the value {quoted(value)} is not read for this "
        "model type, and has no part in this report. `load` refuses it; `quirks=True` "
        "ignores it as transformers does."
        for key, value in facts["unread"].items()
    ]
    said += [text for kind in kinds for text in _of_kind(kind)]
    said += [text for part in schedules for text in _of_scaling(part, facts["context"])]
    # Several kinds of layers may have equal warnings, which are shown once.
    return list(dict.fromkeys([*said, *_of_precision(schedules)]))


def _of_kind(kind) -> Iterator[str]:
    name = "The layers"
    if label_of(kind):
        name = f"Layers of the type {kind['layer_type']!r}"
    encoding, bias = kind.get("encoding", {}), kind.get("bias", {})
    if kind["window"]:
        some = kind["window_layers"] != kind["layers"]
        seers = layers_of(kind["window_layers"]) if some else name
        yield (
            f"{seers} attend to {kind['window']:,} keys at most. The window is no part "
            f"of the embedding: give `window={kind['window']}` to `attend`."
        )
    if kind["chunk"]:
        yield (
            f"{name} attend within chunks of {kind['chunk']:,} positions. The chunks "
            "are no part of the embedding: give positions divided by the size of a "
            "chunk to `attend`, as segments."
        )
    if kind["sinks"]:
        yield (
            f"{name} have a sink, a learned logit for each head, which is no part of "
            "the embedding: give it to `attend` as `sinks`. "
            "`huggingface.sinks_from_state_dict` takes it from a checkpoint."
        )
    classes = [part["class"] for part in kind["rotary"]]
    if classes and "Rotary" not in classes:
        yield (
            f"{name} do not rotate. The causal mask and the outputs of other layers "
            "carry the order of tokens."
        )
    if not kind["as_transformers"]:
        yield (
            f"transformers computes something else for {name[0].lower()}{name[1:]} "
            "than the configuration says. A checkpoint that was trained with it needs "
            "`quirks=True` of `load`."
        )
    if encoding.get("class") == "Learned":
        yield (
            f"The table of positions has {encoding['weight'][0] - encoding['offset']:,}"
            " rows. A position beyond the table raises an error."
        )
    if bias.get("class") == "T5Bias":
        yield (
            f"All distances from {bias['max_distance']:,} on are in one bucket. "
            "The bias does not tell apart keys further away."
        )


def _of_scaling(part, context) -> Iterator[str]:
    original, factor = part.get("original_length"), part.get("factor", 1.0)
    if part["dynamic"]:
        yield (
            f"The frequencies depend on the length in use, from {original:,} positions "
            "on: keys that were cached at one length do not fit queries of another. "
            "Cache keys before they are rotated, or fix `length` ahead."
        )
    elif original and context and context > factor * original:
        yield (
            f"The context of {context:,} positions is longer than the {original:,} of "
            f"training times the scaling factor, {factor:g}: the slowest pairs reach "
            "new angles, unless the model was trained further there."
        )


def _of_precision(schedules) -> Iterator[str]:
    errors = [part["float32_error"] for part in schedules if "float32_error" in part]
    if max(errors, default=0) > NOTICED:
        limits = [x["float32_limit"] for x in schedules if "float32_limit" in x]
        yield (
            "Angles from a product in float32, as transformers has them, are off by up "
            f"to {max(errors):.1g} radians at the end of this context, and by more "
            f"than {NOTICED:g} from contexts of {min(limits):,} positions on. Here "
            "they are exact to 1e-7, so logits differ from the logits of transformers."
        )
