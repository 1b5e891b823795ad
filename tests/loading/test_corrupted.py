"""A sample of the damaged files of `python -m bench.corrupted`: every one accepted or refused by all alike."""

from __future__ import annotations

from collections import Counter

import damage
import numpy as np
import pytest

from bench import corrupted

COUNT = 192


def test_damage_is_a_function_of_seed_and_index() -> None:
    assert [damage.damaged(3, k) for k in range(40)] == [damage.damaged(3, k) for k in range(40)]
    assert damage.damaged(3, 7) != damage.damaged(4, 7)
    assert {damage.damaged(3, k).damage for k in range(len(damage.KINDS))} == set(damage.KINDS)


def test_defects_are_told_apart() -> None:
    jpeg, png = damage.whole()["420.jpg"], damage.whole()["rgb.png"]
    gif = damage.whole()["made.gif"]

    def on(*backends: str) -> dict[str, str]:
        return {name: "" if name in backends else "bad" for name in corrupted.BACKENDS}

    def outcome(data: bytes, verified: dict[str, str], full: dict[str, str], crop: dict[str, str]) -> str:
        found = {"verified": verified, "full": full, "crop": crop}
        return corrupted._outcome(data, found, [None] * 3, [None] * 3)

    good, bad, only_tf, only_dali = on(*corrupted.BACKENDS), on(), on("tf"), on("dali-cpu")
    reading = on("tf", "pillow")
    assert outcome(jpeg, good, good, good) == "accepted"
    assert outcome(jpeg, bad, bad, bad) == "refused"
    assert outcome(gif, reading, reading, reading) == "by kind"
    assert outcome(png, *[on("tf", "dali-cpu", "pillow")] * 3) == ("by kind" if len(good) > 3 else "accepted")
    assert outcome(jpeg, bad, only_tf, bad) == outcome(gif, bad, bad, only_tf) == "tf passes"
    assert outcome(png, bad, only_tf, bad) == outcome(jpeg, bad, only_dali, bad) == "disagreed"
    assert outcome(jpeg, only_tf, only_tf, only_tf) == outcome(gif, only_tf, bad, bad) == "disagreed"
    assert outcome(jpeg, good, good, only_tf) == outcome(jpeg, good, only_dali, good) == "disagreed"
    pixels = np.zeros((2, 2, 3), np.uint8)
    found = {"verified": good, "full": good, "crop": good}
    assert corrupted._outcome(jpeg, found, [pixels] * 3, [pixels] * 3) == "accepted"
    assert corrupted._outcome(jpeg, found, [pixels] * 3, [pixels, pixels, pixels + 1]) == "pixels differ"


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_every_damaged_file_is_accepted_or_refused_by_all_alike() -> None:
    pytest.importorskip("tensorflow")
    pytest.importorskip("nvidia.dali")
    pytest.importorskip("PIL.Image")
    found = corrupted.run(seed=1, first=0, count=COUNT)
    outcomes = Counter(one["outcome"] for one in found)
    assert not [one for one in found if one["outcome"] in corrupted.DEFECTS]
    assert len(found) == COUNT
    assert outcomes["accepted"] > COUNT / 6
    assert outcomes["refused"] > COUNT / 2
    assert outcomes["by kind"] > 0
    assert "crashed" in corrupted.table(found)
