"""The configuration: what is wrong is said with file, key and what is allowed, before anything starts."""

from pathlib import Path

import pytest

from edge.config import Config, ConfigError, parse_broker, read_config

LEAST = """
[gateway]
id = "gw-1"
data_dir = "data"

[[lines]]
id = "line-1"
address = "/dev/ttyUSB0"
"""

CLOUD = """
[cloud]
brokers = ["mqtt://cloud.example:1883"]
keyring = "keyring.json"
"""

TLS_FILES = 'tls_ca = "ca.pem"\ntls_certificate = "gw.pem"\ntls_key = "gw.key"\n'


def read(folder: Path, text: str) -> Config:
    path = folder / "gateway.toml"
    path.write_text(text, "utf-8")
    return read_config(path)


def test_least_configuration_has_the_defaults(tmp_path: Path) -> None:
    config = read(tmp_path, LEAST)
    assert (config.gateway.id, config.gateway.site_book, config.gateway.tariffs) == ("gw-1", "site.json", ())
    assert (config.lines[0].baud, config.lines[0].format, config.lines[0].response_timeout_ms) == (9600, "8N1", 300)
    assert (config.clock.source, config.clock.file) == ("system", None)
    assert (config.accounting.round_interval_ms, config.accounting.slot_minutes) == (5000, 15)
    assert config.cloud is None
    assert config.console is None


def test_relative_paths_start_at_the_file_and_absolute_ones_stay(tmp_path: Path) -> None:
    config = read(tmp_path, LEAST)
    assert config.path("data") == tmp_path / "data"
    assert config.path("/var/lib/wattgate") == Path("/var/lib/wattgate")


def test_whole_configuration_is_read(tmp_path: Path) -> None:
    config = read(
        tmp_path,
        LEAST
        + '[[lines]]\nid = "line-2"\naddress = "tcp://10.0.0.5:502"\nbaud = 19200\nformat = "8E1"\n'
        + '[clock]\nsource = "scaled"\nfile = "clock.json"\n'
        + CLOUD.replace("mqtt://cloud.example:1883", "mqtts://cloud.example:8883")
        + TLS_FILES
        + '[console]\nhost = "0.0.0.0"\nport = 0\nallowed_hosts = ["gate.local"]\n'
        + "[accounting]\nslot_minutes = 60\nlocal_display = false\n",
    )
    assert [line.id for line in config.lines] == ["line-1", "line-2"]
    assert config.clock.file == "clock.json"
    assert config.cloud is not None
    assert config.cloud.tls_key == "gw.key"
    assert config.console is not None
    assert config.console.allowed_hosts == ("gate.local",)
    assert config.accounting.local_display is False


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: No such file or directory"):
        read_config(tmp_path / "nowhere.toml")


@pytest.mark.parametrize("content", [b"gateway = ", b"\xff\xfe", b"[gateway]\n[gateway]\n", b"a = 1\x00"])
def test_file_that_is_no_toml_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "gateway.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"gateway\.toml: is not TOML"):
        read_config(path)


