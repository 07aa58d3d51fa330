"""ServeSettings: every variable is cast once, and a bad value is named with what was received."""

from dataclasses import fields

import pytest

from cspine.core.errors import ConfigError
from cspine.core.serve_settings import ServeSettings, parse_address, read_settings


def test_an_empty_environment_gives_the_defaults():
    settings = read_settings({"PATH": "/bin", "CSPINE_STREAMS": ""})
    assert settings == ServeSettings()
    assert settings.listen == ("127.0.0.1", 9696)
    assert (settings.fetch, settings.cache, settings.streams) == (True, True, None)


def test_each_value_is_cast():
    settings = read_settings(
        {
            "CSPINE_LISTEN": "[::1]:80",
            "CSPINE_PRECISION": "INT8",
            "CSPINE_STREAMS": "2",
            "CSPINE_FETCH": "off",
            "CSPINE_FETCH_ALLOW": "127.0.0.1:9697, example.org",
            "CSPINE_DEADLINE_S": "1.5",
            "CSPINE_RATE_PER_KEY": "3",
            "CSPINE_API_KEYS": "a,b",
        }
    )
    assert settings.listen == ("::1", 80)
    assert settings.precision == "int8"
    assert (settings.streams, settings.fetch, settings.deadline_s) == (2, False, 1.5)
    assert settings.fetch_allow == ("127.0.0.1:9697", "example.org")
    assert settings.api_keys == ("a", "b")


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("CSPINE_LISTEN", "9696", "host:port"),
        ("CSPINE_LISTEN", "host:99999", "host:port"),
        ("CSPINE_PRECISION", "f16", "one of auto, f32, bf16, int8"),
        ("CSPINE_STREAMS", "two", "a whole number from 1 to 256"),
        ("CSPINE_MAX_QUEUE", "0", "a whole number from 1 to 4096"),
        ("CSPINE_FETCH", "yes", "on or off"),
        ("CSPINE_DEADLINE_S", "nan", "a number of seconds from 0.1 to 300"),
        ("CSPINE_RATE_PER_KEY", "-1", "a number from 0.001 to 1000000"),
        ("CSPINE_FETCH_ALLOW", " , ", "a comma-separated list"),
        ("CSPINE_MAX_PIXELS", "1000000000", "a whole number from 1024 to 89478485"),
    ],
)
def test_a_bad_value_is_named(name: str, value: str, rule: str):
    with pytest.raises(ConfigError, match=rf"`{name}` must be {rule}\. Received: '{value}'"):
        read_settings({name: value})


def test_a_rate_for_each_key_needs_keys():
    with pytest.raises(ConfigError, match="`CSPINE_RATE_PER_KEY` needs `CSPINE_API_KEYS`"):
        read_settings({"CSPINE_RATE_PER_KEY": "3"})


def test_a_misspelt_name_is_met_with_the_nearest():
    with pytest.raises(ConfigError, match=r"`CSPINE_STREAMS`\? Received: 'CSPINE_STREAM'"):
        read_settings({"CSPINE_STREAM": "2"})


def test_all_faults_are_listed():
    environment = {
        "CSPINE_STREAM": "2",
        "CSPINE_MAX_QUEUE": "0",
        "CSPINE_FETCH": "yes",
        "CSPINE_RATE_PER_KEY": "3",
    }
    with pytest.raises(ConfigError) as caught:
        read_settings(environment)
    assert sorted(str(caught.value).splitlines()) == [
        "A setting must have a known name. Did you mean `CSPINE_STREAMS`? "
        "Received: 'CSPINE_STREAM'",
        "`CSPINE_FETCH` must be on or off. Received: 'yes'",
        "`CSPINE_MAX_QUEUE` must be a whole number from 1 to 4096. Received: '0'",
        "`CSPINE_RATE_PER_KEY` needs `CSPINE_API_KEYS`. Received: '3' and no key",
    ]


def test_keys_are_in_no_text_of_settings():
    settings = read_settings({"CSPINE_API_KEYS": "planted, other"})
    assert settings.api_keys == ("planted", "other")
    assert "planted" not in f"{settings} {settings!r}"
    with pytest.raises(ConfigError) as caught:
        read_settings({"CSPINE_API_KEYS": " ,", "CSPINE_API_KEY": "planted"})
    assert str(caught.value).splitlines() == [
        "`CSPINE_API_KEYS` must be a comma-separated list. Received: a value that is not shown",
        "A setting must have a known name. Did you mean `CSPINE_API_KEYS`? "
        "Received: 'CSPINE_API_KEY'",
    ]


def test_every_setting_says_what_it_is():
    assert all(spec.metadata["help"] for spec in fields(ServeSettings))


def test_parse_address_of_a_bare_host_is_an_error():
    with pytest.raises(ValueError):
        parse_address("example.org")


@pytest.mark.parametrize("name", ["CSPINE_PORT", "CSPINE_HOST", "CSPINE_BIND"])
def test_what_others_call_the_address_leads_to_it(name):
    with pytest.raises(ConfigError, match=r"Did you mean `CSPINE_LISTEN`\?"):
        read_settings({name: "8080"})
