"""``input.json`` of DeePMD-kit as the configuration of a fit: meanings, defaults, and nothing dropped in silence."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from alloysmith.errors import ConfigError
from alloysmith.loop.potential_fitting import PotentialFitConfig
from alloysmith.surrogates.deeppot.deepmd_input import TranslatedInput, translate_input


def content(**changes: Any) -> dict[str, Any]:
    """An input of DeePMD-kit; keys with dots go deeper."""
    found: dict[str, Any] = {
        "model": {
            "type_map": ["Al", "Ni"],
            "descriptor": {"type": "se_e2_a", "sel": [40, 40], "rcut": 6.0, "rcut_smth": 2.0, "neuron": [10, 20]},
            "fitting_net": {"neuron": [50, 50]},
        },
        "learning_rate": {"type": "exp", "start_lr": 0.002, "stop_lr": 2e-6, "decay_steps": 500},
        "loss": {"start_pref_v": 0.02, "limit_pref_v": 1.0},
        "training": {"training_data": {"systems": ["one"], "batch_size": 3}, "numb_steps": 10_000},
    }
    for key, value in changes.items():
        *path, last = key.split("__")
        part = found
        for name in path:
            part = part.setdefault(name, {})
        part[last] = value
    return found


def system(folder: Path, n_atoms: int) -> None:
    folder.mkdir(parents=True)
    (folder / "type.raw").write_text("0\n" * n_atoms)
    (folder / "type_map.raw").write_text("Al\nNi\n")


def remarks(found: TranslatedInput) -> dict[str, str]:
    return {remark.key: remark.kind for remark in found.remarks}


def test_what_is_said_and_what_goes_without_saying(tmp_path: Path) -> None:
    system(tmp_path / "one", 4)
    found = translate_input(content(), tmp_path)
    assert remarks(found) == {"model.descriptor.sel": "left out"}
    config = PotentialFitConfig.model_validate(found.config)
    potential = config.potential
    assert config.elements == ("Al", "Ni")
    assert (potential.cutoff_ang, potential.switch_ang) == (6.0, 2.0)
    assert potential.descriptor.model_dump(exclude={"start"}) == {
        "neuron": (10, 20),
        "axis_neuron": 4,
        "resnet_dt": False,
        "type_one_side": False,
    }
    assert potential.fitting_net.model_dump(exclude={"start", "start_spread"}) == {
        "neuron": (50, 50),
        "resnet_dt": True,
        "normalize_features": False,
    }
    training = config.training
    assert (training.max_steps, training.dtype, training.patience) == (10_000, "float64", None)
    assert training.optimizer is not None
    assert (training.optimizer.learning_rate, training.optimizer.batch_frames) == (0.002, 3)
    assert training.loss.prefactors(1.0) == pytest.approx((0.02, 1000.0, 0.02))
    assert training.loss.prefactors(0.0) == (1.0, 1.0, 1.0)
    rates = [training.schedule.factor(step, 10_000) for step in (0, 499, 500, 9_999)]
    assert rates == pytest.approx([1.0, 1.0, 1e-3**0.05, 1e-3**0.95])
    assert [file.path for file in config.data.files] == ["one"]
    assert config.data.validation_fraction == 0.0


def test_a_minimal_input_takes_the_defaults_of_deepmd_kit(tmp_path: Path) -> None:
    bare = content(training={"training_data": {"systems": "one"}, "numb_steps": 100}, loss={})
    bare["model"] = {"type_map": ["Al", "Ni"], "descriptor": {"type": "se_a"}, "fitting_net": {}}
    system(tmp_path / "one" / "a", 4)
    system(tmp_path / "one" / "b", 7)
    found = translate_input(bare, tmp_path)
    config = PotentialFitConfig.model_validate(found.config)
    assert (config.potential.cutoff_ang, config.potential.switch_ang) == (6.0, 0.5)
    assert config.potential.descriptor.neuron == (10, 20, 40)
    assert config.potential.fitting_net.neuron == (120, 120, 120)
    assert config.training.loss.prefactors(1.0) == pytest.approx((0.02, 1000.0, 0.0))
    # auto: 32 atoms and more, which are 8 and 5 frames
    assert config.training.optimizer.batch_frames == 6
    assert remarks(found) == {"training.training_data.batch_size": "changed"}
    assert config.training.schedule.every_steps == 2, "decay_steps of 5000 do not fit into 100"


@pytest.mark.parametrize(
    ("batch", "n_frames", "is_told"),
    [
        (5, 5, False),
        ("auto", 8, False),
        ("auto:99", 25, False),
        ("max:33", 8, False),
        ("mixed:6", 6, False),
        ([4], 4, False),
        ([4, 8], 6, True),
    ],
)
def test_batch_sizes(batch: object, n_frames: int, is_told: bool, tmp_path: Path) -> None:
    system(tmp_path / "one", 4)
    found = translate_input(content(training__training_data__batch_size=batch), tmp_path)
    assert found.config["training"]["optimizer"]["batch_frames"] == n_frames
    assert ("training.training_data.batch_size" in remarks(found)) == is_told


def test_every_key_without_a_counterpart_is_told(tmp_path: Path) -> None:
    found = translate_input(
        content(
            _comment="anything",
            model__descriptor__exclude_types=[[0, 0]],
            model__descriptor__novel=1,
            model__fitting_net__trainable=True,
            model__preset_out_bias=None,
            loss__start_pref_ae=1.0,
            loss__limit_pref_pf=0.0,
            learning_rate__odd=2,
            training__disp_file="lcurve.out",
            training__disp_freq=200,
            training__enable_ema=True,
            training__mixed_precision={"compute_prec": "float16"},
            training__validation_data={"systems": ["two"], "batch_size": 1, "numb_btch": 2},
            training__training_data__sys_probs=[0.3],
            validating={"full_validation": True, "validation_freq": 10},
            extra=5,
        ),
        tmp_path,
    )
    assert remarks(found) == {
        "model.descriptor.sel": "left out",
        "model.descriptor.exclude_types": "changed",
        "model.descriptor.novel": "changed",
        "loss.start_pref_ae": "changed",
        "learning_rate.odd": "changed",
        "training.disp_file": "left out",
        "training.mixed_precision": "changed",
        "training.validation_data.systems": "left out",
        "training.validation_data.batch_size": "left out",
        "training.validation_data.numb_btch": "left out",
        "validating.full_validation": "changed",
        "validating.validation_freq": "left out",
        "extra": "changed",
    }
    assert found.config["training"]["validate_every"] == 200
    assert found.config["training"]["ema_decay"] == 0.999
    assert found.config["data"]["test_files"] == ["two"]


def test_systems_without_a_type_map_take_the_models(tmp_path: Path) -> None:
    system(tmp_path / "one", 4)
    (tmp_path / "one" / "type_map.raw").unlink()
    found = translate_input(content(), tmp_path)
    assert found.config["data"]["files"] == [{"path": "one", "type_map": ["Al", "Ni"]}]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model__descriptor__type": "se_atten"}, r"model\.descriptor\.type is 'se_atten'; .*'se_e2_a' or 'se_a'"),
        ({"model__fitting_net__type": "dipole"}, r"model\.fitting_net\.type is 'dipole'"),
        ({"model__descriptor__activation_function": "gelu"}, "activation"),
        ({"model__type_embedding": {"neuron": [8]}}, r"model\.type_embedding makes another model"),
        ({"model__type_map": ["O", "H1"]}, "chemical symbols"),
        ({"training__numb_steps": 0}, r"training\.numb_steps must be a positive whole number, got 0"),
        ({"training__training_data__systems": []}, r"training\.training_data\.systems must be"),
        ({"training__training_data__batch_size": "many"}, "batch_size is 'many'"),
        ({"learning_rate__type": "wsd"}, r"learning_rate\.type is 'wsd'"),
        ({"learning_rate__stop_lr": 1.0}, "fall from start_lr to stop_lr"),
        ({"learning_rate__start_lr": "fast"}, r"learning_rate\.start_lr must be a number, got 'fast'"),
        ({"optimizer__type": "LKF"}, r"optimizer\.type is 'LKF'"),
        ({"loss": []}, "loss must be a mapping"),
    ],
)
def test_other_models_and_nonsense_are_refused(change: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=says):
        translate_input(content(**change), tmp_path)


_PEER = """
import json, sys
from deepmd.dpmodel.utils.learning_rate import LearningRateCosine, LearningRateExp
from deepmd.utils.argcheck import normalize
from deepmd.utils.compat import update_deepmd_input
found = []
for content in json.load(open(sys.argv[1])):
    full = normalize(update_deepmd_input(content, warning=False))
    rate = dict(full["learning_rate"])
    kind = {"exp": LearningRateExp, "cosine": LearningRateCosine}[rate.pop("type")]
    n = full["training"]["numb_steps"]
    schedule = kind(**rate, num_steps=n)
    found.append({"rates": [float(schedule.value(step)) for step in range(0, n, 37)], "loss": full["loss"],
                  "descriptor": full["model"]["descriptor"], "fitting": full["model"]["fitting_net"]})
