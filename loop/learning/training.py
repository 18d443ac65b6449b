"""The training stage of a round: a committee from all labels, its members told apart by what they learn from."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ...surrogates.base import Metrics
from ...surrogates.potentials.base import PotentialSpec
from ...surrogates.potentials.committee import Committee
from ...surrogates.potentials.energy_reference import reference_energies, without_reference
from ...surrogates.potentials.frame import Frame
from ...surrogates.potentials.staged_training import train_in_stages
from ...surrogates.potentials.torch_potential import TorchPotential
from ..seeding import derive_seed
from .config import LearningConfig


def train_committee(
    config: LearningConfig,
    frames: Sequence[Frame],
    index: int,
    on_step: Callable[[int, int], bool],
    before: Committee | None = None,
) -> Committee | None:
    """Train the committee of a round.

    Args:
        frames: all that may be learnt from, with energies as the oracle gives them. The first member learns from all
            of them, each of the others from a random share.
        index: of the round; seeds derive from it.
        on_step: called with a member, from 0, and its step; ``False`` ends the training.
        before: the committee of the round before, whose weights each member starts from, near the end of the descent.

    Returns:
        The committee, ``None`` where ``on_step`` has ended its training. Its potentials give energies as the oracle
        does: what ``energy_reference`` takes from the labels, the same for all members, is added again.

    Raises:
        SurrogateError: the labels do not determine the reference energies, or a training diverges.
        ConfigError: a constraint that cannot be used.
    """
    elements = config.system.elements
    references = reference_energies(config.energy_reference, frames, elements)
    reduced = without_reference(frames, references)
    constraints = [
        settings.build(elements, config.potential.cutoff_ang, reference_energies_ev=references)
        for settings in config.constraints
    ]
    members = []
    for which in range(config.committee.n_members):
        seed = derive_seed(config.seed, index, "training", which)
        learnt = reduced if which == 0 else _share(reduced, config.committee.share, seed)
        was_ended = False

        def report(step: int, metrics: Metrics, which: int = which) -> bool:
            nonlocal was_ended
            was_ended = not on_step(which, step)
            return not was_ended

        model = config.potential.build(elements)
        earlier = before.members[which] if before is not None else None
        if isinstance(earlier, TorchPotential):
            model.load_state_dict(earlier.model.state_dict())
        result = train_in_stages(
            model,
            learnt,
            (),
            constraints,
            config.training,
            warm_up_epochs=config.warm_up_epochs if earlier is None else 0,
            seed=seed,
            report=report,
        )
        if was_ended:
            return None
        spec = PotentialSpec(
            config.potential.kind,
            elements,
            model.cutoff_ang,
            n_train=len(learnt),
            reference_energies_ev=references,
            facts={"n_steps": result.n_steps, "stop_reason": result.stop_reason, "cpu_s": result.cpu_s},
        )
        members.append(TorchPotential(spec, result.model))
    return Committee(tuple(members))


def _share(frames: Sequence[Frame], share: float, seed: int) -> list[Frame]:
    """A random share of the frames, of several never all."""
    n = min(max(1, round(share * len(frames))), max(1, len(frames) - 1))
    chosen = np.random.default_rng(seed).choice(len(frames), size=n, replace=False)
    return [frames[i] for i in sorted(chosen)]
