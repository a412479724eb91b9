"""Evaluation: datasets, tasks, scorers, experiments, and the decision between two of them.

`assay.evals.compare` is imported by its own name, since it needs numpy and scipy.
"""

from __future__ import annotations

from assay.evals.catalogue import SCORERS, Bench, scorer, scorers_of
from assay.evals.code import load
from assay.evals.costs import Spend, dollars
from assay.evals.dataset import Dataset, DatasetDiff, Example, diff, example_from_call, make_dataset
from assay.evals.experiment import (
    Experiment,
    Failure,
    Outcome,
    Plan,
    list_experiments,
    load_experiment,
    read_experiment,
)
from assay.evals.jsonl import parse_dataset, read_dataset, write_dataset
from assay.evals.judge import Judge
from assay.evals.running import DEFAULT_CONCURRENCY, Progress, run_experiment
from assay.evals.score import Score, Scorer
from assay.evals.scorers import exact, function_scorer, includes, json_schema, json_valid, numeric, regex
from assay.evals.store import DatasetStore, DatasetVersion
from assay.evals.task import Answer, FunctionTask, PromptTask, Task, function_task

__all__ = [
    "DEFAULT_CONCURRENCY",
    "SCORERS",
    "Answer",
    "Bench",
    "Dataset",
    "DatasetDiff",
    "DatasetStore",
    "DatasetVersion",
    "Example",
    "Experiment",
    "Failure",
    "FunctionTask",
    "Judge",
    "Outcome",
    "Plan",
    "Progress",
    "PromptTask",
    "Score",
    "Scorer",
    "Spend",
    "Task",
    "diff",
    "dollars",
    "exact",
    "example_from_call",
    "function_scorer",
    "function_task",
    "includes",
    "json_schema",
    "json_valid",
    "list_experiments",
    "load",
    "load_experiment",
    "make_dataset",
    "numeric",
    "parse_dataset",
    "read_dataset",
    "read_experiment",
    "regex",
    "run_experiment",
    "scorer",
    "scorers_of",
    "write_dataset",
]
