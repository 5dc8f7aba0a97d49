"""The sample that is kept for review: exact counts and no bias, whatever the order."""

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from acoupi import data
from acoupi.components import SqliteStore
from acoupi.sampling import Sampling
from tests.stores import at, detection, output, recording

BAT, BIRD = "Myotis nattereri", "Turdus merula"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(tmp_path / "metadata.db")
    store.sampling = Sampling(size=3, quiet_per_night=2)
    yield store
    store.close()


def sounds(number: int, *, seed: int = 1, every_s: float = 10) -> list[data.Recording]:
    ids = random.Random(seed)
    return [
        recording(None, every_s * place, id=UUID(int=ids.getrandbits(128), version=4))
        for place in range(number)
    ]


def offered(store: SqliteStore, sound: data.Recording, *found: data.Detection) -> bool:
    store.store_recording(sound)
    return store.sample_recording(sound, [output(sound, *found)])


def bat(score: float) -> data.Detection:
    return detection(score, ("species", BAT, score))


def in_sample(store: SqliteStore, sound_s: list[data.Recording]) -> list[data.Recording]:
    """Return those of them that are in it; asking for a group again changes nothing."""
    return [one for one in sound_s if store.sample_recording(one, [output(one, bat(0.95))])]


def test_each_group_has_its_number_exactly_and_holds_the_smallest_hashes(
    store: SqliteStore,
) -> None:
    every = sounds(30)
    for one in every:
        offered(store, one, bat(0.95))

    kept = in_sample(store, every)
    rank = Sampling().rank
    assert kept == sorted(sorted(every, key=lambda one: rank(one.id))[:3], key=every.index)


def test_the_order_does_not_matter(store: SqliteStore) -> None:
    every = sounds(30)
    for one in reversed(every):
        offered(store, one, bat(0.95))

    rank = Sampling().rank
    assert {one.id for one in in_sample(store, every)} == {
        one.id for one in sorted(every, key=lambda one: rank(one.id))[:3]
    }


def test_models_species_and_scores_have_groups_of_their_own(store: SqliteStore) -> None:
    groups = Sampling(size=3).groups
    sound = sounds(1)[0]
    outputs = [
        output(sound, bat(0.95), bat(0.91), bat(0.15), detection(1.0, ("species", BIRD, 1.0))),
        output(sound, bat(0.95), name_model="others"),
    ]

    assert groups(sound, outputs) == {
        f"bats\t{BAT}\t9": 3,
        f"bats\t{BAT}\t1": 3,
        f"bats\t{BIRD}\t9": 3,
        f"others\t{BAT}\t9": 3,
    }


def test_some_recordings_without_detections_are_kept_each_night(store: SqliteStore) -> None:
    every = sounds(40, every_s=3_600)
    for one in every:
        offered(store, one)

    kept = [one for one in every if store.sample_recording(one, [output(one)])]
    nights = Counter((one.created_on - (at(0) - at(-43_200))).date() for one in every)
    assert Counter(
        (one.created_on - (at(0) - at(-43_200))).date() for one in kept
    ) == dict.fromkeys(nights, 2)


def test_a_recording_that_no_model_has_seen_is_not_sampled(store: SqliteStore) -> None:
    sound = sounds(1)[0]
    store.store_recording(sound)

    assert not store.sample_recording(sound, [])


def test_nothing_is_sampled_unless_it_is_asked_for(store: SqliteStore) -> None:
    store.sampling = Sampling()

    assert not offered(store, sounds(1)[0], bat(0.95))


def test_a_larger_sample_later_does_not_prefer_what_comes_later(store: SqliteStore) -> None:
    every = sounds(400)
    for one in every[:200]:
        offered(store, one, bat(0.95))
    store.sampling = Sampling(size=100)
    for one in every[200:]:
        offered(store, one, bat(0.95))

    kept = {one.id for one in in_sample(store, every)}
    rank = Sampling().rank
    refused = sorted(rank(one.id) for one in every[:200])[3]
    assert kept == {one.id for one in every if rank(one.id) < refused}


def test_the_sample_has_no_bias() -> None:
    """Each place in a season has the same chance: chi-square of 20 parts, 1,000 seeds."""
    every = sounds(200)
    counts = [0] * 20
    for seed in range(1_000):
        rank = Sampling(seed=seed).rank
        for place in sorted(range(200), key=lambda at: rank(every[at].id))[:10]:
            counts[place // 10] += 1

    expected = 1_000 * 10 / 20
    chi_square = sum((one - expected) ** 2 / expected for one in counts)
    assert sum(counts) == 10_000
    assert chi_square < 43.8  # 99.9 % of 19 degrees of freedom


def test_what_only_the_sample_kept_is_told_once_it_is_displaced(
    store: SqliteStore, tmp_path: Path
) -> None:
    rank = Sampling().rank
    every = sorted(sounds(5), key=lambda one: -rank(one.id))
    for number, one in enumerate(every):
        assert offered(store, one, bat(0.95))
        if number != 1:  # a saving filter wants that one, too
            store.note_kept_for_sample(one, tmp_path / f"{number}.wav")

    assert [(one.id, path.name) for one, path in store.get_displaced_recordings()] == [
        (every[0].id, "0.wav")
    ]
    store.forget_displaced(every[0])
    assert store.get_displaced_recordings() == []
