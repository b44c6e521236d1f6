"""Figures within sentences of the README, the documentation and docstrings.

`python -m benchmarks.page` writes them from the files of `benchmarks/results`, and a
test compares them. A sentence that is missing on its page raises an error.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

from benchmarks.report import comparison, result, Row


NUMBER = r"\d(?:[\d,.e-]*\d)?"


class Sentence(NamedTuple):
    """A part of a page, with `{}` for each figure. Spaces may be line breaks."""

    page: str
    text: str
    figures: Callable[[], tuple[str, ...]]

    @property
    def pattern(self) -> re.Pattern[str]:
        """Matches the sentence with any figures: groups are the texts between them."""
        parts = [
            r"\s+".join(map(re.escape, part.split(" ")))
            for part in self.text.split("{}")
        ]
        return re.compile(rf"({f'){NUMBER}('.join(parts)})")


def with_figures(page: str, text: str) -> str:
    """The text of a page, with the figures of its sentences as the files have them."""
    for sentence in SENTENCES:
        if sentence.page != page:
            continue
        figures = sentence.figures()

        def filled(match: re.Match[str], figures=figures) -> str:
            between = match.groups()
            pairs = zip(between, (*figures, ""), strict=True)
            return "".join(part for pair in pairs for part in pair)

        text, count = sentence.pattern.subn(filled, text)
        if count != 1:
            raise ValueError(
                f"{page} must have the sentence {sentence.text!r} once, but has it "
                f"{count} times."
            )
    return text


def only_row(benchmark: str, **where: object) -> Row:
    """The only row of a file that has these values."""
    found = [r for r in result(benchmark).rows if where.items() <= r.items()]
    if len(found) != 1:
        raise ValueError(f"{benchmark} must have one row of {where}: {len(found)}.")
    return found[0]


def power(value: float, places: int = 0) -> str:
    """A figure such as 7e-3."""
    return f"{value:.{places}e}".replace("e-0", "e-").replace("e+00", "")


def errors() -> list[Row]:
    """The rows with the largest errors of a cosine."""
    rows = result("reasons").rows
    return [row for row in rows if row["what"] == "largest error of a cosine"]


def error(library: str, positions: int) -> float:
    """The largest error of a cosine for positions below a number."""
    (found,) = (row for row in errors() if row["positions"] == positions)
    return found[library]


def ours_everywhere() -> tuple[str]:
    return (power(max(row["eqx_posemb"] for row in errors())),)


def off_at_131072() -> tuple[str]:
    return (power(error("transformers", 2**17)),)


def texts(*libraries: str) -> Callable[[], tuple[str, ...]]:
    """MiB of the program that rotates 131,072 positions."""
    size = lambda library: only_row("reasons", what="MiB of the program's text")[
        library
    ]
    short = lambda value: f"{value:.0f}" if value >= 1 else f"{value:.3f}"
    return lambda: tuple(short(size(library)) for library in libraries)


def versions(*libraries: str) -> Callable[[], tuple[str, ...]]:
    """The versions of libraries beside which accuracy was measured."""

    def found() -> tuple[str, ...]:
        words = result("reasons").about.replace(",", " ").replace(";", " ").split()
        return tuple(words[words.index(library) + 1] for library in libraries)

    return found


def over_splash(rows: list[Row]) -> list[float]:
    """The cycles of each kernel, over splash attention's on the same TPU."""
    splash = {row["tpu"]: row["all"] for row in rows if "splash" in row["kernel"]}
    return [row["all"] / splash[row["tpu"]] for row in rows]


def t5_over_splash() -> dict[str, float]:
    """The ratio of each TPU with a bias of T5."""
    rows = result("attention_kernels").rows
    ratios = zip(rows, over_splash(rows), strict=True)
    return {row["tpu"]: ratio for row, ratio in ratios if "T5" in row["kernel"]}


def least_and_most_over_splash() -> tuple[str, str]:
    ratios = t5_over_splash().values()
    return f"{min(ratios):.2f}", f"{max(ratios):.2f}"


def alibi() -> tuple[str, ...]:
    where = {"embedding": "alibi", "length": 8192, "mask": "causal", "pass": "both"}
    found = only_row("attention", **where)
    sizes = (f"{found[name]:,.0f}" for name in ("ours MiB", "jax.nn MiB"))
    return f"{found['ours']:.2f}", *sizes


def eager_bfloat16() -> tuple[str]:
    rows = result("torch_shim").rows
    slowest = min(
        r["ratio"]
        for r in rows
        if (r["beside"], r["dtype"]) == ("transformers", "bfloat16")
        and r["what"] == "queries and keys"
    )
    return (f"{1 / slowest:.1f}",)