json.dump(found, open(sys.argv[2], "w"))
"""


@pytest.mark.slow
def test_deepmd_kit_reads_the_same(tmp_path: Path) -> None:
    """Learning rates at many steps, and its own defaults."""
    python = os.environ.get("DEEPMD_PYTHON")
    if python is None:
        pytest.skip("needs deepmd-kit 3 in an environment of its own; set DEEPMD_PYTHON to its interpreter")
    system(tmp_path / "one", 4)
    rates = [
        {"type": "exp", "start_lr": 0.002, "stop_lr": 2e-6, "decay_steps": 500},
        {"type": "exp", "start_lr": 0.001, "stop_lr": 1e-8, "decay_steps": 50_000},
        {"type": "exp", "start_lr": 0.001, "stop_lr": 1e-7, "decay_steps": 100, "smooth": True},
        {"type": "exp", "start_lr": 0.001, "stop_lr": 1e-12, "decay_steps": 100, "decay_rate": 0.9},
        {"type": "cosine", "start_lr": 0.001, "stop_lr": 1e-5},
    ]
    inputs = [content(learning_rate=rate, training__numb_steps=3000) for rate in rates]
    (tmp_path / "inputs.json").write_text(json.dumps(inputs))
    subprocess.run([python, "-c", _PEER, tmp_path / "inputs.json", tmp_path / "found.json"], check=True)
    for own, theirs in zip(inputs, json.loads((tmp_path / "found.json").read_text()), strict=True):
        config = PotentialFitConfig.model_validate(translate_input(own, tmp_path).config)
        training = config.training
        start = training.optimizer.learning_rate
        mine = [start * training.schedule.factor(step, 3000) for step in range(0, 3000, 37)]
        assert mine == pytest.approx(theirs["rates"], rel=1e-6)
        for ratio, end in ((1.0, "start"), (0.0, "limit")):
            assert training.loss.prefactors(ratio) == pytest.approx([theirs["loss"][f"{end}_pref_{x}"] for x in "efv"])
        for name in ("axis_neuron", "resnet_dt", "type_one_side"):
            assert getattr(config.potential.descriptor, name) == theirs["descriptor"][name]
        assert config.potential.fitting_net.resnet_dt == theirs["fitting"]["resnet_dt"]
