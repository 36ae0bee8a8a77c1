"""Guards that random numbers depend on (seed, name, counter) alone."""

from __future__ import annotations

import torch

from benchmark.streams import generator, stream_key, uniform

SPLITMIX64_FROM_SEED_0 = (0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F)
"""The first outputs of the published SplitMix64 reference code, seeded with 0."""


def test_uniform_is_the_published_generator_when_counted_from_zero() -> None:
    expected = torch.tensor([(value >> 40) / 2**24 for value in SPLITMIX64_FROM_SEED_0])
    assert torch.equal(uniform(0, torch.arange(3)), expected)


def test_uniform_depends_on_the_counter_alone_when_computed_in_parts() -> None:
    key = stream_key(3, "augmentation")
    whole = uniform(key, torch.arange(100))
    assert torch.equal(torch.cat([uniform(key, torch.arange(60)), uniform(key, torch.arange(60, 100))]), whole)


def test_uniform_fills_the_unit_interval_evenly_when_drawn_often() -> None:
    counts = torch.histc(uniform(stream_key(0, "x"), torch.arange(100_000)), bins=10, min=0, max=1)
    assert (counts - 10_000).abs().max() < 500  # five standard deviations of a binomial count


def test_streams_differ_when_seed_or_name_differs() -> None:
    keys = {stream_key(seed, name) for seed in range(10) for name in ("head", "order/epoch1")}
    assert len(keys) == 20


def test_generator_repeats_when_asked_for_again() -> None:
    first, second = (torch.randn(4, generator=generator(5, "head")) for _ in range(2))
    assert torch.equal(first, second)
