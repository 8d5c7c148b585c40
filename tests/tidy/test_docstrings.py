"""Every module says what it is; every public function and class says what a caller gets."""

import ast
from collections.abc import Iterator, Mapping

import pytest


def test_every_module_says_what_it_is(modules: Mapping[str, ast.Module]) -> None:
    findings = [found for path, tree in modules.items() for found in silent_module(path, tree)]
    assert not findings, "\n" + "\n".join(findings)


def test_every_public_function_and_class_says_what_a_caller_gets(modules: Mapping[str, ast.Module]) -> None:
    findings = [found for path, tree in modules.items() for found in silent_definitions(path, tree)]
    assert not findings, "\n" + "\n".join(findings)


def test_module_without_docstring_is_found() -> None:
    assert list(silent_module("edge/core/step.py", ast.parse("X = 1")))
    assert list(silent_module("edge/core/step.py", ast.parse('"""Ends without a stop"""\nX = 1')))
    assert list(silent_module("edge/core/step.py", ast.parse('"""What it is."""\nX = 1'))) == []
    assert list(silent_module("edge/__init__.py", ast.parse(""))) == []


@pytest.mark.parametrize("text", ["def rate(): return 1", "class Account: pass", "async def run(): return 1"])
def test_silent_definition_is_found_in_the_product_only(text: str) -> None:
    assert list(silent_definitions("edge/core/step.py", ast.parse(text)))
    assert list(silent_definitions("tests/core/test_step.py", ast.parse(text))) == []


@pytest.mark.parametrize("text", ["def _rate(): return 1", 'def rate():\n    """Cost in nano."""'])
def test_private_or_documented_definition_is_not_found(text: str) -> None:
    assert list(silent_definitions("edge/core/step.py", ast.parse(text))) == []


def silent_module(path: str, tree: ast.Module) -> Iterator[str]:
    """A module with code and no docstring whose first paragraph is a sentence."""
    if not tree.body:
        return
    first = (ast.get_docstring(tree) or "").split("\n\n")[0].strip()
    if not first.endswith((".", ":", "?", "`", ")")):
        yield f"{path}:1: no module docstring; say in a sentence what it is, then units and source (STYLE.md)"


def silent_definitions(path: str, tree: ast.Module) -> Iterator[str]:
    """Public definitions of a module without docstring; in tests the name is the sentence."""
    if path.startswith("tests/"):
        return
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        if not ast.get_docstring(node):
            yield f"{path}:{node.lineno}: {node.name} has no docstring; its first line says what a caller gets"