FAULTS = [
    # what is replaced, by what, and what the sentence must name: key and what is allowed
    ("[gateway]", "[gatway]", r"gatway: is unknown; allowed: gateway, lines, clock, accounting, cloud, console"),
    ('id = "gw-1"', 'id = "gw-1"\nname = "x"', r"gateway\.name: is unknown; allowed: id, data_dir, site_book, tariffs"),
    ('id = "gw-1"\n', "", r"missing required field `id` - at `\$\.gateway`"),
    ('id = "gw-1"', 'id = ""', r"matching regex .* - at `\$\.gateway\.id`"),
    ('id = "gw-1"', 'id = "gw 1"', r"matching regex .* - at `\$\.gateway\.id`"),
    ('id = "gw-1"', 'id = "gw-1\\n"', r"matching regex .* - at `\$\.gateway\.id`"),
    ('id = "gw-1"', 'id = "abcdefghijklmnopqrstuvwx"', r"matching regex .* - at `\$\.gateway\.id`"),
    ('id = "gw-1"', "id = 1", r"Expected `str`, got `int` - at `\$\.gateway\.id`"),
    ('data_dir = "data"', 'data_dir = ""', r"length >= 1 - at `\$\.gateway\.data_dir`"),
    ('data_dir = "data"', 'data_dir = "data"\ntariffs = "t.json"', r"`array`, got `str` - at `\$\.gateway\.tariffs`"),
    ('[[lines]]\nid = "line-1"\naddress = "/dev/ttyUSB0"\n', "", "missing required field `lines`"),
    ('[[lines]]\nid = "line-1"\naddress = "/dev/ttyUSB0"\n', "[lines]\n", r"`array`, got `object` - at `\$\.lines`"),
    ('address = "/dev/ttyUSB0"', "", r"missing required field `address` - at `\$\.lines\[0\]`"),
    ('address = "/dev/ttyUSB0"', 'address = ""', r"lines\[0\]\.address: is empty"),
    ('address = "/dev/ttyUSB0"', 'address = "x"\nspeed = 1', r"lines\[0\]\.speed: is unknown; allowed: id, address"),
    ('address = "/dev/ttyUSB0"', 'address = "x"\nbaud = 110', r"`int` >= 300 - at `\$\.lines\[0\]\.baud`"),
    ('address = "/dev/ttyUSB0"', 'address = "x"\nbaud = "9600"', r"`int`, got `str` - at `\$\.lines\[0\]\.baud`"),
    ('address = "/dev/ttyUSB0"', 'address = "x"\nformat = "9N1"', r"\[78\]\[NEO\]\[12\].*`\$\.lines\[0\]\.format`"),
    ('address = "/dev/ttyUSB0"', 'address = "x"\npoll_interval_ms = 1', r">= 10 - at `\$\.lines\[0\]\.poll_interval"),
    ('address = "/dev/ttyUSB0"', 'address = "x"\n[[lines]]\nid = "line-1"\naddress = "y"', r"lines\[1\]\.id: 'line-1'"),
]


@pytest.mark.parametrize(("old", "new", "sentence"), FAULTS)
def test_fault_names_the_key_and_what_is_allowed(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    assert LEAST.count(old) == 1
    with pytest.raises(ConfigError, match=rf"gateway\.toml: .*{sentence}|gateway\.toml: {sentence}"):
        read(tmp_path, LEAST.replace(old, new))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('folder = "/etc"\n', "folder: is unknown"),
        ('[[other]]\nid = "x"\n', "other: is unknown; allowed: gateway, lines"),
        ('[clock]\nsource = "sundial"\n', r"clock\.source: 'sundial', allowed: system, scaled"),
        ('[clock]\nsource = "scaled"\n', r"clock\.file: belongs to source scaled"),
        ('[clock]\nfile = "clock.json"\n', r"clock\.file: belongs to source scaled"),
        ("[accounting]\nround_interval_ms = 5\n", r">= 20 - at `\$\.accounting\.round_interval_ms`"),
        ("[accounting]\nslot_minutes = 0\n", r">= 1 - at `\$\.accounting\.slot_minutes`"),
        ('[accounting]\nlocal_display = "yes"\n', r"`bool`, got `str` - at `\$\.accounting\.local_display`"),
        ("[console]\nport = 65536\n", r"<= 65535 - at `\$\.console\.port`"),
        ("[console]\nport = true\n", r"`int`, got `bool` - at `\$\.console\.port`"),
        ('[cloud]\nbrokers = []\nkeyring = "k"\n', r"length >= 1 - at `\$\.cloud\.brokers`"),
        ('[cloud]\nbrokers = ["mqtt://h:1"]\n', r"missing required field `keyring` - at `\$\.cloud`"),
        ('[cloud]\nbrokers = ["h:1883"]\nkeyring = "k"\n', r"cloud\.brokers\[0\]: .*allowed is mqtt://host:port"),
        ('[cloud]\nbrokers = ["mqtt://h:1", "mqtts://h:2"]\nkeyring = "k"\n', r"cloud\.brokers: all mqtts:// or all"),
        ('[cloud]\nbrokers = ["mqtts://h:2"]\nkeyring = "k"\n', "cloud: mqtts:// needs tls_ca"),
        ('[cloud]\nbrokers = ["mqtt://h:2"]\nkeyring = "k"\n' + TLS_FILES, "mqtt:// takes none"),
        ('[cloud]\nbrokers = ["mqtts://h:2"]\nkeyring = "k"\ntls_ca = "c"\n', "cloud: tls_ca, tls_certificate and"),
        (CLOUD + "timer_s_max = 0\n", r"timer_s_max"),
        (CLOUD + "timer_s_max = inf\n", r"timer_s_max"),
        (CLOUD + "timer_s_max = nan\n", r"timer_s_max"),
    ],
)
def test_fault_in_an_optional_section_names_the_key(tmp_path: Path, text: str, sentence: str) -> None:
    whole = text + LEAST if text.startswith("folder") else LEAST + text
    with pytest.raises(ConfigError, match=rf"gateway\.toml: .*{sentence}|gateway\.toml: {sentence}"):
        read(tmp_path, whole)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("mqtt://cloud.example:1883", ("cloud.example", 1883, False)),
        ("mqtts://10.0.0.1:8883", ("10.0.0.1", 8883, True)),
        ("mqtt://[fd00::1]:1883", ("fd00::1", 1883, False)),
    ],
)
def test_broker_is_host_port_and_whether_it_is_secured(text: str, parts: tuple[str, int, bool]) -> None:
    assert parse_broker(text) == parts


