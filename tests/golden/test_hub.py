"""What a hub is rendered to, compared with what was looked at and found good; as `test_golden`."""

from pathlib import Path

import pytest

from acoupi.hub.bundle.choices import HubChoices, HubHome
from acoupi.hub.bundle.compose import render_compose
from acoupi.hub.bundle.kubernetes import folder_of
from acoupi.hub.bundle.secrets import hub_secrets

CASES = Path(__file__).parent / "cases" / "hub"
HOME = HubHome(Path("/home/pi/.acoupi-hub"))
IMAGES = {"image": "acoupi/sensor:1.0-hub", "database_image": "acoupi/database:1.0"}
SMALL = HubChoices(name="hub.example.org", project="acoupi-hub-1")
CHOICES = {
    "small": SMALL,
    "workers": HubChoices.model_validate(
        SMALL.model_dump()
        | {
            "workers": {"test": 2},
            "listen": {"address": "0.0.0.0", "port": 443},
            "listen_broker": {"address": "0.0.0.0", "port": 6380},
            "listen_web": {"address": "0.0.0.0", "port": 8443},
        }
    ),
    "elsewhere": SMALL.model_copy(
        update={
            "has_own_database": False,
            "has_own_broker": False,
            "audio": "s3://bats/2026",
            "certificate": Path("/etc/hub.pem"),
            "key": Path("/etc/hub.key"),
            "workers": {"test": 1},
        }
    ),
    "subscribed": SMALL.model_copy(update={"subscribes": True}),
}


def generated(case: str) -> str:
    if case == "kubernetes":
        more = {"target": "kubernetes", "scales": True, "subscribes": True}
        scaled = CHOICES["workers"].model_copy(update=more)
        secrets = hub_secrets(HOME, scaled, {"subscribe": "mqtt://mqtt.example.org"})
        files = folder_of(HOME, scaled, secrets, **IMAGES)
        return "\n".join(f"=== {path}\n{one.text}" for path, one in sorted(files.items()))
    return render_compose(HOME, CHOICES[case], owner=(1000, 1000), **IMAGES).text


@pytest.mark.parametrize("case", [*CHOICES, "kubernetes"])
def test_a_hub_is_rendered_as_it_was_found_good(
    case: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("acoupi.__version__", "1.0")
    file = CASES / f"{case}.txt"

    text = generated(case)

    if request.config.getoption("--update-golden"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    assert text == file.read_text()
