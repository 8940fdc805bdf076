"""What a page says that its code gives, beside what it gives.

A text block is what the block before it prints, a Python one or a command, unless a heading is between; "..." stands for
any lines. A comment that begins with a number, a bracket or a quote, behind a print or an expression that isn't indented, is
what that gives; from a colon or semicolon on it is prose. Words and whole numbers are to be the same. Other numbers may
differ by their rounding: a last digit may tip on another machine.
"""

import ast
import io
import re
import shlex
import sys
import tokenize
from contextlib import redirect_stdout, suppress
from decimal import Decimal
from itertools import pairwise
from unittest.mock import patch

from neuronpath.cli import main as cli

FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"[-+]?\d+(?:\.\d*)?(?:e[-+]\d+)?")
STATED = re.compile(r"# ?([-\d(\[\"'][^:;]*)")
DRESS = re.compile(r"tensor|torch\.Size|[][(),'\"]")  # a list, a shape and a tensor of the same numbers are alike
COMMANDS = {"find-path": cli.find_path_main, "neuronpath": cli.main}


def stale(page: str, scope: dict) -> list[str]:
    """What a page says that its Python blocks, which are run in `scope`, and its commands don't give."""
    found = []
    for block, following in pairwise([*FENCE.finditer(page), None]):
        kind, code = block.groups()
        is_output = following and following[1] == "text" and "\n#" not in page[block.end() : following.start()]
        printed = None
        if kind == "python":
            printed, wrong = run(code, scope)
            found += wrong
        elif kind == "bash" and is_output:
            printed = command(code)
        if is_output and printed is not None:
            found += lines_apart(following[2], printed)
    return found


def run(code: str, scope: dict) -> tuple[str, list[str]]:
    """What a block prints, and its comments that state another value than the one that comes out."""
    tokens = tokenize.generate_tokens(io.StringIO(code).readline)
    comments = {token.start[0]: token.string for token in tokens if token.type == tokenize.COMMENT}
    printed, wrong = "", []
    for node in ast.parse(code).body:
        value = None
        with redirect_stdout(io.StringIO()) as out:
            if isinstance(node, ast.Expr):
                value = eval(compile(ast.Expression(node.value), "<page>", "eval"), scope)
            else:
                exec(compile(ast.Module([node], []), "<page>", "exec"), scope)
        printed += out.getvalue()
        stated = STATED.match(comments.get(node.end_lineno or 0, ""))
        if stated and isinstance(node, ast.Expr):
            shown = out.getvalue() or repr(value)
            if not same(DRESS.sub(" ", stated[1]), DRESS.sub(" ", shown)):
                wrong.append(f"{ast.unparse(node)}  # {stated[1]}, but it is {shown}")
    return printed, wrong


def command(line: str) -> str:
    """What a command of this package prints."""
    name, *_ = argv = shlex.split(line, comments=True)
    with patch.object(sys, "argv", argv), redirect_stdout(io.StringIO()) as out, suppress(SystemExit):
        COMMANDS[name]()
    return out.getvalue()


def lines_apart(stated: str, shown: str) -> list[str]:
    """The first line of a page's output that isn't printed, or the first printed one that the page leaves out without "..."."""
    rest, skips = shown.splitlines(), False
    for line in stated.splitlines():
        if line == "...":
            skips = True
            continue
        at = next((i for i, other in enumerate(rest) if same(line, other)), None)
        if at is None or (at and not skips):
            return [f"{line}\nisn't the next line of\n{shown}"]
        rest, skips = rest[at + 1 :], False
    return [f"not on the page: {rest[0]}"] if rest and not skips else []


def same(stated: str, shown: str) -> bool:
    words = [NUMBER.sub("0", " ".join(text.split())) for text in (stated, shown)]
    numbers = zip(NUMBER.findall(stated), NUMBER.findall(shown), strict=True)
    return words[0] == words[1] and all(near(Decimal(a), Decimal(b)) for a, b in numbers)


def near(stated: Decimal, shown: Decimal) -> bool:
    """Whether both may be the same number, rounded; of whole numbers, whether they are the same."""
    last = [int(number.as_tuple().exponent) for number in (stated, shown)]
    if min(last) >= 0:
        return stated == shown
    return abs(float(stated - shown)) <= sum(10.0**digit for digit in last) / 2 + 1e-5
