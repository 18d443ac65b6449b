"""Ensembles of networks as barrier models: fitting, predicting, and their plain data."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import nn

from ...structures.settings import Settings
from ..base import Metrics, Report, SurrogateError, SurrogateState
from .base import BarrierPrediction, BarrierSpec
from .calibration import Calibration
from .hops import Hops, phase_of
from .network_training import NetworkInputs, NetworkTrainingSettings, evaluate, train_network
from .ridge import Ridge, RidgeSettings, base_of, with_base

KIND = "barrier_network"
_CHUNK = 4096  # hops whose inputs are in memory at a time when barriers are predicted


class NetworkSettings(Settings, ABC):
    """What the settings of all kinds of networks have in common: an ensemble, and how it is fitted."""

    kind: str
    n_members: int = Field(default=1, ge=1)
    """Networks in the ensemble, trained from different starts; their disagreement tells the error to expect."""
    base: RidgeSettings | None = None
    """A linear model whose errors the networks learn; none in the paper."""
    training: NetworkTrainingSettings = NetworkTrainingSettings()
    """Optimizer, schedule, limits."""

    def fit(
        self,
        train: Hops,
        validation: Hops,
        *,
        elements: tuple[str, ...],
        seed: int,
        report: Report | None = None,
        checkpoint_path: Path | None = None,
    ) -> NetworkModel:
        """Train the members one after the other; see :class:`~.base.BarrierTrainer`."""
        return _fit(self, train, validation, elements, seed, report, checkpoint_path)

    def facts(self, hops: Hops) -> dict[str, Any]:
        """JSON-able numbers that come from the training hops, such as the size of a voxel."""
        return {}

    @abstractmethod
    def network(self, spec: BarrierSpec) -> nn.Module:
        """A network with random weights."""

    @abstractmethod
    def inputs(self, hops: Hops, spec: BarrierSpec) -> NetworkInputs:
        """What the network is shown."""

    def views(self, inputs: NetworkInputs) -> Sequence[NetworkInputs]:
        """Equivalent ways to show the same hops, over which predictions are averaged."""
        return (inputs,)


@dataclass(frozen=True, eq=False)
class NetworkModel:
    """Networks that were trained from different starts.

    Attributes:
        centre_ev, scale_ev: an output of 0 is the centre, 1 is a scale above.
        base: linear model that is added, if any.
    """

    spec: BarrierSpec
    settings: NetworkSettings
    calibration: Calibration
    centre_ev: float
    scale_ev: float
    members: Sequence[nn.Module]
    base: Ridge | None = None

    def predict(self, hops: Hops) -> BarrierPrediction:
        """See :class:`~.base.BarrierModel`."""
        mean, spread = self.mean_and_spread(hops)
        return BarrierPrediction(mean, self.calibration.std_ev(spread))

    def mean_and_spread(self, hops: Hops) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation over the members, ``[n_hops]`` each, eV."""
        # where a network was trained does not bind those who use it
        wants_gpu = self.settings.training.device == "cuda" and torch.cuda.is_available()
        device = torch.device("cuda" if wants_gpu else "cpu")
        outputs = np.empty((len(self.members), len(hops)))
        mean = np.empty(len(hops))
        for member in self.members:
            member.to(device)
        for start in range(0, len(hops), _CHUNK):
            part = np.arange(start, min(start + _CHUNK, len(hops)))
            shown = self.settings.inputs(hops.take(part), self.spec)
            for k, member in enumerate(self.members):
                outputs[k, part] = self.centre_ev + self.scale_ev * _output(self.settings, member, shown, device)
            mean[part] = outputs[:, part].mean(axis=0)
            if self.base is not None:
                mean[part] += self.base.predict(hops.take(part)).mean_ev
        return mean, outputs.std(axis=0)

    def state(self) -> SurrogateState:
        """See :class:`~.base.BarrierModel`."""
        arrays = {
            f"{k}/{name}": value.detach().cpu().numpy()
            for k, member in enumerate(self.members)
            for name, value in member.state_dict().items()
        }
        settings = {
            "spec": self.spec.as_settings(),
            "settings": self.settings.model_dump(mode="json"),
            "calibration": [self.calibration.floor_ev, self.calibration.factor],
            "centre_ev": self.centre_ev,
            "scale_ev": self.scale_ev,
        }
        return with_base(SurrogateState(KIND, settings, arrays), self.base)


