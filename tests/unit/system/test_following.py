"""What a sensor refuses of the settings that a hub offers, and when it asks again."""

import json
import sys
from datetime import timedelta

import pytest

from acoupi import data
from acoupi.errors import ConfigurationError
from acoupi.offers import Envelope, Offer, make_key, public_key, sealed
from acoupi.provisioned import Followed
from acoupi.provisioning.following import next_look
from acoupi.system import Settings
from tests.provisioning import config_of, put

URL = "http://oak-1:TOKEN@hub/v1/settings"
PRIVATE = make_key()
KEY = public_key(PRIVATE)
USUAL = 3.0


@pytest.fixture
def settings(home: object) -> Settings:
    return Settings(home=home)


def page(number: int, duration: float, *, confirmed: bool = True) -> dict[str, str]:
    offer = Offer(
        sensor="oak-1", number=number, minutes=10, settings={"recording": {"duration": duration}}
    )
    envelope = sealed(PRIVATE, offer).model_copy(update={"confirmed": confirmed})
    return {URL: envelope.model_dump_json()}


def follow(settings: Settings, pages: dict[str, str], **variables: str) -> str:
    """Provision; return what is wrong, or an empty text."""
    given = {"CONFIG_URL": URL, "CONFIG_KEY": KEY, **variables}
    found, _ = put(settings, pages, **given)
    return found.fault.text().lower() if found.fault else ""


@pytest.mark.parametrize(
    ("variables", "why"),
    [
        ({"CONFIG_URL": "http://hub/v1/settings"}, "does not name the hub and sensor"),
        ({"CONFIG_URL": ""}, "does not name the hub and sensor"),
        ({"CONFIG_KEY": "abc"}, "not a public ed25519 key"),
        ({"CONFIG_KEY": public_key(make_key())}, "another key"),
        ({"CONFIG_EVERY": "often"}, "config_every"),
    ],
)
def test_whom_a_sensor_follows_must_be_plain(
    settings: Settings, variables: dict[str, str], why: str
) -> None:
    assert why in follow(settings, page(1, 5), **variables)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("recording:\n  duration: 5", "not signed"),
        (Envelope(document="{}", signature="", confirmed=True).model_dump_json(), "another key"),
        (
            json.dumps(json.loads(page(3, 5)[URL]) | {"signature": "A" * 86 + "=="}),
            "another key",
        ),
        (page(3, 5)[URL].replace(": 5}", ": 6}"), "changed since"),
        (sealed(PRIVATE, Offer(sensor="elm-2", number=3, minutes=1, settings={})).model_dump_json(),
         "elm-2"),
    ],
)  # fmt: skip
def test_what_is_not_signed_for_this_sensor_leaves_it_as_it_was(
    settings: Settings, text: str, why: str
) -> None:
    assert not follow(settings, page(1, 4))

    assert why in follow(settings, {URL: text})

    assert config_of(settings).recording.duration == 4
    assert not follow(settings, page(3, 5))
    assert config_of(settings).recording.duration == 5


def test_a_hub_that_has_nothing_leaves_the_defaults(settings: Settings) -> None:
    nothing = Envelope(document="", signature="", confirmed=True).model_dump_json()
    assert not follow(settings, {URL: nothing})
    assert config_of(settings).recording.duration == USUAL
    assert not follow(settings, page(1, 5))

    assert "older than document 1" in follow(settings, {URL: nothing})

    assert config_of(settings).recording.duration == 5


def test_without_an_answer_what_is_on_trial_stays_on_trial(settings: Settings) -> None:
    assert not follow(settings, page(1, 4))
    assert not follow(settings, page(3, 5, confirmed=False))

    assert "away" in follow(settings, {})

    assert config_of(settings).recording.duration == 5
    assert not follow(settings, page(3, 5))
    assert config_of(settings).recording.duration == 5


def test_a_document_that_cannot_be_is_not_tried_again(settings: Settings) -> None:
    assert not follow(settings, page(1, 4))
    assert "duration" in follow(settings, page(3, -5, confirmed=False))

    assert "document 3 of the hub is not applied" in follow(settings, page(3, -5, confirmed=False))

    assert config_of(settings).recording.duration == 4
    assert not follow(settings, page(4, 4))


def test_without_the_library_it_says_so(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric", None)

    with pytest.raises(ConfigurationError, match="cannot be read or made here") as error:
        public_key(PRIVATE)

    assert "acoupi[fleet]" in str(error.value.help)


def test_a_sensor_asks_more_often_while_it_tries_something() -> None:
    trial = Followed(number=3, in_force=3, since=data.utc_now() - timedelta(minutes=1))
    over = trial.model_copy(update={"given_up": "it was not confirmed"})
    with_key = {"ACOUPI_CONFIG_KEY": KEY}

    assert next_look({}, trial) == float("inf")
    assert next_look(with_key, None) == 300
    assert next_look(with_key, trial) == 10
    assert next_look(with_key, over) == 300
    assert next_look({**with_key, "ACOUPI_CONFIG_EVERY": "5"}, trial) == 5
