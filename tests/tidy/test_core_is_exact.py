"""The core computes in integers and freezes what it says: no float, no division that rounds, no change in place."""

import ast
from collections.abc import Iterator, Mapping

import pytest

ROUNDING = ("float", "round", "complex")
# Working copies that live for one call, with the reason.
WORKING = {"Turn": "one step under way"}
# Frozen as well, but its many fields lie in one dictionary, to be copied in one piece (edge.core.account.changed).
IN_ONE_PIECE = {"Account"}
WORLD = ("open", "print", "input")
CLOCKS = ("now", "today", "utcnow")


def test_the_core_has_no_floats(modules: Mapping[str, ast.Module]) -> None:
    findings = [found for path, tree in core(modules) for found in floats(path, tree)]
    assert not findings, "\n" + "\n".join(findings)


def test_the_core_asks_no_clock_and_talks_to_nobody(modules: Mapping[str, ast.Module]) -> None:
    findings = [found for path, tree in core(modules) for found in impure_calls(path, tree)]
    assert not findings, "\n" + "\n".join(findings)


def test_the_core_freezes_its_dataclasses(modules: Mapping[str, ast.Module]) -> None:
    findings = [found for path, tree in core(modules) for found in thawed(path, tree)]
    assert not findings, "\n" + "\n".join(findings)


@pytest.mark.parametrize(
    "text", ["RATE = 0.5", "x = a / b", "x /= 2", "x = float(y)", "x = round(y)", "def f(a: float): ...", "x = 1e3"]
)
def test_float_is_found(text: str) -> None:
    assert list(floats("edge/core/step.py", ast.parse(text)))


def test_exact_arithmetic_is_not_found() -> None:
    text = "x = a // b * 10**9 % c\nassert isinstance(x, int)\ntext = '0.5'"
    assert list(floats("edge/core/step.py", ast.parse(text))) == []


@pytest.mark.parametrize("text", ["datetime.now(UTC)", "date.today()", "open('x')", "print(1)"])
def test_impure_call_is_found(text: str) -> None:
    assert list(impure_calls("edge/core/step.py", ast.parse(text)))


@pytest.mark.parametrize(
    ("decorator", "count"),
    [
        ("@dataclass", 1),
        ("@dataclass(frozen=True)", 1),
        ("@dataclass(slots=True)", 1),
        ("@dataclasses.dataclass(frozen=False, slots=True)", 1),
        ("@dataclass(frozen=True, slots=True)", 0),
        ("@final", 0),
    ],
)
def test_dataclass_that_can_change_is_found(decorator: str, count: int) -> None:
    tree = ast.parse(f"{decorator}\nclass State:\n    at: int")
    assert len(list(thawed("edge/core/step.py", tree))) == count


def core(modules: Mapping[str, ast.Module]) -> Iterator[tuple[str, ast.Module]]:
    """The files of the core."""
    yield from ((path, tree) for path, tree in modules.items() if path.startswith("edge/core/"))


def floats(path: str, tree: ast.Module) -> Iterator[str]:
    """Whatever makes or divides into a float."""
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Constant) and isinstance(node.value, float | complex):
            yield f"{path}:{line}: float literal {node.value}; write an integer in a smaller unit"
        elif isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.Div):
            yield f"{path}:{line}: `/` gives a float; use `//` and say which way it rounds"
        elif isinstance(node, ast.Name) and node.id in ROUNDING:
            yield f"{path}:{line}: {node.id}; the core counts in integers (nano-currency, Wh, seconds)"


def impure_calls(path: str, tree: ast.Module) -> Iterator[str]:
    """Calls that read a clock or touch the world."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Name) and node.func.id in WORLD:
            yield f"{path}:{node.lineno}: {node.func.id}(); the core returns events and effects, the shell acts"
        elif isinstance(node.func, ast.Attribute) and node.func.attr in CLOCKS:
            yield f"{path}:{node.lineno}: .{node.func.attr}(); the core's only time is command.at"


def thawed(path: str, tree: ast.Module) -> Iterator[str]:
    """Public dataclasses that are not frozen with slots."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.ClassDef) or node.name.startswith("_") or node.name in WORKING:
            continue
        for decorator in node.decorator_list:
            name = ast.unparse(decorator.func if isinstance(decorator, ast.Call) else decorator)
            if name.split(".")[-1] != "dataclass":
                continue
            keywords = decorator.keywords if isinstance(decorator, ast.Call) else []
            given = {keyword.arg: ast.unparse(keyword.value) for keyword in keywords}
            slots = "False" if node.name in IN_ONE_PIECE else "True"
            if given.get("frozen") != "True" or given.get("slots") != slots:
                yield f"{path}:{node.lineno}: {node.name}; write @dataclass(frozen=True, slots=True)"
