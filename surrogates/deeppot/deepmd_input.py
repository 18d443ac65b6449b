"""DeePMD-kit's ``input.json`` as the configuration of a fit: what it says, in our words, and what has no counterpart.

Meanings and defaults are those of DeePMD-kit 3.2. Every key of the file is either translated or told in a remark:
``changed`` where the fit will differ from what DeePMD-kit would do, ``left out`` where it makes no difference to the
weights. What would be another model altogether is refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ase.data import atomic_numbers

from ...errors import ConfigError
from ...structures.deepmd_data import deepmd_systems

_NUMBER_OF_STEPS = ("numb_steps", "stop_batch", "num_step", "num_steps", "numb_step")
_DEFAULT_BATCH_ATOMS = 32
_HARMLESS = {  # keys that change no weight: files, tables, speed
    "training": (
        *("disp_file", "save_freq", "save_dir", "save_ckpt", "max_ckpt_keep", "ckpt_keep_ratio"),
        *("disp_training", "time_training", "disp_avg", "profiling", "profiling_file", "enable_profiler"),
        *("tensorboard", "tensorboard_log_dir", "tensorboard_freq", "stat_file", "stat_file_mode", "numb_test"),
        *("enable_compile", "neighbor_graph_method", "zero_stage", "set_prefix"),
    ),
    "training.training_data": ("set_prefix",),
    "training.validation_data": ("batch_size", "numb_btch", "numb_batch", "set_prefix"),
    "validating": (
        *("ema_full_validation", "validation_freq", "save_best", "save_best_dir", "max_best_ckpt", "full_val_file"),
        *("full_val_start", "compiled_infer", "tf32_infer", "amp_infer", "validation_metric"),
    ),
    "": ("nvnmd", "$schema"),
}


@dataclass(frozen=True)
class Remark:
    """A key that has no counterpart.

    Attributes:
        key: its path, with dots.
        kind: whether the fit differs for it.
        text: what is done instead.
    """

    key: str
    kind: Literal["changed", "left out"]
    text: str


@dataclass(frozen=True)
class TranslatedInput:
    """A translated input.

    Attributes:
        config: the configuration of a fit, JSON-able.
        remarks: all that was not translated, in the order of the file.
    """

    config: Mapping[str, Any]
    remarks: tuple[Remark, ...]


def translate_input(content: Mapping[str, Any], folder: Path) -> TranslatedInput:
    """Translate the content of an ``input.json``.

    Args:
        folder: what the names of its systems refer to; systems that are there tell the number of atoms, which
            ``batch_size: auto`` goes by.

    Raises:
        ConfigError: a model that is no DeepPot-SE (``se_e2_a`` with energies), species that are no elements, or values
            that make no sense; the key is named.
    """
    return _Translation(content, folder).result()


class _Part:
    """A mapping of the input whose keys are ticked off as they are used."""

    def __init__(self, content: object, path: str, translation: _Translation) -> None:
        if not isinstance(content, Mapping):
            raise ConfigError(f"input: {path or 'the file'} must be a mapping, got {content!r}")
        self._content = {key: value for key, value in content.items() if not str(key).startswith("_")}
        self.path = path
        self._unused = dict.fromkeys(self._content)
        self._translation = translation

    def take(self, *names: str, default: Any = None) -> Any:
        """The value of a key, by the first of its names that is there."""
        found = [name for name in names if name in self._content]
        for name in found:
            self._unused.pop(name, None)
        return self._content[found[0]] if found else default

    def part(self, name: str, default: object = None) -> _Part:
        """A mapping inside this one."""
        return _Part(self.take(name, default={} if default is None else default), self.key(name), self._translation)

    def has(self, name: str) -> bool:
        """Whether a key is there with a value."""
        return self._content.get(name) is not None

    def key(self, name: str) -> str:
        """A key's path."""
        return f"{self.path}.{name}" if self.path else name

    def number(self, *names: str, default: float) -> float:
        """A number."""
        value = self.take(*names, default=default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ConfigError(f"input: {self.key(names[0])} must be a number, got {value!r}")
        return float(value)

    def remark(self, name: str, kind: Literal["changed", "left out"], text: str) -> None:
        """Tell of a key."""
        self._translation.remarks.append(Remark(self.key(name), kind, text))

    def expect(self, name: str, *allowed: Any, why: str) -> None:
        """Refuse values that mean another model; the first allowed one is the default."""
        value = self.take(name, default=allowed[0])
        if value not in allowed:
            shown = " or ".join(repr(each) for each in allowed)
            raise ConfigError(f"input: {self.key(name)} is {value!r}; {why}: {shown}")

    def without_effect(self, defaults: Mapping[str, Any]) -> None:
        """Keys without a counterpart, and the values at which they do nothing."""
        for name, idle in defaults.items():
            value = self.take(name, default=idle)
            if value != idle and value is not None:
                self.remark(name, "changed", f"is {value!r}; this fit goes as with {idle!r}")

    def close(self) -> None:
        """Tell of all keys that nobody asked for."""
        for name in self._unused:
            is_harmless = name in _HARMLESS.get(self.path, ())
            text = "changes no weights" if is_harmless else f"is {self._content[name]!r}; it has no counterpart"
            self.remark(name, "left out" if is_harmless else "changed", text)


class _Translation:
    def __init__(self, content: Mapping[str, Any], folder: Path) -> None:
        self.remarks: list[Remark] = []
        self._folder = folder
        self._root = _Part(content, "", self)

    def result(self) -> TranslatedInput:
        model, training = self._root.part("model"), self._root.part("training")
        elements = self._elements(model)
        potential, precision = self._potential(model)
        n_steps = training.take(*_NUMBER_OF_STEPS)
        if isinstance(n_steps, bool) or not isinstance(n_steps, int) or n_steps < 1:
            hint = "; numb_epoch has no exact counterpart, write numb_steps" if n_steps is None else ""
            raise ConfigError(f"input: training.numb_steps must be a positive whole number, got {n_steps!r}{hint}")
        adam, schedule = self._rate(n_steps)
        data, batch = self._data(training, elements)
        optimizer = self._root.part("optimizer")
        optimizer.expect("type", "Adam", "adam", why="only Adam trains alike")
        adam["beta_1"] = optimizer.number("adam_beta1", default=0.9)
        adam["beta_2"] = optimizer.number("adam_beta2", default=0.999)
        optimizer.without_effect({"weight_decay": 0.0})
        optimizer.close()
        norm = training.take("gradient_max_norm")
        config = {
            "potential": potential,
            "elements": elements,
            "data": data,
            "training": {
                "loss": self._loss(),
                "optimizer": adam | {"batch_frames": batch} | ({} if not norm else {"max_gradient_norm": norm}),
                "schedule": schedule,
                "dtype": precision,
                "max_steps": n_steps,
                "max_epochs": n_steps,
                "validate_every": max(1, min(n_steps, int(training.number("disp_freq", default=1000)))),
                "patience": None,
                **self._average(training),
            },
            "seed": int(training.number("seed", default=0)),
        }
        training.without_effect({"mixed_precision": None, "change_bias_after_training": False, "acc_freq": 1})
        training.without_effect({"enable_tf32": False})
        training.close()
        model.close()
        validating = self._root.part("validating")
        validating.without_effect({"full_validation": False})
        validating.close()
        self._root.close()
        return TranslatedInput(config, tuple(self.remarks))

    def _elements(self, model: _Part) -> list[str]:
        elements = model.take("type_map")
        if not isinstance(elements, list) or not elements or any(name not in atomic_numbers for name in elements):
            raise ConfigError(f"input: model.type_map must list chemical symbols, got {elements!r}")
        return list(elements)

    def _potential(self, model: _Part) -> tuple[dict[str, Any], str]:
        model.expect("type", "standard", why="only one kind of model can be translated")
        for name in ("type_embedding", "spin", "modifier", "use_srtab"):
            if model.has(name):
                raise ConfigError(
                    f"input: {model.key(name)} makes another model, which has no counterpart; leave it out"
                )
        model.take("compress")
        for name in ("data_stat_nbatch", "data_bias_nsample", "data_stat_protect"):
            if model.has(name):
                model.take(name)
                model.remark(name, "left out", "statistics are taken over all training frames")
        model.without_effect({"pair_exclude_types": [], "atom_exclude_types": [], "preset_out_bias": None, "info": {}})
        descriptor, fitting = model.part("descriptor"), model.part("fitting_net")
        descriptor.expect("type", "se_e2_a", "se_a", why="this package has one descriptor")
        fitting.expect("type", "ener", why="this package fits energies")
        for part in (descriptor, fitting):
            part.expect("activation_function", "tanh", why="this package has one activation")
        precisions = {str(part.take("precision", default="float64")) for part in (descriptor, fitting)}
        known = {"default": "float64", "float64": "float64", "double": "float64", "float32": "float32"}
        precision = "float32" if precisions == {"float32"} else "float64"
        if len(precisions) > 1 or not precisions <= set(known):
            descriptor.remark(
                "precision", "changed", f"is {' and '.join(sorted(precisions))}; training.dtype is {precision}"
            )
        if descriptor.has("sel") and descriptor.take("sel") is not None:
            descriptor.remark("sel", "left out", "neighbours need no room to be set, none is left out")
        seeds = [part.take("seed") for part in (descriptor, fitting)]
        seed = next((seed for seed in seeds if seed is not None), None)
        if None not in seeds and seeds[0] != seeds[1]:
            fitting.remark("seed", "changed", f"one seed, {seed}, draws all first weights")
        descriptor.without_effect(
            {"trainable": True, "exclude_types": [], "env_protection": 0.0, "set_davg_zero": False}
        )
        fitting.without_effect(
            {
                **{"numb_fparam": 0, "numb_aparam": 0, "default_fparam": None, "dim_case_embd": 0, "trainable": True},
                **{"rcond": None, "atom_ener": [], "layer_name": None, "use_aparam_as_mask": False},
            }
        )
        potential = {
            "kind": "deeppot",
            "cutoff_ang": descriptor.number("rcut", default=6.0),
            "switch_ang": descriptor.number("rcut_smth", default=0.5),
            "descriptor": {
                "neuron": descriptor.take("neuron", default=[10, 20, 40]),
                "axis_neuron": descriptor.take("axis_neuron", "n_axis_neuron", default=4),
                "resnet_dt": descriptor.take("resnet_dt", default=False),
                "type_one_side": descriptor.take("type_one_side", default=False),
            },
            "fitting_net": {
                "neuron": fitting.take("neuron", "n_neuron", default=[120, 120, 120]),
                "resnet_dt": fitting.take("resnet_dt", default=True),
                "normalize_features": False,
            },
            **({} if seed is None else {"seed": seed}),
        }
        descriptor.close()
        fitting.close()
        return potential, precision

    def _rate(self, n_steps: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """Optimizer and schedule of ``learning_rate``."""
        rate = self._root.part("learning_rate")
        rate.expect("type", "exp", "cosine", why="these schedules have a counterpart")
        kind = rate.take("type", default="exp")
        start = rate.number("start_lr", default=1e-3)
        ratio = rate.take("stop_lr_ratio")
        stop = start * float(ratio) if ratio is not None else rate.number("stop_lr", default=1e-8)
        if not 0.0 < stop <= start:
            raise ConfigError(f"input: learning_rate must fall from start_lr to stop_lr, got {start:g} and {stop:g}")
        warmup = rate.take("warmup_ratio")
        n_warmup = int(warmup * n_steps) if warmup is not None else int(rate.number("warmup_steps", default=0))
        n_decay = max(n_steps - n_warmup, 1)
        schedule: dict[str, Any] = {"kind": "cosine" if kind == "cosine" else "exponential"}
        schedule["final_factor"] = stop / start
        if kind == "exp":
            every = int(rate.number("decay_steps", default=5000))
            factor = rate.take("decay_rate")
            if factor is None and every >= n_decay:  # as DeePMD-kit does
                every = 100 if n_decay // 10 > 100 else n_decay // 100 + 1
            if factor is not None:
                final = float(factor) ** (n_decay / every)
                if final < stop / start:
                    rate.remark("stop_lr", "changed", "the decay_rate given goes below it, and here it is no floor")
                schedule["final_factor"] = final
            schedule["every_steps"] = 1 if rate.take("smooth", default=False) else every
        if n_warmup:
            schedule["warmup_steps"] = n_warmup
            rate.without_effect({"warmup_start_factor": 0.0})
        rate.take("warmup_start_factor")
        rate.without_effect({"scale_by_worker": "linear"})
        rate.close()
        return {"kind": "adam", "learning_rate": start}, schedule

    def _loss(self) -> dict[str, Any]:
        loss = self._root.part("loss")
        loss.expect("type", "ener", why="this package fits energies, forces and virials")
        found: dict[str, Any] = {"kind": "squared"}
        defaults = {"e": ("energy", 0.02, 1.0), "f": ("force", 1000.0, 1.0), "v": ("virial", 0.0, 0.0)}
        for letter, (name, start, limit) in defaults.items():
            found[f"start_{name}"] = loss.number(f"start_pref_{letter}", default=start)
            found[f"limit_{name}"] = loss.number(f"limit_pref_{letter}", default=limit)
        others = {f"{end}_pref_{term}": 0.0 for term in ("h", "ae", "pf", "gf") for end in ("start", "limit")}
        loss.without_effect({**others, "relative_f": None, "enable_atom_ener_coeff": False, "use_huber": False})
        loss.without_effect({"loss_func": "mse", "f_use_norm": False, "huber_delta": 0.01, "use_default_pf": False})
        loss.without_effect({"intensive_ener_virial": False, "numb_generalized_coord": 0})
        loss.close()
        return found

    def _average(self, training: _Part) -> dict[str, Any]:
        is_on, decay = training.take("enable_ema", default=False), training.number("ema_decay", default=0.999)
        training.take("ema_ckpt_keep")
        return {"ema_decay": decay} if is_on else {}

    def _data(self, training: _Part, elements: Sequence[str]) -> tuple[dict[str, Any], int]:
        """Data settings and the number of frames of a batch."""
        part = training.part("training_data")
        systems = self._systems(part)
        data: dict[str, Any] = {"files": [self._file(name, elements) for name in systems], "validation_fraction": 0.0}
        batch = self._batch(part, systems)
        self._check_weights(part, systems)
        part.without_effect({"rglob_patterns": None, "min_pair_dist": 0.0})
        part.close()
        if training.has("validation_data"):
            validation = training.part("validation_data")
            data["test_files"] = [self._file(name, elements) for name in self._systems(validation)]
            for name in ("auto_prob", "auto_prob_style", "sys_probs", "sys_weights"):
                validation.take(name)
            validation.without_effect({"rglob_patterns": None})
            validation.remark("systems", "left out", "they are test_files: never learnt from, shown when the fit ends")
            validation.close()
        return data, batch

    def _systems(self, part: _Part) -> list[str]:
        systems = part.take("systems")
        names = [systems] if isinstance(systems, str) else systems
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
            raise ConfigError(f"input: {part.key('systems')} must be a folder or a list of folders, got {systems!r}")
        return names

    def _file(self, name: str, elements: Sequence[str]) -> dict[str, Any] | str:
        """A system, with the model's type map if it has none of its own."""
        found = deepmd_systems(self._folder / name)
        has_map = all((system / "type_map.raw").is_file() for system in found)
        return name if has_map else {"path": name, "type_map": list(elements)}

    def _check_weights(self, part: _Part, systems: Sequence[str]) -> None:
        style = part.take("auto_prob", "auto_prob_style", default="prob_sys_size")
        weights = part.take("sys_probs", "sys_weights")
        n_systems = sum(max(1, len(deepmd_systems(self._folder / name))) for name in systems)
        if n_systems > 1 and (weights is not None or style != "prob_sys_size"):
            part.remark("auto_prob" if weights is None else "sys_probs", "changed", "every frame is learnt from alike")

    def _batch(self, part: _Part, systems: Sequence[str]) -> int:
        value = part.take("batch_size", default="auto")
        sizes = [n for name in systems for system in deepmd_systems(self._folder / name) if (n := _n_atoms(system))]
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
        if isinstance(value, list) and value and all(isinstance(n, int) and n > 0 for n in value):
            if len(set(value)) > 1:
                part.remark("batch_size", "changed", f"is {value}, one for each system; the mean is taken for all")
            return max(1, round(sum(value) / len(value)))
        rule, _, number = str(value).partition(":")
        if rule == "mixed" and number.isdigit():
            return max(1, int(number))
        is_known = rule == "auto" or (rule in ("max", "filter") and number)
        if not is_known or (number and not number.isdigit()):
            raise ConfigError(f"input: {part.key('batch_size')} is {value!r}; write a number, a list, or auto[:atoms]")
        n_atoms = int(number) if number else _DEFAULT_BATCH_ATOMS
        if not sizes:
            part.remark(
                "batch_size", "changed", f"is {value!r}, but no system is at hand to tell its atoms; 1 is taken"
            )
            return 1
        frames = [math.ceil(n_atoms / n) if rule == "auto" else max(1, n_atoms // n) for n in sizes]
        if len(set(frames)) > 1:
            part.remark(
                "batch_size", "changed", f"gives {min(frames)} to {max(frames)} frames by system; the mean for all"
            )
        return max(1, round(sum(frames) / len(frames)))


def _n_atoms(system: Path) -> int:
    return len((system / "type.raw").read_text(errors="replace").split())
