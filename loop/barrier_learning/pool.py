"""The pool of hops that a learning chooses from, and what is known of them."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from ...errors import StructureError
from ...generators.solid_solutions import solid_solutions
from ...structures.files import read_structures, write_structures
from ...structures.vacancy_hop import VacancyHop
from ...surrogates.barriers.data_settings import HopDataSettings
from ...surrogates.barriers.hop_file import read_hops
from ...surrogates.barriers.hops import Hops, all_hops
from ..errors import RunDirectoryError
from ..hop_labelling import WantedHop
from ..rounds.files import put
from ..seeding import derive_seed
from .config import BarrierLearningConfig

ALLOYS_NAME = "alloys.extxyz"
POOL_NAME = "pool.csv"


@dataclass(frozen=True)
class HopPool:
    """Hops to choose from.

    Attributes:
        hops: without barriers.
        is_held_out: bool ``[n_hops]``, those of test compositions.
    """

    hops: Hops
    is_held_out: np.ndarray

    def wanted(self, numbers: np.ndarray) -> list[WantedHop]:
        """Some of the hops as they are labelled."""
        hops = self.hops
        return [
            WantedHop(
                f"{ALLOYS_NAME}@{hops.crystal[k]}",
                hops.crystals[hops.crystal[k]],
                VacancyHop(int(hops.vacancy[k]), int(hops.neighbour[k])),
            )
            for k in numbers.tolist()
        ]


def is_pool_there(run_dir: Path) -> bool:
    """Whether a run directory has a pool."""
    return (run_dir / POOL_NAME).exists()


def drafted_pool(config: BarrierLearningConfig) -> Hops:
    """The hops that a configuration asks for.

    Raises:
        StructureError: crystals that cannot be read, or are neither FCC nor BCC.
        SurrogateError: bad rows of a table, all of them named.
    """
    settings = config.pool
    if settings.hops is not None:
        return read_hops(settings.hops, HopDataSettings(), barriers_needed=False).hops
    if settings.alloys is not None:
        crystals = solid_solutions(settings.alloys)
    else:
        assert settings.structures is not None
        crystals = list(read_structures(settings.structures))
        if not crystals:
            raise StructureError(f"{settings.structures} holds no structures, so there are no hops to choose from")
    hops = all_hops(crystals)
    if settings.n_hops is None:
        return hops
    chosen = [
        np.sort(np.random.default_rng(derive_seed(config.seed, 0, "pool", k)).permutation(members)[: settings.n_hops])
        for k, members in hops.by_crystal()
    ]
    return hops.take(np.concatenate(chosen))


def write_pool(hops: Hops, run_dir: Path) -> None:
    """Keep a pool: the crystals, and a table of the hops.

    Raises:
        RunDirectoryError: it cannot be written.
    """
    put(run_dir / ALLOYS_NAME, lambda scratch: write_structures(scratch, hops.crystals))
    put(run_dir / POOL_NAME, _table(hops).encode())


def read_pool(run_dir: Path) -> HopPool:
    """The pool in a run directory. Positions are rounded in its file, so that all sessions should have them from there.

    Raises:
        SurrogateError: its files are damaged.
    """
    hops = read_hops(run_dir / POOL_NAME, HopDataSettings(), barriers_needed=False).hops
    is_test = np.array([atoms.info.get("split") == "test" for atoms in hops.crystals])
    return HopPool(hops, is_test[hops.crystal])


def _table(hops: Hops) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["structure", "vacancy_site", "neighbour"])
    for crystal, vacancy, neighbour in zip(hops.crystal, hops.vacancy, hops.neighbour, strict=True):
        writer.writerow([f"{ALLOYS_NAME}@{crystal}", vacancy, neighbour])
    return buffer.getvalue()


@dataclass(frozen=True)
class LabelledHop:
    """A hop of the pool that was sent to the oracle.

    Attributes:
        number: in the pool, from 0.
        is_validation: whether it is never learnt from.
        row: of the table of barriers, as text by column.
    """

    number: int
    is_validation: bool
    row: Mapping[str, str]


def labelled_json(hops: Sequence[LabelledHop]) -> bytes:
    """Labelled hops as a file has them."""
    return orjson.dumps([{**vars(hop), "row": dict(hop.row)} for hop in hops], option=orjson.OPT_INDENT_2)


def read_labelled(path: Path) -> list[LabelledHop]:
    """The inverse of :func:`labelled_json`.

    Raises:
        RunDirectoryError: the file is damaged.
    """
    try:
        plain: list[dict[str, Any]] = orjson.loads(path.read_bytes())
        return [LabelledHop(int(hop["number"]), bool(hop["is_validation"]), hop["row"]) for hop in plain]
    except (orjson.JSONDecodeError, TypeError, KeyError, ValueError) as error:
        raise RunDirectoryError(f"{path} is damaged ({error}); remove it, and labels come from the journal") from error


class KnownHops:
    """What has been labelled so far, in order.

    Attributes:
        labelled: failed hops as well.
    """

    def __init__(self, pool: HopPool) -> None:
        self._pool = pool
        self.labelled: list[LabelledHop] = []

    def take_in(self, hops: Sequence[LabelledHop]) -> None:
        """Add those of a round."""
        self.labelled += hops

    def is_labelled(self) -> np.ndarray:
        """Bool ``[n_pool]``: which hops of the pool were sent to the oracle."""
        found = np.zeros(len(self._pool.hops), dtype=bool)
        found[[hop.number for hop in self.labelled]] = True
        return found

    def barriers(self, labelled: Sequence[LabelledHop]) -> Hops:
        """Those of some hops that have barriers, with these and the barriers of their ways back."""
        known = [hop for hop in labelled if hop.row.get("barrier_ev")]
        hops = self._pool.hops.take(np.array([hop.number for hop in known], dtype=np.int64))
        forward, backward = (
            np.array([float(hop.row[name]) for hop in known]) for name in ("barrier_ev", "barrier_backward_ev")
        )
        return replace(hops, barriers_ev=forward, return_barriers_ev=backward)

    def learnt(self) -> Hops:
        """What may be learnt from; see :meth:`barriers`."""
        return self.barriers([hop for hop in self.labelled if not hop.is_validation])

    def validation(self) -> Hops:
        """What is never learnt from."""
        return self.barriers([hop for hop in self.labelled if hop.is_validation])
