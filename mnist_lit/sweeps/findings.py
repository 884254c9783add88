"""What a search has found: said at its end, and kept in study.json for the report."""

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import optuna
import rich
from omegaconf import DictConfig
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from rich.table import Table

from mnist_lit.config import SweepSection
from mnist_lit.durable import write_text
from mnist_lit.reports.search import STUDY
from mnist_lit.sweeps.space import Space
from mnist_lit.sweeps.study import best, counted
from mnist_lit.sweeps.trial import shown
from mnist_lit.sweeps.watch import reason, say
from mnist_lit.training.commands import run_command
from mnist_lit.words import how_many

MOST = 10  # trials in the table


def tell_findings(study: optuna.Study, sweep: SweepSection, space: Space, folder: Path, hydra: DictConfig) -> bool:
    """Whether any trial has come to its end."""
    trials, weights = counted(study), importances(study, sweep.objectives)
    keep(folder, study, trials, sweep.objectives, weights)
    states = [trial.state.name.lower().replace("fail", "failed") for trial in trials]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    say(f"{how_many(len(trials), 'trial')}: {counts}")
    for trial in trials:
        if trial.state == TrialState.FAIL:
            say(f"trial {trial.number} failed: {reason(trial.user_attrs)}")
    if winners := best(study):
        if len(sweep.objectives) > 1:
            say("The best compromises; none of them is beaten in everything:")
        rich.get_console().print(table(study, trials, winners, sweep.objectives, list(space.axes)))
        for objective, shares in weights.items():
            listed = ", ".join(f"{key} {share:.0%}" for key, share in shares.items())
            say(f"what mattered for {objective}: {listed}")
        for trial in winners[:MOST]:
            say(f"trial {trial.number} again  {run_command(space.overrides(trial.params), hydra)}")
    say(f"as a page with plots  mnist-lit report {folder} --html page.html")
    return bool(winners)


def table(
    study: optuna.Study,
    trials: list[FrozenTrial],
    winners: list[FrozenTrial],
    objectives: Sequence[str],
    keys: list[str],
) -> Table:
    """The best trials; of several objectives, those that none beats in all."""
    upwards = study.directions[0] == StudyDirection.MAXIMIZE
    complete = winners if len(objectives) > 1 else [trial for trial in trials if trial.state == TrialState.COMPLETE]
    ranked = sorted(complete, key=lambda trial: trial.values[0], reverse=upwards)
    rows = Table("trial", *keys, *objectives)
    for trial in ranked[:MOST]:
        params = [shown(trial.params[key]) for key in keys]
        rows.add_row(str(trial.number), *params, *(f"{value:.4g}" for value in trial.values))
    return rows


def importances(study: optuna.Study, objectives: Sequence[str]) -> dict[str, dict[str, float]]:
    """Of each objective: option → its share in how the values differ, 0 to 1; of too few trials nothing."""
    found = {}
    for index, objective in enumerate(objectives):
        with suppress(ValueError, RuntimeError):  # fewer than two trials, or all of one value
            found[objective] = get_param_importances(
                study,
                evaluator=FanovaImportanceEvaluator(seed=0),
                target=lambda trial, index=index: trial.values[index],  # type: ignore[misc]
            )
    return found


def keep(
    folder: Path,
    study: optuna.Study,
    trials: list[FrozenTrial],
    objectives: Sequence[str],
    weights: dict[str, dict[str, float]],
) -> None:
    findings = {
        "objectives": list(objectives),
        "directions": [direction.name.lower() for direction in study.directions],
        "importances": weights,
        "trials": [
            {
                "number": trial.number,
                "state": trial.state.name.lower(),
                "params": trial.params,
                "values": trial.values,
                "curve": {str(epoch): value for epoch, value in trial.intermediate_values.items()},
            }
            for trial in trials
        ],
    }
    write_text(folder / STUDY, json.dumps(findings, indent=1) + "\n")