@pytest.mark.parametrize(
    "text",
    [
        "",
        "mqtt://",
        "mqtt://host",
        "mqtt://host:",
        "mqtt://:1883",
        "mqtt://host:0",
        "mqtt://host:65536",
        "mqtt://host:²",
        "mqtt://host:\uff11883",
        "mqtt://host:+5",
        "mqtt://user:secret@host:1883",
        "mqtt://host/path:1883",
        "mqtt://ho st:1883",
        "http://host:1883",
        "tcp://host:1883",
        "mqtt://host:" + "9" * 5000,
    ],
)
def test_other_broker_text_is_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(ConfigError, match="allowed is mqtt://host:port or mqtts://host:port"):
        parse_broker(text)


def test_keys_of_decoders_are_a_file_of_their_own(tmp_path: Path) -> None:
    assert read(tmp_path, LEAST).tokens is None
    config = read(tmp_path, LEAST + '[tokens]\nkeys = "secret/keys.json"\n')
    assert config.tokens is not None
    assert config.path(config.tokens.keys) == tmp_path / "secret" / "keys.json"


@pytest.mark.parametrize(
    ("section", "sentence"),
    [
        ("[tokens]\n", r"keys"),
        ('[tokens]\nkeys = ""\n', r"tokens\.keys"),
        ("[tokens]\nkeys = 5\n", r"tokens\.keys"),
        ('[tokens]\nkeys = "k.json"\nM01 = "00"\n', r"tokens\.M01: is unknown; allowed: keys"),
    ],
)
def test_fault_in_the_tokens_section_is_named(tmp_path: Path, section: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=rf"gateway\.toml: .*{sentence}"):
        read(tmp_path, LEAST + section)


GPIO = """
[[gpio_relays]]
id = "R07"
chip = "/dev/gpiochip0"
kind = "monostable"
coil_line = 17
closed_when = "coil_off"
contact_line = 27
"""
LATCHING = GPIO.replace('"monostable"', '"latching"').replace(
    'coil_line = 17\nclosed_when = "coil_off"', "set_line = 5\n"
)
LATCHING = LATCHING.replace("set_line = 5\n", "set_line = 5\nreset_line = 6")


