"""Camtrap DP as frictionless and its profile see it, offline."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args
from uuid import UUID

import frictionless
import jsonschema
import pytest
from referencing import Registry, Resource

from acoupi import data
from acoupi.errors import ParameterError
from acoupi.exports.formats.camtrap import CamtrapDp
from acoupi.exports.formats.camtrap_columns import Profile, schema_of
from acoupi.heard import Filters, Verdict
from tests.stores import at
from tests.unit.exports.heard import BAT, BIRD, OAK, exported, review, utc
from tests.unit.exports.test_formats import rows_of

ROOT = Path(__file__).parents[3]
SCHEMAS = Path(os.environ.get("ACOUPI_TEST_SCHEMAS") or ROOT.parent / "shared" / "schemas")
"""Those that others publish, each with its licence; they are no part of this project."""
TABLES = ("deployments", "media", "observations")
FLAVOURS = {
    "1.0.2": ("camtrap-dp-1.0.2", ""),
    "acoustic-2025": ("camtrap-dp-acoustic-2025", "-acoustic"),
}
needs_schemas = pytest.mark.skipif(not SCHEMAS.is_dir(), reason=f"there is no {SCHEMAS}")

Found = dict[UUID, data.Detection]


def published(profile: str, name: str) -> dict[str, Any]:
    folder, suffix = FLAVOURS[profile]
    schema: dict[str, Any] = json.loads((SCHEMAS / folder / f"{name}{suffix}.json").read_text())
    return schema


def errors_of(folder: Path, schemas: Mapping[str, dict[str, Any]]) -> list[Any]:
    """What frictionless says of a package, with its schemas at hand: it asks no server."""
    described = json.loads((folder / "datapackage.json").read_text())
    described["profile"] = "data-package"
    for resource in described["resources"]:
        resource["schema"] = schemas.get(resource["name"], resource["schema"])
    package = frictionless.Package(described, basepath=str(folder))
    report = package.validate()
    assert [task.stats["rows"] for task in report.tasks if task.name == "deployments"] == [2]
    return report.flatten(["name", "rowNumber", "fieldName", "type", "note"])


@pytest.mark.parametrize("profile", get_args(Profile))
def test_frictionless_finds_a_package_valid_by_its_own_columns(
    path: Path, found: Found, profile: Profile
) -> None:
    exported(path, CamtrapDp(profile), path.parent / "out")

    assert errors_of(path.parent / "out", {one: schema_of(one, profile) for one in TABLES}) == []


@needs_schemas
@pytest.mark.parametrize("profile", FLAVOURS)
def test_frictionless_finds_a_package_valid_by_the_published_schemas(
    path: Path, found: Found, profile: Profile
) -> None:
    review(path, next(iter(found)), Verdict.OTHER, "Myotis daubentonii")
    exported(path, CamtrapDp(profile), path.parent / "out")

    schemas = {one: published(profile, f"{one}-table-schema") for one in TABLES}
    assert errors_of(path.parent / "out", schemas) == []
    known = {one: {field["name"]: field for field in schemas[one]["fields"]} for one in TABLES}
    for table in TABLES:
        for field in schema_of(table, profile)["fields"]:
            theirs = known[table][field["name"]]
            assert theirs["type"] == field["type"], field
            assert theirs.get("format", "default") == field.get("format", "default"), field


@needs_schemas
@pytest.mark.parametrize("profile", FLAVOURS)
def test_the_description_of_a_package_fits_the_published_profile(
    path: Path, found: Found, profile: Profile
) -> None:
    exported(path, CamtrapDp(profile), path.parent / "out", precision=0.01)

    described = json.loads((path.parent / "out" / "datapackage.json").read_text())
    schema = published(profile, "camtrap-dp-profile")
    check = jsonschema.Draft7Validator(schema, registry=outside_schemas())
    assert [error.message for error in check.iter_errors(described)] == []
    assert described["coordinatePrecision"] == 0.01
    assert {one["scientificName"] for one in described["taxonomic"]} > {BAT, BIRD}
    del described["project"]["title"]
    assert list(check.iter_errors(described))


def outside_schemas() -> Registry[Any]:
    """The two that the profile refers to: GeoJSON from frictionless; of packages the essentials."""
    profiles = Path(frictionless.__file__).parent / "assets" / "profiles"
    geojson = json.loads((profiles / "geojson.json").read_text())
    package = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "required": ["resources"],
        "properties": {
            "name": {"type": "string", "pattern": "^([-a-z0-9._/])+$"},
            "created": {"type": "string", "format": "date-time"},
            "resources": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["name", "path"],
                    "properties": {"name": {"type": "string", "pattern": "^([-a-z0-9._/])+$"}},
                },
            },
            "contributors": {"type": "array", "items": {"type": "object", "required": ["title"]}},
        },
    }
    return Registry().with_resources([
        ("https://specs.frictionlessdata.io/schemas/data-package.json",
         Resource.from_contents(package)),
        ("http://json.schemastore.org/geojson.json", Resource.from_contents(geojson)),
    ])  # fmt: skip


def test_each_detection_is_an_observation_to_the_millisecond(path: Path, found: Found) -> None:
    exported(path, CamtrapDp("acoustic-2025"), path.parent / "out")

    rows = rows_of(path.parent / "out" / "observations.csv")
    assert sorted(row["observationID"] for row in rows) == sorted(map(str, found))
    for row in rows:
        one = found[UUID(row["observationID"])]
        box = one.location and one.location.coordinates
        tags = dict(tag.split(":") for tag in row["observationTags"].split(" | "))
        start, end = (box[0], box[2]) if box else (0, 3)
        assert float(tags["startInRecording_s"]) == pytest.approx(start, abs=1e-3)
        assert float(tags["endInRecording_s"]) == pytest.approx(end, abs=1e-3)
        assert row["frequencyLow"] == (str(box[1]) if box else "")
        assert utc(row["eventStart"]) <= utc(row["eventEnd"])
        assert row["classifiedBy"].startswith("bats")
    gone = [row for row in rows if not row["mediaID"]]
    assert [row["observationLevel"] for row in gone] == ["event"]
    assert len(rows_of(path.parent / "out" / "media.csv")) == 5


def test_what_a_person_said_is_a_row_of_its_own(path: Path, found: Found) -> None:
    bat, bird, odd, *_ = found
    review(path, bat, Verdict.OTHER, "Myotis daubentonii")
    review(path, bird, Verdict.WRONG)
    review(path, odd, Verdict.RIGHT)
    review(path, odd, Verdict.WITHDRAWN)
    exported(path, CamtrapDp(), path.parent / "out")

    rows = rows_of(path.parent / "out" / "observations.csv")
    assert len(rows) == len(found) + 2
    human = [row for row in rows if row["classificationMethod"] == "human"]
    told = [(row["scientificName"], row["observationType"], row["classifiedBy"]) for row in human]
    assert told == [("Myotis daubentonii", "animal", "Ana"), ("", "unknown", "Ana")]
    machine = [row for row in rows if row["observationID"] == str(bat)]
    assert [row["scientificName"] for row in machine] == [BAT]


def test_a_detection_keeps_its_recording_where_that_began_before_the_chosen_time(
    path: Path, found: Found
) -> None:
    exported(path, CamtrapDp(), path.parent / "out", Filters(since=at(1), until=at(5)))

    (row,) = rows_of(path.parent / "out" / "observations.csv")
    assert row["scientificName"] == BIRD
    (medium,) = rows_of(path.parent / "out" / "media.csv")
    assert medium["mediaID"] == row["mediaID"] != ""


def test_an_open_deployment_says_so(path: Path, found: Found) -> None:
    exported(path, CamtrapDp(), path.parent / "out", precision=0.1)

    oak, lake = rows_of(path.parent / "out" / "deployments.csv")
    assert "has not ended" in lake["deploymentComments"]
    assert "has not ended" not in oak["deploymentComments"]
    assert utc(lake["deploymentEnd"]) == at(1023)
    assert (oak["latitude"], oak["longitude"], oak["locationName"]) == ("51.5", "-0.1", OAK.name)


def test_an_unknown_profile_is_refused() -> None:
    with pytest.raises(ParameterError, match="2\\.0"):
        CamtrapDp("2.0")  # type: ignore[arg-type]
