"""The configuration of a campaign: one YAML file for the science, optionally a small one for the machine."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import orjson
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, TypeAdapter, ValidationError, field_validator

from ..agents.bayesian import BayesianSettings
from ..agents.settings import AgentSettings
from ..agents.study_settings import RetuningSettings
from ..errors import AlloysmithError, ConfigError
from ..generators.base import Objective
from ..generators.settings import GeneratorSettings
from ..oracles.base import FailureKind, OracleSpec
from ..oracles.settings import OracleSettings
from ..structures.settings import Settings, SystemSettings
from ..surrogates.settings import SurrogateSettings
from .config_errors import dotted, explain
from .execution.settings import RaySettings, WorkerSettings
from .fit_changes import refusal
from .fitting import FitConfig
from .yaml_source import KeyPath, YamlSource, read_yaml


class ObjectiveSettings(Settings):
    """What the campaign optimizes."""

    property: str
    """A scalar property of the oracle's labels, such as `bulk_modulus_gpa`."""
    direction: Literal["maximize", "minimize"] = "maximize"
    """Whether large or small values are good."""

    def build(self) -> Objective:
        """The objective of these settings."""
        return Objective(self.property, self.direction)


class BudgetSettings(Settings):
    """What the campaign may spend, all sessions together."""

    n_evaluations: PositiveInt
    """Evaluations that may be submitted; failed ones count, repeated attempts do not."""
    wall_s: PositiveFloat | None = None
    """Wall time in seconds; no limit when left out."""


class TrainingSettings(WorkerSettings):
    """Where generators that learn are trained. Not whether on a GPU: that is a setting of the generator."""

    n_workers: PositiveInt | None = 1
    """Trainings at once; more than one is of use where several generators learn."""
    deadline_s: PositiveFloat = 86400.0
    """Seconds a training may take before its worker is killed; it has then failed as `timed_out`."""


class ExecutionSettings(WorkerSettings):
    """How evaluations are run. Nothing here but `mode` changes the results of a synchronous campaign."""

    mode: Literal["synchronous", "asynchronous"] = "synchronous"
    """`synchronous` waits for a whole batch before the next decision, and is reproducible to the last bit;
    `asynchronous` decides while evaluations run, and keeps the workers busy."""
    deadline_s: PositiveFloat = 600.0
    """Seconds an evaluation may take before its worker is killed and it is recorded as `timed_out`."""
    grace_s: NonNegativeFloat = 30.0
    """Seconds that running evaluations get to end after a signal or when the wall time is spent."""
    max_queued_per_worker: PositiveInt = 16
    """In asynchronous mode, requests that may wait for each worker at most. As many wait as it takes to keep the
    workers busy while the agent thinks, so quick evaluations with slow decisions may need more."""
    training: TrainingSettings | None = None
    """Workers for the trainings of generators that learn, such as an actor with a GPU. When left out, one worker of the
    same executor."""

    @property
    def training_workers(self) -> TrainingSettings:
        """Where generators are trained."""
        if self.training is not None:
            return self.training
        return TrainingSettings(executor=self.executor, ray=RaySettings(address=self.ray.address))


_MAX_ATTEMPTS = {FailureKind.CRASHED: 2, FailureKind.CORRUPT_OUTPUT: 2, FailureKind.UNAVAILABLE: 3}


class FailurePolicySettings(Settings):
    """What is done about evaluations that fail."""

    max_attempts: dict[FailureKind, PositiveInt] = Field(default_factory=lambda: dict(_MAX_ATTEMPTS))
    """Attempts a structure gets, by kind of failure. Kinds that are not named keep the default: two after `crashed` and
    `corrupt_output`, three after `unavailable`, otherwise one."""
    max_failed_fraction: float = Field(default=0.8, gt=0.0, le=1.0)
    """The campaign ends when more than this share of the latest `window` evaluations failed."""
    window: PositiveInt = Field(default=50, le=1000)
    """Evaluations that `max_failed_fraction` looks back on."""
    max_consecutive_breakdowns: PositiveInt = 10
    """The campaign ends after so many `crashed` or `unavailable` evaluations in a row."""

    @field_validator("max_attempts")
    @classmethod
    def _over_the_defaults(cls, attempts: dict[FailureKind, int]) -> dict[FailureKind, int]:
        return {**_MAX_ATTEMPTS, **attempts}


