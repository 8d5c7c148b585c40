"""The proof of the kernel: it notices a loosened bound and seeded defects, and says what it does not cover."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def prover() -> ModuleType:
    spec = importlib.util.spec_from_file_location("prove", ROOT / "native/proof/prove.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_seed_fits_the_kernel_and_aims_at_a_proven_function(prover: ModuleType) -> None:
    source = (ROOT / "native/src/kernel.c").read_text("ascii")
    seeds = prover.seeds()
    assert len(seeds) >= 20
    for function, good, bad in seeds:
        assert function in prover.PROVEN
        assert good != bad
        start = source.index(f"\n{function}(")
        body = source[start : source.index("\n}", start)]
        assert good in body
        before = body[: body.index(good)]
        assert before.count("/*") == before.count("*/"), f"{function}: {good} stands in an annotation, not in the code"


def test_what_is_not_under_proof_is_named(prover: ModuleType) -> None:
    unproven = prover.unproven(ROOT / "native/src/kernel.c")
    assert "rate_explained" in unproven
    assert not set(unproven) & set(prover.PROVEN)


@pytest.mark.needs_program("frama-c")
@pytest.mark.parametrize("index", [1, pytest.param(15, marks=pytest.mark.slow)])
def test_loosened_bound_breaks_the_proof(prover: ModuleType, index: int) -> None:
    function, good, bad = prover.seeds()[index]
    assert prover.prove(ROOT / "native/src/kernel.c", function)[0] > 0
    assert prover.broken(function, good, bad)
