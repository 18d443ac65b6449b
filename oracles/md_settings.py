"""Settings of a molecular dynamics run, and the limits at which it stops."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from ..structures.settings import Settings

Ensemble = Literal["nve", "nvt", "npt"]
Thermostat = Literal["nose_hoover", "langevin"]
Barostat = Literal["iso", "aniso", "tri"]


class MdLimits(Settings):
    """When a run is no physics any more and stops."""

    max_temperature_k: float | None = Field(default=None, gt=0.0)
    """Instantaneous temperature; by default five times the hottest target plus 2,000 K."""
    max_force_ev_ang: float = Field(default=100.0, gt=0.0)
    """Largest component of a force."""
    min_distance_ang: float = Field(default=1.0, ge=0.0)
    """Smallest distance of two atoms; 0 switches the check off."""
    check_steps: int = Field(default=10, ge=1)
    """Steps from one check of the distances to the next. Temperature, forces and volume are checked at every step."""
    min_volume_ratio: float = Field(default=0.5, gt=0.0, lt=1.0)
    """Smallest volume, as a share of that at the start."""
    max_volume_ratio: float = Field(default=2.0, gt=1.0)
    """Largest volume, as a multiple of that at the start."""
    wall_s: float | None = Field(default=None, gt=0.0)
    """Wall seconds after which the run stops, at the end of a block; it can be resumed."""


class MdSettings(Settings):
    """Molecular dynamics in LAMMPS."""

    ensemble: Ensemble = "nvt"
    """Constant energy and volume (`nve`), constant volume and temperature (`nvt`), or constant pressure and
    temperature (`npt`)."""
    temperature_k: float = Field(default=300.0, ge=0.0)
    """Target temperature, at the start of a ramp; and that of the velocities at the start."""
    temperature_end_k: float | None = Field(default=None, gt=0.0)
    """Target at the last step of a linear ramp; constant if left out."""
    pressure_gpa: float = 0.0
    """Target pressure of `npt`, at the start of a ramp."""
    pressure_end_gpa: float | None = None
    """Target pressure at the last step of a linear ramp; constant if left out."""
    thermostat: Thermostat = "nose_hoover"
    """Nosé-Hoover chains, or `langevin` (random forces and friction; better for small cells and for solids)."""
    barostat: Barostat = "iso"
    """What the cell may do: keep its shape (`iso`), change its three lengths (`aniso`), or all lengths and angles
    (`tri`)."""
    thermostat_damping_ps: float = Field(default=0.1, gt=0.0)
    """Relaxation time of the temperature."""
    barostat_damping_ps: float = Field(default=1.0, gt=0.0)
    """Relaxation time of the pressure."""
    timestep_fs: float = Field(default=1.0, gt=0.0, le=20.0)
    """Time step."""
    n_steps: int = Field(default=10_000, ge=1)
    """Number of steps."""
    stride: int = Field(default=100, ge=1)
    """Steps from one frame of the trajectory to the next."""
    block_steps: int = Field(default=1000, ge=1)
    """Steps of a block, rounded up to a multiple of `stride`. A run can be resumed from the end of any block."""
    velocities: Literal["random", "keep"] = "random"
    """Velocities at the start: drawn for `temperature_k`, or those of the structure."""
    seed: int = Field(default=0, ge=0)
    """Seed of the velocities and of the Langevin thermostat."""
    with_velocities: bool = False
    """Whether frames keep velocities."""
    with_forces: bool = False
    """Whether frames keep forces."""
    limits: MdLimits = MdLimits()
    """When to stop early."""

    @model_validator(mode="after")
    def _is_consistent(self) -> MdSettings:
        if self.ensemble != "npt" and (self.pressure_gpa != 0.0 or self.pressure_end_gpa is not None):
            raise ValueError(f"ensemble {self.ensemble} has no target pressure; choose npt or leave the pressure out")
        if self.ensemble == "nve" and self.temperature_end_k is not None:
            raise ValueError("ensemble nve has no thermostat and so no ramp of the temperature; choose nvt or npt")
        if self.ensemble != "nve" and self.temperature_k == 0.0:
            raise ValueError(f"temperature_k is 0; ensemble {self.ensemble} needs a positive one")
        return self

    @property
    def segment_steps(self) -> int:
        """Steps of a block: the multiple of the stride at or above ``block_steps``."""
        return -(-self.block_steps // self.stride) * self.stride

    @property
    def max_temperature_k(self) -> float:
        """The limit of the instantaneous temperature, K."""
        hottest = max(self.temperature_k, self.temperature_end_k or 0.0)
        return self.limits.max_temperature_k or 5.0 * hottest + 2000.0

    @property
    def is_ramp(self) -> bool:
        """Whether a target changes with time, so that the number of steps matters at every step."""
        return self.temperature_end_k is not None or self.pressure_end_gpa is not None

    def differences(self, other: MdSettings) -> list[str]:
        """Names of the settings in which a run with ``other`` would not go on as this one.

        The number of steps may change where nothing ramps, as may what is written, and the limits.
        """
        free = {"stride", "block_steps", "with_velocities", "with_forces", "limits"}
        if not self.is_ramp:
            free.add("n_steps")
        mine, theirs = self.model_dump(exclude=free), other.model_dump(exclude=free)
        return sorted(name for name in mine if mine[name] != theirs[name])