class CampaignConfig(Settings):
    """A campaign."""

    name: str = "campaign"
    """A name for people to read."""
    seed: int = Field(default=0, ge=0)
    """Everything random derives from it."""
    system: SystemSettings
    """What is searched."""
    oracle: OracleSettings
    """What labels the structures."""
    objective: ObjectiveSettings
    """What is optimized."""
    generators: dict[str, GeneratorSettings] = Field(min_length=1)
    """The generators the agent may ask, under names of your choice."""
    surrogate: SurrogateSettings | None = None
    """The model that learns from the labels; agents that select by a forecast need one."""
    agent: AgentSettings
    """What decides: when to train, what to generate, what to evaluate, when to stop."""
    budget: BudgetSettings
    """What may be spent."""
    execution: ExecutionSettings = ExecutionSettings()
    """Where and how evaluations run."""
    failure_policy: FailurePolicySettings = FailurePolicySettings()
    """What is done about failures."""

    def plain(self) -> dict[str, Any]:
        """The resolved configuration as JSON-able data."""
        return self.model_dump(mode="json")

    def asked_generators(self) -> tuple[str, ...]:
        """Names of the generators that the agent asks."""
        return self.agent.generators if isinstance(self.agent, BayesianSettings) else (self.agent.generator,)

    def results_hash(self) -> str:
        """Hash of what decides the results: all but the name, the budget and the machine."""
        plain = self.plain()
        deciding = {k: v for k, v in plain.items() if k not in ("name", "budget", "execution")}
        deciding["mode"] = plain["execution"]["mode"]
        return hashlib.blake2b(orjson.dumps(deciding, option=orjson.OPT_SORT_KEYS), digest_size=16).hexdigest()


def json_schema() -> dict[str, Any]:
    """The JSON schema of a campaign configuration, for editors."""
    schema = CampaignConfig.model_json_schema()
    about = "A file with the fit of a surrogate, such as the best.yaml of a study; instead of `surrogate`."
    schema["properties"]["fit"] = {"type": "string", "description": about}
    return schema


def load_config(path: Path, overrides: Sequence[str] = (), machine: Path | None = None) -> CampaignConfig:
    """Read, override and check the configuration of a campaign.

    Args:
        path: YAML file of the science; file names in it are relative to its folder.
        overrides: ``"dotted.key=value"``, the value parsed as YAML.
        machine: YAML file that sets ``execution`` and nothing else.

    Raises:
        ConfigError: all that is wrong, in one message.
    """
    source = read_yaml(path)
    if machine is not None:
        machine_source = read_yaml(machine)
        foreign = sorted(set(machine_source.data) - {"execution"})
        if foreign:
            raise ConfigError(
                f"{machine} may set execution only, got {', '.join(map(str, foreign))}; science belongs in {path}"
            )
        source.merge(machine_source)
    for assignment in overrides:
        source.override(assignment)
    take_in_fit(source, path.parent, FitConfig, ("surrogate",))
    config = validate_settings(source, CampaignConfig, path.parent)
    check_config(config, source)
    return config


def take_in_fit(source: YamlSource, folder: Path, model: Any, sections: Sequence[str]) -> None:
    """Replace the key ``fit``, if it is there, by sections of the file that it names: a fit's configuration.

    So what a study has found is what a campaign or a learning goes on with.

    Args:
        folder: that the name is relative to.
        model: settings of the fit.
        sections: of the fit that are taken over; those that the file has.

    Raises:
        ConfigError: no such file, no such fit, or a section that is given beside it.
    """
    name = source.data.pop("fit", None)
    if name is None:
        return
    if not isinstance(name, str):
        raise ConfigError(f"{source.name}: fit: got {name!r}; name a file, such as the best.yaml of a study")
    path = folder / Path(name).expanduser()
    fit = validate_settings(read_yaml(path), model, path.parent).model_dump(mode="json", exclude_unset=True)
    for section in sections:
        if section not in fit:
            continue
        if section in source.data:
            raise ConfigError(f"{source.name}: {section} is given, and {name} brings one too; leave one of them out")
        source.data[section] = fit[section]


def load_settings(path: Path, model: Any, overrides: Sequence[str] = ()) -> Any:
    """Read one part's settings, such as an oracle's, from a YAML file of its own.

    Args:
        path: the file; file names in it are relative to its folder.
        model: a settings class, or a union of them.
        overrides: ``"dotted.key=value"``.

    Raises:
        ConfigError: all that is wrong, in one message.
    """
    source = read_yaml(path)
    for assignment in overrides:
        source.override(assignment)
    return validate_settings(source, model, path.parent)


def validate_settings(source: YamlSource, model: Any, folder: Path) -> Any:
    """Make settings of plain data; relative file names refer to ``folder``.

    Raises:
        ConfigError: all that is wrong, in one message.
    """
    try:
        settings = TypeAdapter(model).validate_python(source.data)
    except ValidationError as error:
        raise ConfigError(_problem_list(source.name, explain(error, model, source))) from error
    return _resolve_files(settings, folder.resolve())


