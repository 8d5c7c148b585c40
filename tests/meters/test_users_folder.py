"""`[meters] models` in the configuration: a folder of the user's own models, read with those that ship."""

from pathlib import Path
from typing import Any

import pytest

from edge.cli import main
from edge.store.site_book import AccountEntry, MeterEntry, Site, SiteBook, write_site_book

ROOT = Path(__file__).resolve().parent.parent.parent
SHIPPED = ROOT / "edge" / "meters" / "eastron_sdm120.toml"
CONFIG = """
[gateway]
id = "gw-1"
data_dir = "data"
tariffs = ["tariff.json"]

[[lines]]
id = "line-1"
address = "tcp://127.0.0.1:1"

[meters]
models = "models"
"""


@pytest.fixture
def gateway(tmp_path: Path) -> Path:
    """A configuration whose only meter is of a model of the user's own."""
    tariff = ROOT / "edge" / "tariffs" / "demo-street.json"
    (tmp_path / "tariff.json").write_text(tariff.read_text("utf-8"), "utf-8")
    meter, account = MeterEntry("M01", "line-1", 1, "my_meter"), AccountEntry("A01", "M01", "demo-street@1")
    write_site_book(tmp_path / "site.json", SiteBook(Site("Asia/Shanghai", "CNY"), (meter,), (), (account,)))
    (tmp_path / "models").mkdir()
    own = SHIPPED.read_text("utf-8").replace('id = "eastron_sdm120"', 'id = "my_meter"')
    (tmp_path / "models" / "my_meter.toml").write_text(own, "utf-8")
    (tmp_path / "gateway.toml").write_text(CONFIG, "utf-8")
    return tmp_path


def check(gateway: Path, capsys: Any) -> tuple[int, str]:
    status = main(["run", "--config", str(gateway / "gateway.toml"), "--check"])
    return status, capsys.readouterr().err


def test_a_meter_may_be_of_a_model_of_the_users_own(gateway: Path, capsys: Any) -> None:
    assert check(gateway, capsys) == (0, "")


def test_without_the_folder_the_model_is_unknown(gateway: Path, capsys: Any) -> None:
    (gateway / "gateway.toml").write_text(CONFIG.split("[meters]")[0], "utf-8")
    status, complaint = check(gateway, capsys)
    assert status == 2
    assert "site.json: meter M01: model: found 'my_meter', allowed: abb_b21, abb_b23, " in complaint


def test_a_name_that_ships_is_refused_in_the_folder(gateway: Path, capsys: Any) -> None:
    (gateway / "models" / "abb_b21.toml").write_text("", "utf-8")
    status, complaint = check(gateway, capsys)
    assert status == 2
    assert "gateway.toml: meters.models: " in complaint
    assert "abb_b21.toml: id: found 'abb_b21', allowed: a name that no other model has" in complaint


def test_a_folder_that_is_none_is_refused(gateway: Path, capsys: Any) -> None:
    (gateway / "gateway.toml").write_text(CONFIG.replace('"models"', '"nowhere"'), "utf-8")
    status, complaint = check(gateway, capsys)
    assert status == 2
    assert "nowhere: the folder: found 'no folder'" in complaint


def test_a_bad_file_of_the_folder_is_named_with_its_key(gateway: Path, capsys: Any) -> None:
    path = gateway / "models" / "my_meter.toml"
    path.write_text(path.read_text("utf-8").replace('unit = "Hz"', 'unit = "1/s"'), "utf-8")
    status, complaint = check(gateway, capsys)
    assert status == 2
    assert "gateway.toml: meters.models: my_meter.toml: points.frequency.unit: found '1/s', allowed: V, " in complaint


def test_a_misspelt_key_of_the_section_is_told(gateway: Path, capsys: Any) -> None:
    (gateway / "gateway.toml").write_text(CONFIG.replace("models =", "model ="), "utf-8")
    status, complaint = check(gateway, capsys)
    assert status == 2
    assert "meters.model: is unknown; allowed: models" in complaint
