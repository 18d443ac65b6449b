"""Seeds derived from the campaign's seed and a position in it, so that no generator's state has to be stored."""

from __future__ import annotations

import zlib

import numpy as np


def derive_seed(campaign_seed: int, round_index: int, part: str, index: int = 0) -> int:
    """The seed of one thing done in a campaign.

    Args:
        campaign_seed: of the configuration.
        round_index: decision round.
        part: what the seed is for (``"agent"``, ``"surrogate"``, the name of a generator).
        index: how often that part was asked before in the round.

    Returns:
        An integer of 63 bits, which any library takes.
    """
    spawn_key = (round_index, zlib.crc32(part.encode()), index)
    words = np.random.SeedSequence(campaign_seed, spawn_key=spawn_key).generate_state(2, np.uint32)
    return (int(words[0]) << 31) ^ int(words[1])
