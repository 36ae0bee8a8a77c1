"""Guards what a placement's text means."""

from __future__ import annotations

import pytest

from benchmark.methods.parts.placement import blocks_of, is_placement, normalised


@pytest.mark.parametrize(
    ("placement", "blocks"),
    [
        ("all", (0, 1, 2, 3, 4, 5)),
        ("every:1", (0, 1, 2, 3, 4, 5)),
        ("every:2", (0, 2, 4)),
        ("every:4", (0, 4)),
        ("first:2", (0, 1)),
        ("last:2", (4, 5)),
        ("blocks:0,3-4", (0, 3, 4)),
        ("blocks:4,1,1-2", (1, 2, 4)),
    ],
)
def test_placement_names_its_blocks_when_the_depth_is_six(placement: str, blocks: tuple[int, ...]) -> None:
    assert blocks_of(placement, depth=6) == blocks


@pytest.mark.parametrize("placement", ["every:7", "first:7", "last:9", "blocks:6", "blocks:2-6", "blocks:4-2"])
def test_placement_is_refused_when_outside_the_depth(placement: str) -> None:
    with pytest.raises(ValueError, match=r"blocks|backwards"):
        blocks_of(placement, depth=6)


@pytest.mark.parametrize("text", ["", "some", "every", "every:0", "first:-1", "blocks:", "blocks:1,", "last:2.5"])
def test_text_is_no_placement_when_its_form_is_unknown(text: str) -> None:
    assert not is_placement(text)


def test_spaces_are_dropped_when_a_placement_is_normalised() -> None:
    assert normalised("blocks: 0, 3") == "blocks:0,3"
