"""How a configuration names a deep potential, and building it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from ase.data import atomic_numbers
from pydantic import Field, model_validator

from ...structures.settings import Settings
from ..base import SurrogateError, SurrogateState
from ..potentials.torch_potential import TorchPotential
from .model import Architecture, DeepPotModel

KIND = "deeppot"


class DescriptorSettings(Settings):
    """The descriptor and its embedding networks; DeePMD-kit's `se_e2_a`."""

    neuron: tuple[int, ...] = Field(default=(10, 20), min_length=1)
    """Widths of the embedding networks; a layer that keeps or doubles the width has a shortcut."""
    axis_neuron: int = Field(default=4, ge=1)
    """Number of columns that the descriptor pairs with all others."""
    resnet_dt: bool = False
    """Trained time steps in the embedding networks."""
    type_one_side: bool = False
    """One embedding network for each species of neighbours, instead of one for each pair of species."""
    start: Literal["random", "radial"] = "random"
    """First embedding networks: drawn as DeePMD-kit does, or made from the distances and species of the data: radial
    functions that are the same for all pairs of species (`axis_neuron` columns), and contrasts between species (the
    other columns). For `least_squares`; takes two widths, the second neither that of the first nor twice that."""

    @model_validator(mode="after")
    def _is_possible(self) -> DescriptorSettings:
        if self.start == "radial":
            self._can_start_radial()
        if min(self.neuron) < 1:
            raise ValueError(f"neuron must be positive widths, got {self.neuron}")
        if self.axis_neuron > self.neuron[-1]:
            raise ValueError(f"axis_neuron must be at most the last width {self.neuron[-1]}, got {self.axis_neuron}")
        return self

    def _can_start_radial(self) -> None:
        if self.type_one_side:
            raise ValueError("start: radial takes the species of both atoms; leave type_one_side out")
        if len(self.neuron) != 2 or self.neuron[1] in (self.neuron[0], 2 * self.neuron[0]):
            raise ValueError(
                f"start: radial takes two widths without a shortcut between them, such as [16, 18], got "
                f"{list(self.neuron)}"
            )
        if self.axis_neuron > self.neuron[0]:
            raise ValueError(
                f"start: radial makes axis_neuron = {self.axis_neuron} functions of the first layer, which must be as "
                f"wide, got {self.neuron[0]}"
            )


class FittingSettings(Settings):
    """The fitting networks, one for each species."""

    neuron: tuple[int, ...] = Field(default=(50, 50), min_length=1)
    """Widths of the hidden layers; a layer that keeps or doubles the width has a shortcut."""
    resnet_dt: bool = True
    """Trained time steps."""
    normalize_features: bool = True
    """Descriptors enter with mean 0 and deviation 1, as they are over training data before the first step. DeePMD-kit
    has no such thing and learns more slowly; a model exported to it has it in its first layer."""
    start: Literal["random", "principal"] = "random"
    """First weights of the first layer: drawn as DeePMD-kit does, or random combinations of the principal components
    of the descriptors, which lets `least_squares` use more of them."""
    start_spread: float = Field(default=0.3, gt=0.0)
    """How far the inputs of the first layer spread over the data at a `principal` start. Small ones make nearly
    polynomials of low order, which stay tame beyond the data (0.3); larger ones fit it better (1)."""

    @model_validator(mode="after")
    def _is_possible(self) -> FittingSettings:
        if self.start == "principal" and not self.normalize_features:
            raise ValueError("start: principal is along normalized descriptors; set normalize_features: true")
        if min(self.neuron) < 1:
            raise ValueError(f"neuron must be positive widths, got {self.neuron}")
        return self


class DeepPotSettings(Settings):
    """A deep potential with a smooth descriptor (DeepPot-SE); activations are `tanh`."""

    kind: Literal["deeppot"] = "deeppot"
    cutoff_ang: float = Field(default=6.0, gt=2.0, le=15.0)
    """Pairs of atoms further apart do not interact, Å; DeePMD-kit's `rcut`."""
    switch_ang: float = Field(default=5.0, gt=0.0)
    """From here to the cutoff neighbours fade out, Å; DeePMD-kit's `rcut_smth`."""
    descriptor: DescriptorSettings = DescriptorSettings()
    """Descriptor and embedding networks."""
    fitting_net: FittingSettings = FittingSettings()
    """Fitting networks."""
    core: Literal["none", "zbl"] = "none"
    """What holds atoms apart that come closer than in any structure that was learnt from: nothing but the networks, or
    the screened repulsion of their nuclei (Ziegler, Biersack and Littmark). It sets in smoothly at the shortest
    distance of each pair of species in the data, 0.7 times the sum of their covalent radii at most, and changes nothing
    on the data. For collisions, very hot melts and exploration."""
    seed: int | None = Field(default=None, ge=0)
    """Of the first parameters; that of the training where it is unset."""

    @model_validator(mode="after")
    def _is_possible(self) -> DeepPotSettings:
        if self.switch_ang >= self.cutoff_ang:
            raise ValueError(f"switch_ang must be below cutoff_ang = {self.cutoff_ang}, got {self.switch_ang}")
        return self

    def build(self, elements: Sequence[str]) -> DeepPotModel:
        """A model of these elements with random parameters.

        Raises:
            SurrogateError: symbols that are no different chemical elements.
        """
        symbols = tuple(elements)
        if not symbols or len(set(symbols)) < len(symbols) or any(s not in atomic_numbers for s in symbols):
            raise SurrogateError(f"elements must be different chemical symbols, got {' '.join(symbols) or 'none'}")
        architecture = Architecture(
            switch_ang=self.switch_ang,
            embedding=self.descriptor.neuron,
            axis_neurons=self.descriptor.axis_neuron,
            fitting=self.fitting_net.neuron,
            embedding_time_step=self.descriptor.resnet_dt,
            fitting_time_step=self.fitting_net.resnet_dt,
            normalize_features=self.fitting_net.normalize_features,
            one_side=self.descriptor.type_one_side,
            radial_start=self.descriptor.start == "radial",
            principal_start=self.fitting_net.start_spread if self.fitting_net.start == "principal" else None,
        )
        form = self.model_dump(mode="json")
        return DeepPotModel(symbols, self.cutoff_ang, architecture, seed=self.seed, settings=form)


def deeppot_from_state(state: SurrogateState) -> TorchPotential:
    """See :meth:`~..potentials.torch_potential.TorchPotential.from_state`."""

    def build(form: Any, elements: tuple[str, ...]) -> DeepPotModel:
        return DeepPotSettings.model_validate(form).build(elements)

    return TorchPotential.from_state(state, KIND, build)
