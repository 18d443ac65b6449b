"""A band on its way to the path of least energy: which images move, where to, and what they learn from it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .band import Band, BandLimits, BandSprings, ImageFunction, evaluate_image, improved_tangents, no_saddle

_MAX_MOVE_ANG = 0.1
"""Largest step of an atom."""
_GUIDE_ABOVE_EV_ANG = 0.5
"""Until forces are below this, images relax across the guide; tangents of a band so far from the path are wild."""
_SETTLE_BELOW_EV_ANG = 0.05
"""Then the climbing image climbs alone until its force is below this, because it decides where the others belong."""
_MAX_CLIMB_ANG = 0.1
_CLIMB_BELOW_EV_ANG = 0.02
_CLIMB_BELOW_SLOPE = 0.3
"""The climbing image climbs where the force across the guide is below the one or the other: the slope of a crystal that
has not given way says little."""
_MIN_CURVATURE_EV_ANG2 = 0.3
_STEPS_TO_SETTLE = 60
"""After so many steps beside a converged climbing image, a path that has gone astray is laid anew."""
_SHARE_OF_SHIFT = 0.5
"""All of it would swing to and fro, as the tangents turn with it."""
_MIN_PROGRESS_ANG = 1e-3
"""A climb shorter than this says nothing about the curvature."""
_RIDGE_EV = 1e-4
"""An image higher than the climbing one by this much stands on a second ridge, and climbs instead."""


class _RidgeSearch:
    """Looks for the maximum along a line from slopes, by secants within a bracket.

    Args:
        curvature: estimate of the negative second derivative, eV/Å^2.
    """

    def __init__(self, curvature: float) -> None:
        self.curvature = curvature
        self._last: tuple[float, float] | None = None
        self._below, self._above = -np.inf, np.inf

    def step(self, place: float, slope: float) -> float:
        """How far to go, Å.

        Args:
            place: where we are, Å.
            slope: force along the line, eV/Å: negative before the maximum.
        """
        if self._last is not None and abs(place - self._last[0]) > _MIN_PROGRESS_ANG:
            found = (slope - self._last[1]) / (place - self._last[0])
            self.curvature = float(np.clip(found, 0.3 * self.curvature, 3.0 * self.curvature))
        self._last = (place, slope)
        if slope < 0.0:
            self._below = place
        else:
            self._above = place
        if self._above - self._below < 10.0 * _MIN_PROGRESS_ANG:  # or negative: the crystal has changed meanwhile
            self._below, self._above = -np.inf, np.inf
        target = place + float(np.clip(-slope / self.curvature, -_MAX_CLIMB_ANG, _MAX_CLIMB_ANG))
        if not self._below <= target <= self._above:
            target = 0.5 * (self._below + self._above)
        return target - place


class MovingBand:
    """A band on its way.

    Args:
        functions: evaluates each image.
        path: first guess, ``[n_images, n_atoms, 3]``, Å.
        guide: ``[n_atoms, 3]``, across which images relax until one of them climbs along it.
        springs: first guesses of Hessians.
        limits: when it is converged.
    """

    def __init__(
        self,
        functions: Sequence[ImageFunction],
        path: np.ndarray,
        guide: np.ndarray,
        springs: BandSprings,
        limits: BandLimits,
    ) -> None:
        n_images = len(path)
        self._functions = functions
        self._limits = limits
        self._springs = springs
        self._x = path.reshape(n_images, -1).copy()
        self._energies = np.empty(n_images)
        self._forces = np.empty_like(self._x)
        self.n_calls = 0
        for k in range(n_images):
            self._evaluate(k)
        self._hessians = [springs.loose() for _ in range(n_images)]
        guide = (guide - guide.mean(axis=0)).ravel()
        self._guide = guide / np.linalg.norm(guide)
        self._is_guided = True
        self._n_settling = 0
        self._max_move_ang = _MAX_MOVE_ANG
        self._ridge = _RidgeSearch(_MIN_CURVATURE_EV_ANG2)
        self.climbing = 1 + int(np.argmax(self._energies[1:-1]))
        self._tangents = np.tile(self._guide, (n_images, 1))

    def choose_climber(self) -> None:
        """Let the highest image climb once the band is near its path, and a higher one if the saddle was not highest.

        Raises:
            OracleError: ``no_saddle`` where the climbing image has come to rest below one of the ends.
        """
        if self._is_guided:
            if self.residuals().max() > _GUIDE_ABOVE_EV_ANG:
                return
            self._is_guided = False
            self._climb(1 + int(np.argmax(self._energies[1:-1])))
        if self.residuals()[self.climbing] <= self._limits.force_ev_ang:
            if int(np.argmax(self._energies)) in (0, len(self._energies) - 1):
                raise no_saddle(self._energies, self.climbing)
            highest = 1 + int(np.argmax(self._energies[1:-1]))
            if self._energies[highest] > self._energies[self.climbing] + _RIDGE_EV:
                self._climb(highest)

    def is_converged(self) -> bool:
        """Whether the climbing image is at rest, and the others across the path."""
        limits = np.full(len(self._x), self._limits.path_force_ev_ang)
        limits[self.climbing] = self._limits.force_ev_ang
        return not self._is_guided and bool((self.residuals() <= limits).all())

    def residuals(self) -> np.ndarray:
        """Largest component of the force on each image, ``[n_images]``, eV/Å; zero at the ends."""
        residuals = np.zeros(len(self._x))
        uneven = np.zeros(len(self._x)) if self._is_guided else self._uneven()
        for k in range(1, len(self._x) - 1):
            force = self._forces[k]
            if self._is_guided or k != self.climbing:
                tangent = self._tangents[k]
                force = force + (2.0 * self._limits.spring_ev_ang2 * uneven[k] - float(force @ tangent)) * tangent
            residuals[k] = np.abs(force).max()
        return residuals

    def step(self) -> None:
        """Move and evaluate the images whose force is too large."""
        residuals = self.residuals()
        if not self._is_guided and residuals[self.climbing] <= self._limits.force_ev_ang:
            self._n_settling += 1
            if self._n_settling % _STEPS_TO_SETTLE == 0:
                self._lay_straight()
                residuals = self.residuals()
        shifts = np.zeros(len(self._x)) if self._is_guided else self._uneven()
        moves = []
        for k in range(1, len(self._x) - 1):
            is_climber = k == self.climbing and not self._is_guided
            if not (is_climber or self._is_guided) and residuals[self.climbing] > _SETTLE_BELOW_EV_ANG:
                continue
            limit = self._limits.force_ev_ang if is_climber else self._limits.path_force_ev_ang
            if residuals[k] > 0.8 * limit:
                moves.append((k, self._uphill(k) if is_climber else self._across(k, float(shifts[k]))))
        for k, move in moves:
            move = move / max(float(np.abs(move).max()) / self._max_move_ang, 1.0)
            forces_before = self._forces[k].copy()
            self._x[k] += move
            self._evaluate(k)
            change = forces_before - self._forces[k]
            if not self._is_guided and k == self.climbing:
                progress = float(self._guide @ move)  # its share of the change is no curvature across the guide
                change = change + self._ridge.curvature * progress * self._guide
                move = move - progress * self._giving_way(k)
            elif not self._is_guided:
                move = move - float(move @ self._tangents[k]) * self._tangents[k]
                change = change - float(change @ self._tangents[k]) * self._tangents[k] + self._hold(k) * move
            self._hessians[k].update(move, change)
        if not self._is_guided:
            self._tangents = self._improved_tangents()

    def _lay_straight(self) -> None:
        """Begin anew between the ends and the saddle, which is known by now, and go in smaller steps."""
        self._max_move_ang *= 0.4
        fixed = [0, self.climbing, len(self._x) - 1]
        for k in range(1, len(self._x) - 1):
            if k == self.climbing:
                continue
            low, high = (fixed[0], fixed[1]) if k < self.climbing else (fixed[1], fixed[2])
            share = (k - low) / (high - low)
            self._x[k] = (1.0 - share) * self._x[low] + share * self._x[high]
            self._hessians[k] = self._springs.tight()
            self._evaluate(k)
        self._tangents = self._improved_tangents()

    def _across(self, k: int, shift: float) -> np.ndarray:
        """Step of an image towards the minimum in the plane across the path, and along it by ``shift``."""
        tangent = self._tangents[k]
        along = self._giving_way(k)
        free = self._hessians[k].apply(self._forces[k])
        return np.asarray(free - float(tangent @ free) * along + _SHARE_OF_SHIFT * shift * tangent)

    def _giving_way(self, k: int) -> np.ndarray:
        """How the atoms move when an image is taken along its tangent by 1 Å and gives way across it."""
        along = self._hessians[k].apply(self._tangents[k])
        return np.asarray(along / float(self._tangents[k] @ along))

    def _uphill(self, k: int) -> np.ndarray:
        """Step of the climbing image: to the minimum across the guide, and from there to the maximum along it."""
        along = self._giving_way(k)
        free = self._hessians[k].apply(self._forces[k])
        across = free - float(self._guide @ free) * along
        rest = self._forces[k] - float(self._forces[k] @ self._guide) * self._guide
        slope = float(self._forces[k] @ along)
        if np.abs(rest).max() > max(_CLIMB_BELOW_EV_ANG, _CLIMB_BELOW_SLOPE * abs(slope)):
            return np.asarray(across)
        return np.asarray(across + self._ridge.step(float(self._guide @ self._x[k]), slope) * along)

    def _hold(self, k: int) -> float:
        """What holds an image at its place across the path because its tangent points uphill, eV/Å^2."""
        higher = k + 1 if self._energies[k + 1] > self._energies[k - 1] else k - 1
        distance = float(np.linalg.norm(self._x[higher] - self._x[k]))
        return abs(float(self._forces[k] @ self._tangents[k])) / distance

    def _climb(self, k: int) -> None:
        """Make an image the climbing one."""
        self.climbing = k
        self._tangents = self._improved_tangents()
        self._hessians = [self._hessians[i] if i == k else self._springs.tight() for i in range(len(self._x))]
        done = self._x @ self._tangents[k]
        lengths = [abs(float(done[k + s] - done[k])) for s in (1, -1)]
        drops = [float(self._energies[k] - self._energies[k + s]) for s in (1, -1)]
        curvature = 2.0 * (drops[0] / lengths[0] + drops[1] / lengths[1]) / sum(lengths)
        self._ridge = _RidgeSearch(max(curvature, _MIN_CURVATURE_EV_ANG2))

    def result(self, n_steps: int) -> Band:
        """The band as it is now."""
        n_images = len(self._x)
        return Band(
            self._x.reshape(n_images, -1, 3),
            self._energies.copy(),
            self.climbing,
            float(self.residuals()[self.climbing]),
            n_steps,
            self.n_calls,
        )

    def _evaluate(self, k: int) -> None:
        self._energies[k], self._forces[k] = evaluate_image(self._functions[k], k, self._x[k])
        self.n_calls += 1

    def _uneven(self) -> np.ndarray:
        """How far each image is from even spacing along the path, ``[n_images]``, Å."""
        legs = np.linalg.norm(np.diff(self._x, axis=0), axis=1)
        along = np.concatenate([[0.0], np.cumsum(legs)])
        fixed = [0, self.climbing, len(self._x) - 1]
        return np.interp(np.arange(len(self._x)), fixed, along[fixed]) - along

    def _improved_tangents(self) -> np.ndarray:
        tangents = improved_tangents(self._x, self._energies)
        tangents[self.climbing] = self._guide
        return tangents
