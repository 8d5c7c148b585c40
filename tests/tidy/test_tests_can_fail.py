"""A test asserts something that can be false, and its name says what."""

import ast
from collections.abc import Iterator, Mapping

import pytest

CHECKING_CALLS = ("pytest.raises", "pytest.warns", "pytest.fail", "until", "comes_true")
CHECKING_PREFIXES = ("assert_", "check_", "assertEqual")
NAME_WORDS_MIN = 3

TestFunction = ast.FunctionDef | ast.AsyncFunctionDef


def test_every_test_asserts_something(modules: Mapping[str, ast.Module]) -> None:
    findings = [found for path, tree in modules.items() for found in empty_tests(path, tree)]
    assert not findings, "\n" + "\n".join(findings)


def test_no_assertion_is_always_true(modules: Mapping[str, ast.Module]) -> None:
    findings = [found for path, tree in modules.items() for found in idle_assertions(path, tree)]
    assert not findings, "\n" + "\n".join(findings)


def test_every_test_name_is_a_sentence(modules: Mapping[str, ast.Module]) -> None:
    findings = [found for path, tree in modules.items() for found in short_names(path, tree)]
    assert not findings, "\n" + "\n".join(findings)


@pytest.mark.parametrize(
    ("body", "count"),
    [
        ("rate(1)", 1),
        ("def inner():\n        return 1\n    inner()", 1),
        ("assert rate(1) == 2", 0),
        ("with pytest.raises(ValueError):\n        rate(1)", 0),
        ("check_books(1)", 0),
        ("world.assert_conserved()", 0),
        ("until(ready)", 0),
        ("subprocess.run(command, check=True)", 0),
        ("subprocess.run(command, check=False)", 1),
    ],
)
def test_test_that_asserts_nothing_is_found(body: str, count: int) -> None:
    tree = ast.parse(f"class TestIt:\n  async def test_rate_is_exact(self):\n    {body}")
    assert len(list(empty_tests("tests/core/test_rate.py", tree))) == count
    assert list(empty_tests("edge/core/rate.py", tree)) == []


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("assert True", 1),
        ("assert 1, 'why'", 1),
        ("assert (x == 1, 'why')", 1),
        ("assert x == x", 1),
        ("assert x or True", 1),
        ("assert x == y", 0),
        ("assert not x", 0),
    ],
)
def test_assertion_that_is_always_true_is_found(text: str, count: int) -> None:
    assert len(list(idle_assertions("tests/core/test_rate.py", ast.parse(text)))) == count


def test_name_that_says_nothing_is_found() -> None:
    assert list(short_names("tests/core/test_rate.py", ast.parse("def test_rate(): assert f()")))
    assert list(short_names("tests/core/test_rate.py", ast.parse("def test_rate_is_exact(): assert f()"))) == []


def functions_of(path: str, tree: ast.Module) -> Iterator[TestFunction]:
    """Test functions, in classes too."""
    if path.startswith("tests/"):
        for node in ast.walk(tree):
            if isinstance(node, TestFunction) and node.name.startswith("test_"):
                yield node


def empty_tests(path: str, tree: ast.Module) -> Iterator[str]:
    """Tests in which nothing can fail but by accident."""
    for test in functions_of(path, tree):
        if not any(checks(node) for node in ast.walk(test)):
            yield f"{path}:{test.lineno}: {test.name} asserts nothing; assert, or call check_... or assert_..."


def checks(node: ast.AST) -> bool:
    """An assertion, or a call that is one by its name."""
    if isinstance(node, ast.Assert):
        return True
    if not isinstance(node, ast.Call):
        return False
    if any(keyword.arg == "check" and ast.unparse(keyword.value) == "True" for keyword in node.keywords):
        return True  # subprocess.run(..., check=True) raises when the program it runs fails
    name = ast.unparse(node.func)
    return name in CHECKING_CALLS or name.split(".")[-1].startswith(CHECKING_PREFIXES)


def idle_assertions(path: str, tree: ast.Module) -> Iterator[str]:
    """Assertions that hold whatever the code does."""
    if not path.startswith("tests/"):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert) and always_true(node.test):
            yield f"{path}:{node.lineno}: `{ast.unparse(node)}` is always true; compare with what must come out"


def always_true(test: ast.expr) -> bool:
    """A constant, a tuple, a thing compared with itself, or any of these after `or`."""
    if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.Or):
        return any(always_true(value) for value in test.values)
    if isinstance(test, ast.Compare) and isinstance(test.ops[0], ast.Eq | ast.Is | ast.GtE | ast.LtE):
        both_calls = any(isinstance(node, ast.Call) for node in ast.walk(test.left))
        return not both_calls and ast.dump(test.left) == ast.dump(test.comparators[0])
    return (isinstance(test, ast.Constant) and bool(test.value)) or (isinstance(test, ast.Tuple) and bool(test.elts))


def short_names(path: str, tree: ast.Module) -> Iterator[str]:
    """Names of tests that are no sentence."""
    for test in functions_of(path, tree):
        if len([word for word in test.name.removeprefix("test_").split("_") if word]) < NAME_WORDS_MIN:
            yield f"{path}:{test.lineno}: {test.name}; say what is true: test_token_is_accepted_once"
