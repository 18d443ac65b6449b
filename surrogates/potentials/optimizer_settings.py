"""How a configuration names an optimizer."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ...structures.settings import Settings


class AdamSettings(Settings):
    """Adam (Kingma and Ba, 2014) on mini-batches."""

    kind: Literal["adam"] = "adam"
    learning_rate: float = Field(default=0.01, gt=0.0)
    """Learning rate, which the schedule multiplies."""
    beta_1: float = Field(default=0.9, ge=0.0, lt=1.0)
    """Decay of the mean of the gradients."""
    beta_2: float = Field(default=0.999, ge=0.0, lt=1.0)
    """Decay of the mean of the squared gradients."""
    epsilon: float = Field(default=1e-8, gt=0.0)
    """Added to the root of the mean square."""
    max_gradient_norm: float | None = Field(default=None, gt=0.0)
    """Longer gradients are shortened to this norm."""
    batch_frames: int = Field(default=25, ge=1)
    """Largest number of frames in a mini-batch."""
    reshuffle: Literal["batches", "frames"] = "batches"
    """What is put in a new order in each epoch: the batches (frames are dealt to them once, so that batches can be kept
    in memory) or all frames."""

    @property
    def is_full_batch(self) -> bool:
        """Whether a step takes all frames."""
        return False


class LbfgsSettings(Settings):
    """Limited-memory BFGS on all frames, with a line search for the Wolfe conditions (Nocedal and Wright, 2006)."""

    kind: Literal["lbfgs"] = "lbfgs"
    n_pairs: int = Field(default=20, ge=1)
    """Number of past steps that make up the curvature."""
    max_evaluations: int = Field(default=15, ge=1)
    """Largest number of gradients in one line search."""
    tolerance: float = Field(default=1e-7, ge=0.0)
    """Training ends when a step lowers the loss by less than this share of it, several times in a row."""

    @property
    def is_full_batch(self) -> bool:
        """Whether a step takes all frames."""
        return True


class GaussNewtonSettings(Settings):
    """Gauss-Newton steps with Levenberg-Marquardt damping on all frames, for models with few parameters.

    Models of splines have their derivatives in closed form: the curvature is that of all frames, anew in each step, and
    the first two steps move the functions that energies are linear in. Of other models it costs as much as hundreds of
    gradients, so it is computed now and then, the terms of forces and virials from a part of the frames, and follows
    the gradients in between.
    """

    kind: Literal["gauss_newton"] = "gauss_newton"
    refresh_steps: int | None = Field(default=None, ge=1)
    """Number of steps between two computations of the curvature; between them it follows the gradients (BFGS). By
    default as many as cost about as much as the curvature, 15 at most; one for models of splines. A curvature that
    foresees badly is computed anew at once, that of constraints always."""
    curvature_frames: int | None = Field(default=60, ge=1)
    """Number of frames, drawn anew each time, from which the curvature of the terms of forces and virials is estimated;
    all where it is unset. Energies, and models of splines, take all frames."""
    damping: float = Field(default=1e-3, gt=0.0)
    """First damping, relative to the diagonal of the curvature."""
    floor: float = Field(default=1e-5, ge=0.0)
    """Smallest damping of each parameter, relative to the mean of the curvature's diagonal: keeps those that the data
    says next to nothing about from running away."""
    max_trials: int = Field(default=8, ge=1)
    """Largest number of dampings tried in one step."""
    tolerance: float = Field(default=1e-4, ge=0.0)
    """Training ends when steps with a new curvature lower the loss by less than this share of it, several times in a
    row."""

    @property
    def is_full_batch(self) -> bool:
        """Whether a step takes all frames."""
        return True


class LeastSquaresSettings(Settings):
    """The parameters that energies are linear in, in closed form, all others as they are: for deep potentials the last
    layers of the fitting networks. One step, for models whose start says what neighbours do (`start: radial`,
    `start: principal`)."""

    kind: Literal["least_squares"] = "least_squares"
    ridge: float = Field(default=1e-6, ge=0.0)
    """Penalty of the squares of these parameters, relative to the curvature of the loss. Larger ones fit the data less
    well and go less wild beyond it."""

    @property
    def is_full_batch(self) -> bool:
        """Whether a step takes all frames."""
        return True


OptimizerSettings = Annotated[
    AdamSettings | LbfgsSettings | GaussNewtonSettings | LeastSquaresSettings, Field(discriminator="kind")
]
"""How the loss is minimized, by ``kind``."""
