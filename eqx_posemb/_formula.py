"""LaTeX formulas as plain text for a terminal."""

import re
import textwrap
from collections.abc import Iterator


_SYMBOLS: dict[str, str] = dict(
    alpha="α", beta="β", gamma="γ", delta="δ", zeta="ζ", theta="θ", mu="μ",
    pi="π", rho="ρ", sigma="σ", tau="τ", phi="φ", psi="ψ", omega="ω",
    Gamma="Γ", Delta="Δ", cdot="·", cdots="⋯", dots="…", mapsto="→", times="×",
    le="≤", ge="≥", sim="~", top="T", bmod="mod", langle="⟨", rangle="⟩", lfloor="⌊",
    rfloor="⌋", lceil="⌈", rceil="⌉", sum="Σ", notin="∉", qquad="\t", quad="\t",
    big="", Big="", **{"in": "∈", "lambda": "λ"},
)  # fmt: skip
# A token is a command, an escaped character, space, or any other character.
_TOKEN = re.compile(r"\\[A-Za-z]+|\\.|\s+|.", re.DOTALL)


def readable(prose: str, width: int) -> str:
    """Prose with its formulas as plain text and its links as names, in lines."""
    prose = re.sub(r"\[(`[^`]*`)\]\[\]", r"\1", prose)
    blocks = re.split(r"\$\$(.*?)\$\$", prose, flags=re.DOTALL)
    for i in range(1, len(blocks), 2):
        blocks[i] = _lines(plain(blocks[i]), width - 4)
    blocks[::2] = [_filled(block, width) for block in blocks[::2]]
    return "\n\n".join(filter(None, blocks))


def plain(tex: str) -> str:
    """A formula as lines of text, with tabs between the cells of a row."""
    return _tidy(_sequence(iter(_TOKEN.findall(tex)), ""))


def _lines(formula, width):
    """A formula as an indented block, with the cells of a row in one line if they
    fit."""
    text = formula.replace("\t", "   ")
    if max(map(len, text.split("\n"))) > width:
        # A row that is too wide breaks after the commas between its cells.
        text = formula.replace(",\t", ",\n").replace("\t", "   ")
    lines = (textwrap.fill(x, width, subsequent_indent="  ") for x in text.split("\n"))
    return textwrap.indent("\n".join(lines), "    ")


def _filled(prose, width):
    """Wraps paragraphs and items of lists."""
    prose = re.sub(
        r"\$(.*?)\$", lambda x: plain(x[1]).replace("\t", " "), prose, flags=re.DOTALL
    )
    paragraphs = re.split(r"\n\n(?=\S)", prose.strip())
    return "\n\n".join(
        "\n".join(
            textwrap.fill(
                " ".join(item.split()),
                width,
                subsequent_indent="  " * item.startswith("- "),
                break_on_hyphens=False,
            )
            for item in re.split(r"\n+(?=- )", paragraph)
        )
        for paragraph in paragraphs
    )


def _tidy(text: str) -> str:
    lines = [re.sub(" +", " ", line) for line in text.split("\n")]
    text = "\n".join(filter(None, (re.sub(r" ?\t ?", "\t", x).strip() for x in lines)))
    return re.sub(r"(?<=[⌊⌈⟨(]) | (?=[⌋⌉⟩),;])", "", text)


def _sequence(tokens: Iterator[str], end: str) -> str:
    """The text of all tokens up to `end`."""
    return "".join(_text(token, tokens) for token in _until(end, tokens))


def _until(end, tokens):
    # A formula that lacks `end` stops at its last token.
    return iter(lambda: next(tokens, end), end)


def _text(token: str, tokens: Iterator[str]) -> str:
    if token.isspace():
        return " "
    if token in "^_":
        inner = _argument(tokens)
        return token + (inner if len(inner) == 1 or inner.isalnum() else f"({inner})")
    if token == "{":
        return _sequence(tokens, "}")
    if not token.startswith("\\"):
        return token
    name = token[1:]
    match name:
        case "frac" | "tfrac":
            return f"{_atom(_argument(tokens))}/{_atom(_argument(tokens))}"
        case "text" | "mathrm" | "mathcal":
            return _argument(tokens)
        case "sqrt":
            return f"√{_atom(_argument(tokens))}"
        case "bar":
            return f"{_argument(tokens)}\u0304"
        case "begin":
            return _rows(_argument(tokens), tokens)
        case "!":
            return ""
    return _SYMBOLS.get(name, name if name.isalpha() else " ")


def _argument(tokens):
    """The next token that is not a space, or the group that it opens."""
    return _tidy(_text(next(token for token in tokens if not token.isspace()), tokens))


def _atom(text):
    # A fraction on one line needs parentheses around a compound.
    simple = re.fullmatch(r"[\w.√]+(?:\^\w|\([^()]*\))?|\([^()]*\)", text)
    return text if simple else f"({text})"


def _rows(kind, tokens):
    """The lines of an environment: cases, each with its condition, or formulas."""
    text = "".join(_until("\\end", tokens))
    _argument(tokens)
    lines = []
    for line in text.split("\\\\"):
        value, _, condition = map(_tidy, map(plain, line.partition("&")))
        lines.append(f"{value}\t({condition})" if condition else value)
    if kind != "cases":
        return "\n" + "\n".join(lines)
    return "\n" + "\n".join(f"{{ {line}" for line in lines) + "\n"
