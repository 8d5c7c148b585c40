"""Lines of at most 120 characters, functions of at most 70 lines, in Python and in C."""

import ast
import re
from collections.abc import Iterator, Mapping

LINE_CHARACTERS_MAX = 120
FUNCTION_LINES_MAX = 70
# Tables and links in Markdown cannot be broken; in templates, data and translations a break can change the meaning.
UNBREAKABLE = re.compile(r"^\s*\||https?://\S{60,}")
NOT_WRAPPED = (".html", ".po", ".toml")


def test_no_line_is_too_long(texts: Mapping[str, str]) -> None:
    findings = [found for path, text in texts.items() for found in long_lines(path, text)]
    assert not findings, "\n" + "\n".join(findings)


def test_no_function_is_too_long(modules: Mapping[str, ast.Module]) -> None:
    findings = [found for path, tree in modules.items() for found in long_functions(path, tree)]
    assert not findings, "\n" + "\n".join(findings)


def test_no_c_function_is_too_long(texts: Mapping[str, str]) -> None:
    findings = [
        found for path, text in texts.items() if path.endswith((".c", ".h")) for found in long_c_functions(path, text)
    ]
    assert not findings, "\n" + "\n".join(findings)


def test_long_line_is_found_and_a_table_row_is_not() -> None:
    assert len(list(long_lines("a.py", "x" * 120 + "\n" + "x" * 121))) == 1
    assert len(list(long_lines("a.c", "\t" * 15 + "x"))) == 1
    assert list(long_lines("a.md", "| " + "x" * 200 + " |")) == []


def test_long_function_is_found() -> None:
    body = "\n".join("    x = 1" for _ in range(FUNCTION_LINES_MAX - 1))
    assert list(long_functions("a.py", ast.parse(f"def f():\n{body}"))) == []
    assert len(list(long_functions("a.py", ast.parse(f"async def f():\n{body}\n    x = 2")))) == 1


def test_long_c_function_is_found() -> None:
    body = "\n".join("\tx = 1;" for _ in range(FUNCTION_LINES_MAX - 3))
    assert list(long_c_functions("a.c", f"int\nf(void)\n{{\n{body}\n\n}}\n")) == []
    assert len(list(long_c_functions("a.c", f"int\nf(void)\n{{\n{body}\n\n\n\n}}\n"))) == 1
    proof = "\t/*@ assert x == 1; */\n\t/*@ loop invariant 0 <= x;\n\t    loop variant x;\n\t*/\n"
    assert list(long_c_functions("a.c", f"int\nf(void)\n{{\n{proof}{body}\n\n}}\n")) == []


def long_lines(path: str, text: str) -> Iterator[str]:
    """Lines that do not fit; a tab counts as eight."""
    if path.endswith(NOT_WRAPPED):
        return
    for number, line in enumerate(text.splitlines(), 1):
        length = len(line.expandtabs(8))
        if length > LINE_CHARACTERS_MAX and not UNBREAKABLE.search(line):
            yield f"{path}:{number}: {length} characters; break it at {LINE_CHARACTERS_MAX}"


def long_functions(path: str, tree: ast.Module) -> Iterator[str]:
    """Functions longer than a screen, from `def` to their last line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                yield f"{path}:{node.lineno}: {node.name} has {lines} lines, more than {FUNCTION_LINES_MAX}; cut it up"


def long_c_functions(path: str, text: str) -> Iterator[str]:
    """C functions, whose braces stand in the first column. What the proof needs between the lines is no code."""
    opened, count, annotated = 0, 0, False
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("{"):
            opened, count = number, 0
        annotated = annotated or line.lstrip().startswith("/*@")
        count += not annotated
        annotated = annotated and "*/" not in line
        if line.startswith("}") and opened:
            if count > FUNCTION_LINES_MAX:
                yield f"{path}:{opened}: function of {count} lines; cut it up"
            opened = 0
