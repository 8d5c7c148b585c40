"""The file of passwords: who commands which meter, and what is said of a file that cannot be used."""

from pathlib import Path

import pytest

from edge.dlt645.authority import Authority, AuthorityFileError, read_authority_file

ADDRESS = "320100000147"
ROW = '{"level": 2, "password": "123456", "operator": "00000001"}'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "supply_keys.json"


def write(path: Path, text: str, mode: int = 0o600) -> None:
    path.write_text(text, "utf-8")
    path.chmod(mode)


def test_a_meter_has_its_own_row_or_the_row_of_all(path: Path) -> None:
    own = ROW.replace("123456", "654321")
    write(path, f'{{"{ADDRESS}": {own}, "*": {ROW}}}')
    found = read_authority_file(path, [ADDRESS, "000000000001"])
    assert found == {
        ADDRESS: Authority(2, "654321", "00000001"),
        "000000000001": Authority(2, "123456", "00000001"),
    }


@pytest.mark.parametrize(
    ("text", "mode", "said"),
    [
        (f'{{"*": {ROW}}}', 0o640, "its mode is 0640"),
        ("not json 123456", 0o600, "is not JSON"),
        ("[]", 0o600, "must be an object"),
        ("{}", 0o600, f"meter {ADDRESS} has a relay but no row"),
        (f'{{"*": {ROW[:-1]}, "pin": 1}}}}', 0o600, "must have level, password, operator"),
        (f'{{"*": {ROW.replace("123456", "12345")}}}', 0o600, "password: must be 6 decimal digits"),
        (f'{{"*": {ROW.replace("2", "11", 1)}}}', 0o600, "level: is 11, allowed is 0 to 9"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_and_never_quoted(path: Path, text: str, mode: int, said: str) -> None:
    write(path, text, mode)
    with pytest.raises(AuthorityFileError) as refused:
        read_authority_file(path, [ADDRESS])
    assert said in str(refused.value)
    assert "12345" not in str(refused.value)


def test_a_file_that_is_not_there_is_named(path: Path) -> None:
    with pytest.raises(AuthorityFileError, match=r"supply_keys\.json: No such file"):
        read_authority_file(path, [ADDRESS])
