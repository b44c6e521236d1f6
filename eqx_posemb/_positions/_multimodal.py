"""Positions of text, images and videos in a row."""

import math
from collections.abc import Sequence
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .._checks import check_between, check_choice, check_positive, require
from .._given import as_positions, check_integers


def mrope_positions(
    runs: Sequence[int | tuple[int, int, int] | tuple[int, int, int, float]],
    *,
    start: int = 0,
    advance: Literal["largest", "space", "time"] = "largest",
    layout: Literal["corner", "diagonal", "reset"] = "corner",
) -> Int[Array, "seq 3"]:
    """Time, height and width of the tokens of text, images and videos in a row.

    Text has three times the same coordinate and counts on. An image or a video begins
    where the text before it has ended, and counts along its own axes from there. What
    follows begins after the largest coordinate so far.

    `layout` places an image that begins at $s$ and has $H$ rows and $W$ columns:

    | `layout` | time | row $y$ | column $x$ |
    |---|---|---|---|
    | `"corner"` | $s + t$ | $s + y$ | $s + x$ |
    | `"diagonal"` | $s + t$ | $s + t + y - (H - 1) // 2$ | the same for $x$ and $W$ |
    | `"reset"` | $s + t$ | $y$ | $x$ |

    M-RoPE has the corner. VideoRoPE has the diagonal, where the middle of each frame is
    as far from the text before it as a token of text, with `advance="time"`.
    MRoPE-I and Omni-RoPE have the reset, which counts rows and columns alike in every
    image. Tokens at the same place of two images then differ in time alone.

    !!! Example

        ```python
        import eqx_posemb as pe

        # Two tokens of text, an image of 1 x 2 x 2 tokens, one more of text.
        positions = pe.positions.mrope_positions([2, (1, 2, 2), 1])
        assert positions[2:].tolist() == [
            [2, 2, 2], [2, 2, 3], [2, 3, 2], [2, 3, 3], [4, 4, 4],
        ]
        ```

    **Arguments:**

    - `runs`: a number of tokens for text, or (frames, rows, columns) in merged tokens
        for an image or a video. A fourth number is the time between frames, if it is
        not 1. Qwen2.5-VL has `tokens_per_second * seconds_per_grid` there. Qwen3-VL has
        a run for each frame, and the text of its time between the frames.
    - `start`: where the first run begins: for decoding, one more than the largest
        coordinate so far.
    - `advance`: `"largest"` continues after the largest coordinate, as in the paper.
        `"space"` continues after the larger of height and width, as in transformers
        5.23.0. A long video then shares coordinates with the text after it. `"time"`
        continues after the last frame, as in VideoRoPE.
    - `layout`: `"corner"`, `"diagonal"` or `"reset"`.

    **Returns:** positions, int32.

    **Raises:** a `ValueError` if a run is neither, if `advance` or `layout` is unknown,
    if `start` is no integer, or if a position is beyond int32.

    ??? cite "Reference"

        [Qwen2-VL: Enhancing Vision-Language Model's Perception of the World at Any
        Resolution](https://arxiv.org/abs/2409.12191), Section 2.1. The diagonal is from
        [VideoRoPE: What Makes for Good Video Rotary Position
        Embedding?](https://arxiv.org/abs/2502.05173), and the reset from [OmniGen2:
        Exploration to Advanced Multimodal
        Generation](https://arxiv.org/abs/2506.18871) and [Revisiting Multimodal
        Positional Encoding in Vision-Language
        Models](https://arxiv.org/abs/2510.23095).
    """
    check_choice("advance", advance, ("largest", "space", "time"))
    check_choice("layout", layout, ("corner", "diagonal", "reset"))
    _check_runs(runs)
    # The empty part gives the shape of a result without runs.
    parts, first = [np.zeros((0, 3), np.int64)], _first(start)
    start = first
    for run in runs:
        steps, rows, columns = _run(run)
        largest, last = int(steps.max(initial=-1)), int(steps[:, 0].max(initial=-1))
        taken = {"largest": largest + 1, "space": max(rows, columns), "time": last + 1}
        if isinstance(run, int) or layout == "corner":
            parts.append(steps + start)
        elif layout == "reset":
            parts.append(steps + np.array([start, 0, 0]))
        else:
            middle = np.array([0, (rows - 1) // 2, (columns - 1) // 2])
            # Each frame moves its rows and columns along, so frames lie
            # on a diagonal.
            time = steps[:, :1] * np.array([0, 1, 1])
            parts.append(steps + time - middle + start)
        start += largest + 1 if isinstance(run, int) else taken[advance]
    positions = np.concatenate(parts)
    narrow = positions.astype(np.int32)
    if not np.array_equal(narrow, positions):
        raise ValueError(
            f"`start` must leave all positions within int32, but got {first}, and so a "
            f"position of {positions.max()}."
        )
    return jnp.asarray(narrow)


def v2pe_positions(
    runs: Sequence[int | tuple[int, int, int]], *, span: float, start: int = 0
) -> Float[Array, " seq"]:
    r"""V2PE, Ge et al. 2024: counts the tokens of images in small steps.

    $$p_i = p_0 + i\, \frac{S}{n}, \qquad i = 1, \dots, n$$

    for the $n$ tokens of an image after position $p_0$, and $S$ = `span`. Tokens of
    text are one apart, and continue after the next whole number. A long video then
    stays within the positions of training.

    !!! Example

        ```python
        import eqx_posemb as pe

        # Two tokens of text, an image of 1 x 2 x 2 tokens, one more of text.
        positions = pe.positions.v2pe_positions([2, (1, 2, 2), 1], span=1.0)
        assert positions.tolist() == [0.0, 1.0, 1.25, 1.5, 1.75, 2.0, 3.0]
        ```

    **Arguments:**

    - `runs`: a number of tokens for text, or (frames, rows, columns) in merged tokens
        for an image or a video.
    - `span`: the positions that an image takes. The number of its tokens times the step
        between them.
    - `start`: where the first run begins.

    **Returns:** positions in JAX's default float dtype, for a rotary embedding of one
    coordinate.

    **Raises:** a `ValueError` if a run is neither, or if `span` is not positive.

    ??? cite "Reference"

        [V2PE: Improving Multimodal Long-Context Capability of Vision-Language Models
        with Variable Visual Position Encoding](https://arxiv.org/abs/2412.09616),
        Section 3.2; the continuation as in a later implementation of it.

        ```bibtex
        @misc{ge2024v2pe,
            author={Ge, Junqi and Chen, Ziyi and Lin, Jintao and Zhu, Jinguo and Liu,
                    Xihui and Dai, Jifeng and Zhu, Xizhou},
            title={{V2PE}: Improving Multimodal Long-Context Capability of
                   Vision-Language Models with Variable Visual Position Encoding},
            howpublished={arXiv:2412.09616},
            year={2024},
        }
        ```
    """
    check_positive("span", span)
    as_positions(start, "start")
    _check_runs(runs)
    parts: list[np.ndarray] = [np.zeros(0)]
    last = start - 1
    for run in runs:
        count = len(_run(run)[0])
        # Text counts in ones, and all tokens of an image share one span.
        step = 1.0 if isinstance(run, int) or not count else span / count
        parts.append(last + step * np.arange(1.0, count + 1))
        # The text after an image continues at a whole position.
        last += math.ceil(step * count)
    return jnp.asarray(np.concatenate(parts), jnp.result_type(float))


def circle_positions(
    runs: Sequence[int | tuple[int, int, int] | tuple[int, int, int, float]],
    *,
    radius: float = 10.0,
    share: float = 0.5,
    start: float = 0,
) -> Float[Array, "seq 3"]:
    r"""Circle-RoPE, Wang et al. 2025: places the tokens of an image on a circle.

    The circle is orthogonal to the line of text, $(1, 1, 1)$, and its middle is where
    the text before the image has ended. So a token of text is equally far from all
    tokens of an image:

    $$(t, y, x) = s + r \cos \phi\, \frac{(0, 1, -1)}{\sqrt 2}
      + r \sin \phi\, \frac{(2, -1, -1)}{\sqrt 6}$$

    for the `start` $s$ of the image, $r$ = `radius`, and an angle that mixes two
    angles, $\phi = \alpha \phi_1 + (1 - \alpha) \phi_2$ with $\alpha$ = `share`. The
    first is the direction of the cell from the middle of the image, stretched to a
    whole turn. The second is $2 \pi i / n$ for cell $i$ of $n$, row by row. Later
    frames of a video move along the line of text. What follows begins one after the
    largest coordinate so far, which need not be a whole number.

    The authors alternate: every second layer has these positions, from the first on.
    The other layers have [`eqx_posemb.positions.mrope_positions`][].

    !!! Example

        ```python
        import jax.numpy as jnp
        import eqx_posemb as pe

        # Two tokens of text, an image of 1 x 2 x 3 tokens, one more of text.
        positions = pe.positions.circle_positions([2, (1, 2, 3), 1])
        distances = jnp.linalg.norm(positions[2:8] - positions[1:2], axis=1)
        assert jnp.allclose(distances, distances[0])
        ```

    **Arguments:**

    - `runs`: as in [`eqx_posemb.positions.mrope_positions`][].
    - `radius`: the radius of the circle, in positions.
    - `share`: how much the direction of a cell counts, from 0 to 1.
    - `start`: where the first run begins: for decoding, one more than the largest
        coordinate so far.

    **Returns:** positions in JAX's default float dtype, for
    [`eqx_posemb.mrope`][].

    **Raises:** a `ValueError` if a run is neither, if `radius` is not positive, or if
    `share` is not between 0 and 1.

    ??? cite "Reference"

        [Circle-RoPE: Cone-like Decoupled Rotary Positional Embedding for Large
        Vision-Language Models](https://arxiv.org/abs/2505.16416), Section 3; frames of
        videos as in a later implementation of it.

        ```bibtex
        @misc{wang2025circle,
            author={Wang, Chengcheng and Guo, Jianyuan and Li, Hongguang and Tian,
                    Yuchuan and Nie, Ying and Xu, Chang and Han, Kai},
            title={{Circle-RoPE}: Cone-like Decoupled Rotary Positional Embedding for
                   Large Vision-Language Models},
            howpublished={arXiv:2505.16416},
            year={2025},
        }
        ```
    """
    check_positive("radius", radius)
    check_between("share", share, 0, 1)
    _check_runs(runs)
    as_positions(start, "start")
    parts = [np.zeros((0, 3))]
    for run in runs:
        steps, rows, columns = _run(run)
        if not isinstance(run, int):
            angle = _angles(steps, rows, columns, share)
            across, up = np.array([0, 1, -1]) / 2**0.5, np.array([2, -1, -1]) / 6**0.5
            ring = np.cos(angle)[:, None] * across + np.sin(angle)[:, None] * up
            steps = steps[:, :1] + radius * ring
        parts.append(start + steps)
        start = parts[-1].max(initial=start - 1) + 1
    return jnp.asarray(np.concatenate(parts), jnp.result_type(float))


def _angles(steps, rows, columns, share):
    """The angle of each token on the circle of its frame."""
    y, x = steps[:, 1] - (rows - 1) / 2, steps[:, 2] - (columns - 1) / 2
    direction = np.arctan2(y, x)
    # A single token has one direction, which cannot be stretched.
    if direction.any():
        direction -= direction.min()
        direction *= 2 * math.pi / direction.max()
    index = steps[:, 1] * columns + steps[:, 2]
    turn = 2 * math.pi / max(rows * columns, 1)
    return share * direction + (1 - share) * turn * index


def _first(start) -> int:
    given = jnp.asarray(as_positions(start, "start"))
    check_integers("start", given, "as text counts in ones")
    return int(start)


def _check_runs(runs):
    rule = "be a sequence, such as [3, (1, 2, 2)]"
    require(isinstance(runs, Sequence), "runs", rule, runs)


def _run(run) -> tuple[Int[np.ndarray, "seq 3"], int, int]:
    """The coordinates of a run from zero, and its numbers of rows and columns."""
    if isinstance(run, int) and run >= 0:
        return np.repeat(np.arange(run)[:, None], 3, axis=1), run, run
    if not isinstance(run, tuple) or len(run) not in (3, 4) or min(run) < 0:
        raise ValueError(
            "`runs` must be numbers of tokens of text, or (frames, rows, columns) or "
            "(frames, rows, columns, interval) of images and videos, but got "
            f"{run!r}."
        )
    frames, rows, columns = run[:3]
    interval = run[3] if len(run) == 4 else 1
    steps = np.indices((frames, rows, columns)).reshape(3, -1).T
    # Qwen2.5-VL truncates times to whole positions.
    steps[:, 0] = np.floor(steps[:, 0] * interval)
    return steps, rows, columns