def _fit(
    settings: NetworkSettings,
    train: Hops,
    validation: Hops,
    elements: tuple[str, ...],
    seed: int,
    report: Report | None,
    checkpoint_path: Path | None,
) -> NetworkModel:
    spec = BarrierSpec(settings.kind, phase_of(train), elements, len(train), settings.facts(train))
    base = None
    targets, judged_targets = train.barriers_ev, validation.barriers_ev
    if settings.base is not None:
        base = settings.base.fit(train, validation, elements=elements, seed=seed)
        targets = targets - base.predict(train).mean_ev
        judged_targets = judged_targets - base.predict(validation).mean_ev
    centre, scale = float(np.median(targets)), max(float(targets.std()), 1e-6)
    inputs, judged = settings.inputs(train, spec), settings.inputs(validation, spec)
    # settings of the training have a hash of their own, and members may be added
    apart = ("training", "n_members")
    shown = {name: value for name, value in settings.model_dump(mode="json").items() if name not in apart}
    identity = json.dumps([train.digest(), validation.digest(), elements, shown], sort_keys=True)
    members, outputs = [], []
    for k in range(settings.n_members):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed((seed + k) % 2**63)
            network = settings.network(spec)
        train_network(
            network,
            inputs,
            (targets - centre) / scale,
            judged,
            (judged_targets - centre) / scale,
            settings.training,
            seed=(seed + k) % 2**63,
            identity=identity,
            report=None if report is None else _in_ev(report, k, scale),
            checkpoint_path=None if checkpoint_path is None else member_checkpoint(checkpoint_path, k),
        )
        members.append(network)
        outputs.append(centre + scale * _output(settings, network, judged, torch.device("cpu")))
    found = np.array(outputs)
    calibration = Calibration.of(found.mean(axis=0) - judged_targets, found.std(axis=0))
    return NetworkModel(spec, settings, calibration, centre, scale, members, base)


def _output(settings: NetworkSettings, network: nn.Module, shown: NetworkInputs, device: torch.device) -> np.ndarray:
    """Mean over the views, ``[n_hops]``."""
    return np.asarray(np.mean([evaluate(network, view, device) for view in settings.views(shown)], axis=0))


def zero_output(n_inputs: int) -> nn.Linear:
    """A last layer whose output is zero before the training: a network begins at its linear model, or at the mean."""
    layer = nn.Linear(n_inputs, 1)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def member_checkpoint(path: Path, member: int) -> Path:
    """Where one member of an ensemble keeps its state."""
    return path.with_name(f"{path.name}.{member}")


def network_from_state(
    state: SurrogateState, read_settings: Callable[[Mapping[str, Any]], NetworkSettings]
) -> NetworkModel:
    """The model of a state.

    Raises:
        SurrogateError: something is missing.
    """
    try:
        spec = BarrierSpec.from_settings(state.settings["spec"])
        settings = read_settings(state.settings["settings"])
        members = []
        for k in range(settings.n_members):
            network = settings.network(spec)
            prefix = f"{k}/"
            weights = {n[len(prefix) :]: torch.as_tensor(v) for n, v in state.arrays.items() if n.startswith(prefix)}
            network.load_state_dict(weights)
            members.append(network.eval())
        calibration = Calibration(*state.settings["calibration"])
        centre, scale = state.settings["centre_ev"], state.settings["scale_ev"]
        return NetworkModel(spec, settings, calibration, centre, scale, members, base_of(state))
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise SurrogateError(f"the network's state is incomplete ({error!r}); fit it again") from error


def _in_ev(report: Report, member: int, scale_ev: float) -> Report:
    def tell(epoch: int, metrics: Metrics) -> bool:
        row = {"network": float(member + 1), "epoch": metrics["epoch"], "rate": metrics["rate"]}
        errors = {f"{part}_mae_ev": scale_ev * metrics[f"{part}_mae"] for part in ("training", "validation")}
        return report(epoch, row | errors)

    return tell
