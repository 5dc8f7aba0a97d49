"""AOEF as soundevent reads it, and checklists for eBird."""

import sys
from pathlib import Path
from uuid import UUID

import pytest
from soundevent import io

from acoupi import data
from acoupi.errors import ConfigurationError
from acoupi.exports.formats.aoef import Aoef
from acoupi.exports.formats.ebird import EBird
from acoupi.heard import Verdict
from tests.stores import at
from tests.unit.exports.heard import BAT, BIRD, OAK, exported, review

Found = dict[UUID, data.Detection]


def test_soundevent_reads_each_detection(path: Path, found: Found) -> None:
    exported(path, Aoef(), path.parent / "out")

    files = sorted((path.parent / "out").glob("predictions-*.json"))
    assert len(files) == 2
    clips = [
        clip for file in files for clip in io.load(file, type="prediction_set").clip_predictions
    ]
    assert len(clips) == 6
    seen = {one.uuid: (clip.clip.recording, one) for clip in clips for one in clip.sound_events}
    assert seen.keys() == found.keys()
    for id_, (recording, one) in seen.items():
        box = found[id_].location
        expected = list(box.coordinates) if box else [0, 3]
        assert one.sound_event.geometry.coordinates == pytest.approx(expected, abs=1e-3)
        assert one.score == found[id_].detection_score
        assert [tag.tag.value for tag in one.tags] == [found[id_].tags[0].tag.value]
        assert recording.samplerate == 256_000
    recording, one = seen[next(iter(found))]
    assert one.tags[0].tag.term.name == "dwc:scientificName"
    assert (recording.date, recording.time) == (at(0.125).date(), at(0.125).time())
    assert (recording.latitude, str(recording.path)) == (OAK.latitude, "a.wav")


def test_verdicts_are_annotations(path: Path, found: Found) -> None:
    bat, bird, *_ = found
    review(path, bat, Verdict.OTHER, "Myotis daubentonii")
    review(path, bird, Verdict.WRONG)
    exported(path, Aoef(), path.parent / "out")

    (file,) = (path.parent / "out").glob("annotations-*.json")
    (clip,) = io.load(file, type="annotation_set").clip_annotations
    said = [
        ([tag.value for tag in one.tags], one.notes[0].message, one.created_by.name)
        for one in clip.sound_events
    ]
    assert said == [(["Myotis daubentonii"], "other", "Ana"), ([], "wrong", "Ana")]


def test_without_the_library_it_says_how_to_install_it(
    path: Path, found: Found, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "soundevent", None)

    with pytest.raises(ConfigurationError) as error:
        exported(path, Aoef(), path.parent / "out")
    assert "acoupi[aoef]" in str(error.value.help)
    assert not (path.parent / "out").exists()


def test_ebird_gets_what_a_person_verified_and_nothing_else(path: Path, found: Found) -> None:
    _, bird, odd, *_ = found
    exported(path, EBird(), path.parent / "none")
    review(path, bird, Verdict.RIGHT)
    review(path, odd, Verdict.OTHER, 'Corvus, "corax"\n')
    exported(path, EBird(), path.parent / "out", precision=0.01)

    assert (path.parent / "none" / "ebird-01.csv").read_bytes() == b""
    text = (path.parent / "out" / "ebird-01.csv").read_text()
    assert '"' not in text
    rows = [line.split(",") for line in text.splitlines()]
    assert [len(row) for row in rows] == [19, 19]
    assert [row[1:3] for row in rows] == [["Corvus;", "'corax'"], BIRD.split()]
    assert rows[1][6:10] == ["51.51", "-0.13", "06/01/2024", "20:00"]
    assert BAT not in text
    assert rows[1][14:16] == ["1", "N"]


def test_a_file_for_ebird_is_small_enough(
    path: Path, found: Found, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("acoupi.exports.formats.ebird.LARGEST", 250)
    for id_ in found:
        review(path, id_, Verdict.RIGHT)
    exported(path, EBird(), path.parent / "out")

    files = sorted((path.parent / "out").glob("ebird-*.csv"))
    assert len(files) > 1
    assert all(0 < one.stat().st_size <= 250 for one in files)