def compiled_by_torch() -> tuple[str, ...]:
    of = lambda dtype: [
        r["ratio"]
        for r in result("torch_shim").rows
        if r["what"] == "queries and keys, compiled" and r["dtype"] == dtype
    ]
    found = (of(dtype) for dtype in ("float32", "bfloat16"))
    return tuple(f"{end(ratios):.1f}" for ratios in found for end in (min, max))


def tracing() -> tuple[str, ...]:
    return (f"{max(r['32 over nope'] for r in result('tracing').rows):.2f}",)


def minutes_and_seconds() -> tuple[str, str]:
    of = lambda command: only_row("commands", command=command)["seconds"]
    quick = of("eqx-posemb compare --quick")
    return f"{of('eqx-posemb compare') / 60:.1f}", f"{quick:.0f}"


def training() -> tuple[str, ...]:
    """Million parameters, seeds and steps of the comparison."""
    found = comparison()
    parameters = found["results"]["nope"]["parameters"] / 1e6
    settings = found["settings"]
    return f"{parameters:.1f}", f"{settings['seeds']}", f"{settings['steps']}"


README, CHOOSING = "README.md", "docs/choosing.md"
PERFORMANCE, PRECISION = "docs/guides/performance.md", "docs/guides/precision.md"
SENTENCES = (
    Sentence(
        README,
        "It took {} minutes on two cores, and `--quick` took {} seconds.",
        minutes_and_seconds,
    ),
    Sentence(
        README,
        "rotates 131,072 positions takes {} MiB with Equinox, and {} MiB with this "
        "library.",
        texts("Equinox", "eqx_posemb"),
    ),
    Sentence(
        README,
        "beside Equinox {} and transformers {}.",
        versions("equinox", "transformers"),
    ),
    Sentence(
        README,
        "T5 attention takes {} times the cycles of splash attention, which takes no "
        "bias (compiled for v5e,",
        lambda: (f"{t5_over_splash()['v5e']:.2f}",),
    ),
    Sentence(
        PERFORMANCE,
        "with a trained bias by distance has {} to {} times the cycles of splash",
        least_and_most_over_splash,
    ),
    Sentence(
        PERFORMANCE,
        "takes {} of the time of `jax.nn`, and {} MiB instead of {} MiB",
        alibi,
    ),
    Sentence(
        PERFORMANCE,
        "rotates 131,072 positions has {} MiB of text.",
        texts("eqx_posemb"),
    ),
    Sentence(PERFORMANCE, "it has {} MiB.", texts("Equinox")),
    Sentence(
        PERFORMANCE, "prints these figures, with Equinox {}.", versions("equinox")
    ),
    Sentence(
        PERFORMANCE,
        "takes at most {} times the time of the same layers without position",
        tracing,
    ),
    Sentence(PERFORMANCE, "up to {} times as long as in transformers.", eager_bfloat16),
    Sentence(
        PERFORMANCE,
        "than in transformers: {} to {} times in float32, and {} to {} times in "
        "bfloat16.",
        compiled_by_torch,
    ),
    Sentence(
        PRECISION,
        "are off by up to {} at position 131,072, and by {} at 16 million.",
        lambda: (*off_at_131072(), f"{error('transformers', 2**24):.1f}"),
    ),
    Sentence(
        PRECISION,
        "with Equinox {} and transformers {}:",
        versions("equinox", "transformers"),
    ),
    Sentence(
        "docs/guides/porting.md",
        "At position 131,072 its cosines are off by up to {}.",
        off_at_131072,
    ),
    Sentence(
        "docs/faq.md", "with errors of up to {} at position 131,072.", off_at_131072
    ),
    Sentence(
        CHOOSING,
        "Each model has {} million parameters, and was trained with {} seeds for {} "
        "steps of each task.",
        training,
    ),
    Sentence(
        "eqx_posemb/_rotary/_rotary.py",
        "Angles are exact to {} at every int32 position",
        ours_everywhere,
    ),
    Sentence(
        "eqx_posemb/_rotary/_rotary.py",
        "At position 131,072 the products have cosines that are off by up to {}.",
        lambda: (f"{error('transformers', 2**17):.3f}",),
    ),
    Sentence(
        "eqx_posemb/interop/torch/_patch.py",
        "are off by up to {} at position 131,072 and {} at a million.",
        lambda: tuple(
            f"{error('transformers', n):.{places}f}"
            for n, places in ((2**17, 3), (2**20, 2))
        ),
    ),
)
