"""The results of a search: printed at the end, and saved in study.json for `mnist-lit report`."""

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
from rich.text import Text

from mnist_lit.atomic_io import write_text
from mnist_lit.commands import report_command, run_command
from mnist_lit.config import SweepSection
from mnist_lit.console import plural, print_line
from mnist_lit.reports.run_reader import STUDY
from mnist_lit.sweeps.job_progress import format_reason
from mnist_lit.sweeps.search_space import SearchSpace
from mnist_lit.sweeps.search_study import best_trials, counted_trials, first_number
from mnist_lit.sweeps.search_trial import format_value

MOST_ROWS = 10


def print_results(
    study: optuna.Study, sweep: SweepSection, space: SearchSpace, folder: Path, config: DictConfig
) -> bool:
    """Print and save the results. Returns True if a trial is complete."""
    trials, importances = counted_trials(study), compute_importances(study, sweep.objectives)
    write_study_json(folder, study, sweep.objectives, importances)
    states = [trial.state.name.lower().replace("fail", "failed") for trial in trials]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    print_line(f"{plural(len(trials), 'trial')}: {counts}")
    for trial in trials:
        if trial.state == TrialState.FAIL:
            print_line(f"trial {first_number(trial)} failed: {format_reason(trial.user_attrs)}")
    if best := best_trials(study):
        if len(sweep.objectives) > 1:
            print_line("The best compromises. No other trial is better in all objectives:")
        rich.get_console().print(build_table(study, sweep.objectives, list(space.axes)))
        for objective, shares in importances.items():
            listed = ", ".join(f"{key} {share:.0%}" for key, share in shares.items())
            print_line(f"importance for {objective}: {listed}")
        for trial in best[:MOST_ROWS]:
            command = run_command(space.overrides(trial.params), config.hydra, config.data)
            print_line(f"repeat trial {first_number(trial)}  {command}")
    print_line(f"page with plots  {report_command(folder)}")
    return bool(best)


def build_table(study: optuna.Study, objectives: Sequence[str], keys: list[str]) -> Table:
    """The complete trials, best first. With several objectives: the best compromises only."""
    complete = [trial for trial in counted_trials(study) if trial.state == TrialState.COMPLETE]
    shown = best_trials(study) if len(objectives) > 1 else complete
    largest_first = study.directions[0] == StudyDirection.MAXIMIZE
    rows = Table("trial", *keys, *objectives)
    for trial in sorted(shown, key=lambda trial: trial.values[0], reverse=largest_first)[:MOST_ROWS]:
        params = [Text(format_value(trial.params[key])) for key in keys]
        rows.add_row(str(first_number(trial)), *params, *(f"{value:.4g}" for value in trial.values))
    return rows


def compute_importances(study: optuna.Study, objectives: Sequence[str]) -> dict[str, dict[str, float]]:
    """For each objective: option → its share of the variance, 0 to 1. Empty if there are too few trials."""
    importances = {}
    for index, objective in enumerate(objectives):
        with suppress(ValueError, RuntimeError):  # fewer than two trials, or all values are equal
            importances[objective] = get_param_importances(
                study,
                evaluator=FanovaImportanceEvaluator(seed=0),
                target=lambda trial, index=index: trial.values[index],  # type: ignore[misc]
            )
    return importances


def write_study_json(
    folder: Path, study: optuna.Study, objectives: Sequence[str], importances: dict[str, dict[str, float]]
) -> None:
    content = {
        "objectives": list(objectives),
        "importances": importances,
        "trials": [to_json(trial) for trial in counted_trials(study)],
    }
    write_text(folder / STUDY, json.dumps(content, indent=1) + "\n")


def to_json(trial: FrozenTrial) -> dict[str, object]:
    return {
        "number": first_number(trial),
        "state": trial.state.name.lower(),
        "params": trial.params,
        "values": trial.values,
        "curve": {str(epoch): value for epoch, value in trial.intermediate_values.items()},
    }
