"""Measures several runs: a sweep in one process, parallel jobs of a sweep, and two runs that share all cores."""

import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median

from hydra.core.utils import env_override
from joblib import cpu_count

from benchmarks.measurement import Row, Seconds, compare, take_turns
from benchmarks.processes import NO_DASHBOARDS, import_lightning, run_python, run_train_py
from benchmarks.runner import DEFAULTS, LIBGOMP_DEFAULT, find_mnist_root, run_module
from mnist_lit.run_folder import RESULT, read_result
from tests.configs import PROJECT

JOB = [*DEFAULTS, "model=mlp_128_64", "data.batch_size=128"]
RUN = [*DEFAULTS, "model=cnn", "data.batch_size=64", "data.train_size=10000", "trainer.max_epochs=1"]


def measure_sweeps(rounds: int, quick: bool) -> list[Row]:
    """Four runs in one command, and parallel jobs of a sweep: time."""
    what = "four one-epoch runs of mlp_128_64, batch 128, in one command"
    four_runs = ["trainer.max_epochs=1", "optimizer=adam,sgd", "seed=0,1"]
    seconds = take_turns(
        {
            "import lightning": import_lightning,
            "four runs": lambda: run_sweep(*four_runs)[0],
            "without dashboards": lambda: run_sweep(*four_runs, *NO_DASHBOARDS)[0],
        },
        rounds,
    )
    four, without = seconds["four runs"], seconds["without dashboards"]
    return [
        Row(
            what,
            median(four),
            8,
            unit="s",
            detail=f"{min(four):.1f} to {max(four):.1f} s",
            reason="more than a quarter of it is the imports, see *startup*; an eighth is the dashboards, see the next "
            "row",
        ),
        Row(f"the same with `{' '.join(NO_DASHBOARDS)}`", median(without), unit="s"),
        compare(f"{what}, relative to `import lightning`", four, seconds["import lightning"]),
        *compare_jobs(rounds, 1 if quick else 5),
    ]


def run_sweep(*arguments: str) -> tuple[float, list[float]]:
    """Return the seconds of the whole command and the fit seconds of each run."""
    command = [str(PROJECT / "train.py"), "-m", *JOB, *arguments, f"data.root={find_mnist_root()}"]
    with tempfile.TemporaryDirectory() as folder:
        seconds = run_python([*command, "hydra.sweep.dir=sweep"], folder).seconds
        return seconds, [read_result(path.parent)["fit_seconds"] for path in Path(folder).glob(f"sweep/*/{RESULT}")]


def compare_jobs(rounds: int, epochs: int) -> list[Row]:
    """Compare as many parallel jobs as cores with one job. Each job has one thread."""
    cores = cpu_count()
    one, many = "one job", f"{cores} jobs"
    launcher = ["hydra/launcher=joblib", f"hydra.launcher.n_jobs={cores}", f"trainer.max_epochs={epochs}"]
    fits: Seconds = {one: [], many: []}

    def measure(name: str, seeds: str) -> float:
        with env_override({"OMP_NUM_THREADS": "1"}):
            seconds, fit_seconds = run_sweep(seeds, *launcher)
        fits[name].append(max(fit_seconds))
        return seconds

    programs = {one: lambda: measure(one, "seed=0"), many: lambda: measure(many, f"seed=range(0,{cores})")}
    seconds = take_turns(programs, rounds)
    return [
        compare(
            f"{what} of {cores} jobs on {cores} cores, relative to one job on one core",
            measured[many],
            measured[one],
            goal,
            seconds=measured,
            reason="the cores slow each other down: see the last row",
        )
        for what, measured, goal in (("fit time", fits, 1.15), ("time of the whole command", seconds, None))
    ] + [compare_loops(rounds, cores, epochs)]


def compare_loops(rounds: int, cores: int, epochs: int) -> Row:
    """Compare parallel processes of a hand-written loop with one process. This shows the limit of the machine."""
    one, many = "one loop", f"{cores} loops"

    def measure_slowest(processes: int) -> float:
        loop = partial(run_module, "benchmarks.baselines", *JOB, f"--epochs={epochs}", OMP_NUM_THREADS="1")
        with ThreadPoolExecutor(processes) as pool:
            return max(times["train"] for times in pool.map(lambda _: loop(), range(processes)))

    seconds = take_turns({one: lambda: measure_slowest(1), many: lambda: measure_slowest(cores)}, rounds)
    return compare(
        f"{cores} hand-written loops on {cores} cores, relative to one loop on one core",
        seconds[many],
        seconds[one],
        seconds=seconds,
    )


def measure_parallel_runs(rounds: int, quick: bool) -> list[Row]:
    """Two runs at the same time, each with one thread per core: time relative to one run."""

    def measure_slowest(runs: int, **variables: str) -> float:
        with env_override(variables), ThreadPoolExecutor(runs) as pool:
            return max(fit_seconds for _, fit_seconds in pool.map(lambda _: run_train_py(*RUN), range(runs)))

    find_mnist_root()  # fills the cache: two threads cannot compose a config at the same time
    one, two = "one run", "two runs"
    one_default, two_default = (f"{name} (libgomp default)" for name in (one, two))
    two_asleep, two_single = "two runs (threads sleep at once)", "two runs (one thread each, so other weights)"
    seconds = take_turns(
        {
            one: lambda: measure_slowest(1),
            two: lambda: measure_slowest(2),
            one_default: lambda: measure_slowest(1, GOMP_SPINCOUNT=LIBGOMP_DEFAULT),
            two_default: lambda: measure_slowest(2, GOMP_SPINCOUNT=LIBGOMP_DEFAULT),
            two_asleep: lambda: measure_slowest(2, GOMP_SPINCOUNT="0"),
            two_single: lambda: measure_slowest(2, OMP_NUM_THREADS="1"),
        },
        rounds,
    )
    return [
        compare(
            f"fit time of {slow}, relative to {fast}: cnn, batch 64, 10,000 samples",
            seconds[slow],
            seconds[fast],
            goal,
            seconds={slow: seconds[slow], fast: seconds[fast]},
            reason="on shared cores a thread that waits has to sleep and wake up, see mnist_lit/training/waiting.py; "
            "the next row is the limit of that",
        )
        for slow, fast, goal in (
            (two, one, 2.2),
            (two_asleep, one, None),
            (two_single, one, None),
            (two_default, one, None),
            (one, one_default, None),
        )
    ]