def check_config(config: CampaignConfig, source: YamlSource | None = None) -> None:
    """Check what one part of a configuration says about another.

    Raises:
        ConfigError: all contradictions, in one message.
    """
    source = source or YamlSource("the configuration", {})
    problems = []
    for path, message in _contradictions(config):
        origin = source.origin(path)
        problems.append(f"{origin + ': ' if origin else ''}{dotted(path)}: {message}")
    if problems:
        raise ConfigError(_problem_list(source.name, problems))


def _problem_list(name: str, problems: Sequence[str]) -> str:
    if len(problems) == 1:
        return f"{name}: {problems[0]}"
    return "\n  ".join([f"{name}: {len(problems)} problems", *problems])


@runtime_checkable
class HidesFiles(Protocol):
    """Settings with file names in their texts, such as the commands of a potential."""

    def resolved(self, base_dir: Path) -> Any:
        """The same settings with file names that refer to ``base_dir``."""
        ...


def _resolve_files(value: Any, folder: Path) -> Any:
    """``value`` with relative file names made absolute, however deep they are."""
    if isinstance(value, Path):
        return folder / value.expanduser()
    if isinstance(value, Settings):
        if isinstance(value, HidesFiles):
            value = value.resolved(folder)
        new = {name: _resolve_files(getattr(value, name), folder) for name in type(value).model_fields}
        changed = {name: item for name, item in new.items() if item is not getattr(value, name)}
        return value.model_copy(update=changed) if changed else value
    if isinstance(value, tuple | list):
        items = [_resolve_files(item, folder) for item in value]
        return type(value)(items) if any(a is not b for a, b in zip(items, value, strict=True)) else value
    if isinstance(value, dict):
        entries = {key: _resolve_files(item, folder) for key, item in value.items()}
        return entries if any(entries[key] is not value[key] for key in value) else value
    return value


def oracle_spec(settings: OracleSettings) -> OracleSpec:
    """What the oracle of these settings declares."""
    oracle = settings.build()
    try:
        return oracle.spec
    finally:
        oracle.close()


def _contradictions(config: CampaignConfig) -> Iterator[tuple[KeyPath, str]]:
    """What one part says against another, with the key to look at."""
    wanted = config.objective.property
    try:
        config.oracle.check(config.system.elements)
        spec = oracle_spec(config.oracle)
    except AlloysmithError as error:
        yield ("oracle",), str(error)
    else:
        scalars = [name for name in spec.properties if name not in spec.arrays]
        if wanted in spec.arrays:
            message = f"{wanted} is an array, and only a number can be optimized; choose one of {', '.join(scalars)}"
            yield ("objective", "property"), message
        elif wanted not in scalars:
            hint = _did_you_mean(wanted, scalars) or f"; it gives {', '.join(scalars)}"
            yield ("objective", "property"), f"the oracle {config.oracle.kind} gives no {wanted}{hint}"
    key = "generators" if isinstance(config.agent, BayesianSettings) else "generator"
    for name in config.asked_generators():
        if name not in config.generators:
            hint = _did_you_mean(name, list(config.generators)) or f"; there are {', '.join(config.generators)}"
            yield ("agent", key), f"there is no generator {name!r}{hint}"
    if isinstance(config.agent, BayesianSettings) and config.surrogate is None:
        yield ("agent", "kind"), "this agent learns a surrogate; add `surrogate:` with its kind"
    if (
        isinstance(config.agent, BayesianSettings)
        and config.agent.retuning is not None
        and config.surrogate is not None
    ):
        yield from _retuning_problems(config.agent.retuning, FitConfig(surrogate=config.surrogate))
    workers, trainers = config.execution, config.execution.training_workers
    for place, settings in ((("execution",), workers), (("execution", "training"), trainers)):
        if settings.executor == "in_process" and (settings.n_workers or 1) > 1:
            yield (*place, "n_workers"), "the in_process executor has one worker; choose process_pool or ray for more"
    if workers.executor == trainers.executor == "ray" and workers.ray.address != trainers.ray.address:
        message = f"a driver has one connection to Ray; evaluations are at {workers.ray.address!r}: give that here too"
        yield ("execution", "training", "ray", "address"), message


def _retuning_problems(retuning: RetuningSettings, fit: FitConfig) -> Iterator[tuple[KeyPath, str]]:
    for key, parameter in retuning.space.items():
        place = ("agent", "retuning", "space", key)
        if key.split(".")[0] != "surrogate":
            yield place, f"a campaign searches settings of its surrogate, such as surrogate.{key}"
            continue
        message = next((text for value in parameter.ends() if (text := refusal(fit, key, value))), None)
        if message is not None:
            yield place, message
    if (message := retuning.grid_problem()) is not None:
        yield ("agent", "retuning", "sampler"), message


def _did_you_mean(got: str, allowed: Sequence[str]) -> str:
    close = difflib.get_close_matches(got, allowed, n=1)
    return f"; did you mean {close[0]}?" if close else ""
