"""Deep potentials for DeePMD-kit 3: a file of its backend-independent format, which its programs read.

``dp convert-backend model.yaml model.pth`` makes of it what ``pair_style deepmd`` of LAMMPS runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml
from torch import Tensor

from ..base import SurrogateError
from .model import DeepPotModel
from .networks import ResidualNetwork

_DESCRIPTOR_KEYS = ("type", "sel", "rcut", "rcut_smth", "neuron", "axis_neuron", "resnet_dt", "type_one_side")
_FACTS = {"activation_function": "tanh", "precision": "float64"}


def write_deepmd(model: DeepPotModel, path: Path) -> None:
    """Write a model for DeePMD-kit 3.

    Room for neighbours is that of :class:`~.statistics.Statistics`; DeePMD-kit leaves out neighbours beyond it, this
    package never does.

    Args:
        path: ending in ``.yaml``, which DeePMD-kit goes by.

    Raises:
        SurrogateError: another ending, a model that DeePMD-kit cannot have, or the file cannot be written.
    """
    if path.suffix not in (".yaml", ".yml"):
        raise SurrogateError(f"DeePMD-kit reads this format from files *.yaml, got {path.name}")
    parts = serialized(model)
    descriptor, fitting = parts["descriptor"], parts["fitting"]
    script = {
        "type_map": list(model.elements),
        "descriptor": {k: descriptor[k] for k in _DESCRIPTOR_KEYS},
        "fitting_net": {k: fitting[k] for k in ("type", "neuron", "resnet_dt")},
    }
    whole = {"software": "deepmd-kit", "backend": "PyTorch", "model": parts, "model_def_script": script}
    try:
        path.write_text(yaml.dump(_plain(whole), Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper)))
    except OSError as error:
        raise SurrogateError(f"cannot write {path}: {error.strerror or error}") from error


def serialized(model: DeepPotModel) -> dict[str, Any]:
    """The model as DeePMD-kit serializes one, with arrays of NumPy."""
    architecture, elements = model.architecture, list(model.elements)
    n = len(elements)
    room = [round(count) for count in model.n_neighbours.tolist()]
    means = np.zeros((n, sum(room), 4))
    means[:, :, 0] = _array(model.means)[:, None]
    deviations = np.repeat(_array(model.deviations)[:, [0, 1, 1, 1]][:, None], sum(room), axis=1)
    # the species of the centre runs first
    pairs = [(0, b) for b in range(n)] if architecture.one_side else [(a, b) for b in range(n) for a in range(n)]
    descriptor = {
        "@class": "Descriptor",
        "type": "se_e2_a",
        "@version": 2,
        "rcut": model.cutoff_ang,
        "rcut_smth": architecture.switch_ang,
        "sel": room,
        "neuron": list(architecture.embedding),
        "axis_neuron": architecture.axis_neurons,
        "resnet_dt": architecture.embedding_time_step,
        "set_davg_zero": False,
        **_FACTS,
        "embeddings": {
            "@class": "NetworkCollection",
            "@version": 1,
            "ndim": 1 if architecture.one_side else 2,
            "ntypes": n,
            "network_type": "embedding_network",
            "networks": [_embedding(model.embedding(a, b), architecture.embedding_time_step) for a, b in pairs],
        },
        "env_mat": {"rcut": model.cutoff_ang, "rcut_smth": architecture.switch_ang, "protection": 0.0},
        "exclude_types": [],
        "env_protection": 0.0,
        "@variables": {"davg": means, "dstd": deviations},
        "type_map": elements,
        "trainable": True,
        "type_one_side": architecture.one_side,
        "spin": None,
    }
    n_features = architecture.embedding[-1] * architecture.axis_neurons
    fitting = {
        "@class": "Fitting",
        "type": "ener",
        "@version": 4,
        "var_name": "energy",
        "ntypes": n,
        "dim_descrpt": n_features,
        "dim_out": 1,
        "neuron": list(architecture.fitting),
        "resnet_dt": architecture.fitting_time_step,
        "numb_fparam": 0,
        "numb_aparam": 0,
        "dim_case_embd": 0,
        "default_fparam": None,
        **_FACTS,
        "mixed_types": False,
        "nets": {
            "@class": "NetworkCollection",
            "@version": 1,
            "ndim": 1,
            "ntypes": n,
            "network_type": "fitting_network",
            "networks": [_fitting(model, a, n_features) for a in range(n)],
        },
        "rcond": None,
        "exclude_types": [],
        "@variables": {
            "bias_atom_e": np.zeros((n, 1)),
            **dict.fromkeys(("case_embd", "fparam_avg", "fparam_inv_std", "aparam_avg", "aparam_inv_std")),
        },
        "type_map": elements,
        "tot_ener_zero": False,
        "trainable": [True] * (len(architecture.fitting) + 1),
        "layer_name": None,
        "use_aparam_as_mask": False,
        "spin": None,
        "atom_ener": None,
    }
    return {
        "@class": "Model",
        "@version": 2,
        "type": "standard",
        "type_map": elements,
        "atom_exclude_types": [],
        "pair_exclude_types": [],
        "rcond": None,
        "preset_out_bias": None,
        "@variables": {"out_bias": _array(model.energies_ev)[None, :, None], "out_std": np.ones((1, n, 1))},
        "descriptor": descriptor,
        "fitting": fitting,
    }


def _embedding(network: ResidualNetwork, has_time_step: bool) -> dict[str, Any]:
    return {
        "@class": "EmbeddingNetwork",
        "@version": 2,
        "in_dim": 1,
        "neuron": [weight.shape[1] for weight in network.weights],
        "resnet_dt": has_time_step,
        "bias": True,
        **_FACTS,
        "layers": _layers(network),
    }


def _fitting(model: DeepPotModel, species: int, n_features: int) -> dict[str, Any]:
    """A fitting network, with the normalization of descriptors in its first layer."""
    network = model.fitting(species)
    layers = _layers(network)
    if model.architecture.normalize_features:
        if network.weights[0].shape[1] in (n_features, 2 * n_features):
            raise SurrogateError(
                f"DeePMD-kit has no normalized descriptors before a first fitting layer with a shortcut ({n_features} "
                f"descriptors, {network.weights[0].shape[1]} neurons); set normalize_features: false, or another width"
            )
        first = layers[0]["@variables"]
        first["w"] = first["w"] / _array(model.feature_deviations[species])[:, None]
        first["b"] = first["b"] - _array(model.feature_means[species]) @ first["w"]
    last = _layer(network.output_weight, network.output_bias, None, is_hidden=False)
    return {
        "@class": "FittingNetwork",
        "@version": 1,
        "in_dim": n_features,
        "out_dim": 1,
        "neuron": [weight.shape[1] for weight in network.weights],
        "resnet_dt": model.architecture.fitting_time_step,
        "bias_out": True,
        **_FACTS,
        "layers": [*layers, last],
    }


def _layers(network: ResidualNetwork) -> list[dict[str, Any]]:
    steps = [network.time_steps.get(str(k)) for k in range(len(network.weights))]
    return [
        _layer(weight, bias, step, is_hidden=True)
        for weight, bias, step in zip(network.weights, network.biases, steps, strict=True)
    ]


def _layer(weight: Tensor, bias: Tensor, time_step: Tensor | None, *, is_hidden: bool) -> dict[str, Any]:
    return {
        "@class": "Layer",
        "@version": 2,
        "bias": True,
        "use_timestep": time_step is not None,
        "activation_function": "tanh" if is_hidden else "none",
        "resnet": is_hidden,
        "precision": "float64",
        "trainable": True,
        "@variables": {
            "w": _array(weight),
            "b": _array(bias),
            "idt": None if time_step is None else _array(time_step),
        },
    }


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().double().cpu().numpy()


def _plain(value: Any) -> Any:
    """As what YAML holds; arrays as DeePMD-kit writes them."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    if isinstance(value, np.ndarray):
        head = {"@class": "np.ndarray", "@is_variable": True, "@version": 1, "dtype": value.dtype.name}
        return {**head, "value": value.tolist()}
    return value
