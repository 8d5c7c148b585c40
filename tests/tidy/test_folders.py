"""Each folder explains itself: what lives there, what does not, what was chosen and what it cost."""

from collections.abc import Collection, Iterator, Mapping

README_LINES_MIN = 8


def test_every_folder_explains_itself(texts: Mapping[str, str]) -> None:
    findings = list(unexplained(texts, explaining_folders(texts)))
    assert not findings, "\n" + "\n".join(findings)


def test_folder_without_readme_is_found() -> None:
    texts = {"edge/core/__init__.py": "", "edge/core/README.md": "# Core\n"}
    assert len(list(unexplained(texts, ["edge/core"]))) == 1
    assert len(list(unexplained({"edge/core/__init__.py": ""}, ["edge/core"]))) == 1
    long_enough = {"edge/core/README.md": "# Core\n" * README_LINES_MIN}
    assert list(unexplained(long_enough, ["edge/core"])) == []


def test_packages_and_the_tests_are_the_folders_that_explain_themselves() -> None:
    texts = {"edge/core/__init__.py": "", "edge/core/x.py": "", "tests/core/test_x.py": "", "edge/core/data/x.toml": ""}
    assert explaining_folders(texts) == ["edge/core", "tests"]


def explaining_folders(texts: Collection[str]) -> list[str]:
    """Every package, and the tests as a whole."""
    packages = {path.removesuffix("/__init__.py") for path in texts if path.endswith("/__init__.py")}
    return sorted({*packages, "tests"})


def unexplained(texts: Mapping[str, str], folders: Collection[str]) -> Iterator[str]:
    """Folders without a README.md, or with an empty one."""
    for folder in folders:
        text = texts.get(f"{folder}/README.md")
        if text is None:
            yield f"{folder}/README.md: is missing; about a page: what lives here, what not, what was chosen and why"
        elif len(text.splitlines()) < README_LINES_MIN or not text.startswith("# "):
            yield f"{folder}/README.md:1: says too little; a title, then about a page"