def test_gpio_relays_are_read_with_their_defaults(tmp_path: Path) -> None:
    monostable, latching = read(tmp_path, LEAST + GPIO + LATCHING.replace("R07", "R08").replace("27", "22")).gpio_relays
    assert (monostable.lines, monostable.closed_when, monostable.settle_ms) == ((17, 27), "coil_off", 100)
    assert (monostable.active_low, monostable.contact_active_low, monostable.contact_bias) == (False, False, "as_is")
    assert (latching.lines, latching.pulse_ms, latching.breaking_current_a) == ((5, 6, 22), None, None)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (GPIO.replace("17", '"17"'), r"Expected `int \| null`, got `str` - at `\$\.gpio_relays\[0\]\.coil_line`"),
        (
            GPIO.replace("/dev/", ""),
            r"gpio_relays\[0\]\.chip: found 'gpiochip0', allowed: a device like /dev/gpiochip0",
        ),
        (GPIO.replace("17", "-1"), r">= 0 - at `\$\.gpio_relays\[0\]\.coil_line`"),
        (GPIO.replace("coil_line", "line"), r"gpio_relays\[0\]\.line: is unknown; allowed: id, chip, kind"),
        (GPIO.replace('"monostable"', '"stepper"'), r"Invalid enum value 'stepper' - at `\$\.gpio_relays\[0\]\.kind`"),
        (
            GPIO.replace('closed_when = "coil_off"', ""),
            r"gpio_relays\[0\]\.closed_when: is missing; a monostable relay n",
        ),
        (GPIO.replace("coil_line = 17", ""), r"\[0\]\.coil_line: is missing; .* needs coil_line and closed_when"),
        (GPIO + "pulse_ms = 50", r"pulse_ms: does not belong to a monostable relay, which has coil_line, closed_when"),
        (
            LATCHING + "coil_line = 9",
            r"coil_line: does not belong to a latching relay, which has set_line, reset_line, p",
        ),
        (
            LATCHING.replace("reset_line = 6", ""),
            r"reset_line: is missing; a latching relay needs set_line and reset_line",
        ),
        (LATCHING + "pulse_ms = 5000", r"<= 2000 - at `\$\.gpio_relays\[0\]\.pulse_ms`"),
        (
            GPIO.replace("contact_line = 27", "contact_active_low = true"),
            r"contact_active_low: belongs to contact_line",
        ),
        (GPIO.replace("contact_line = 27", 'contact_bias = "pull_up"'), r"contact_bias: belongs to contact_line"),
        (GPIO.replace("27", "17"), r"gpio_relays\[0\]\.id: relay R07 uses line 17 of /dev/gpiochip0 for two things"),
        (LATCHING.replace("= 6", "= 5"), r"relay R07 uses line 5 of /dev/gpiochip0 for two things"),
        (GPIO + GPIO, r"gpio_relays\[1\]\.id: 'R07' stands there twice"),
        (
            GPIO + GPIO.replace("R07", "R08").replace("27", "22"),
            r"gpio_relays\[1\]: relays R07 and R08 are both at line 17 of /dev/gpiochip0; a line belongs to one relay",
        ),
        (GPIO + LATCHING.replace("R07", "R08"), r"relays R07 and R08 are both at line 27 of /dev/gpiochip0"),
    ],
)
def test_fault_of_a_gpio_relay_names_the_key_and_what_is_allowed(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=r"gateway\.toml: .*" + sentence):
        read(tmp_path, LEAST + text)


def test_one_chip_under_two_names_is_one_chip(tmp_path: Path) -> None:
    (tmp_path / "chip").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "chip")
    first = GPIO.replace("/dev/gpiochip0", str(tmp_path / "chip"))
    second = GPIO.replace("/dev/gpiochip0", str(tmp_path / "link")).replace("R07", "R08")
    with pytest.raises(ConfigError, match=r"relays R07 and R08 are both at line 17 of .*chip"):
        read(tmp_path, LEAST + first + second)
    other = second.replace("/link", "/other")
    assert len(read(tmp_path, LEAST + first + other).gpio_relays) == 2


def test_two_lines_to_one_device_or_server_are_one_line_however_they_are_written(tmp_path: Path) -> None:
    """Each would command the other's relays: a board's coil would have two owners."""
    (tmp_path / "by-id").symlink_to("/dev/null")
    line = '[[lines]]\nid = "line-2"\naddress = "{}"\n'
    for first, second in (
        ("/dev/null", str(tmp_path / "by-id")),
        ("/dev/ttyUSB7", "/dev/../dev/ttyUSB7"),
        ("tcp://gate:502", "tcp://GATE:502"),
        ("tcp://gate:502", "rtu+tcp://gate:502"),
    ):
        with pytest.raises(ConfigError, match=r"lines\[1\]\.address: '.*' is line-1's .*; a line has one master"):
            read(tmp_path, LEAST.replace("/dev/ttyUSB0", first) + line.format(second))
    assert len(read(tmp_path, LEAST + line.format("/dev/ttyUSB1")).lines) == 2
