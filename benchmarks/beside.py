"""Two runs at once, each with a thread for every core: what it costs that they get in each other's way."""

from concurrent.futures import ThreadPoolExecutor

from hydra.core.utils import env_override

from benchmarks.processes import train_py
from benchmarks.product import DEFAULTS
from benchmarks.rounds import Row, medians, ratio, spread, take_turns
from benchmarks.versus import mnist_root

LIBGOMPS_OWN = "300000"  # spins until a thread that waits gives its core away
RUN = [*DEFAULTS, "model=cnn", "data.batch_size=64", "data.val_size=50000", "trainer.max_epochs=1"]


def beside(rounds: int, quick: bool) -> list[Row]:
    def slowest_of(runs: int, **environment: str) -> float:
        with env_override(environment), ThreadPoolExecutor(runs) as pool:
            return max(fit_seconds for _, fit_seconds in pool.map(lambda _: train_py(*RUN), range(runs)))

    mnist_root()  # once: threads cannot compose a config side by side
    own = {"GOMP_SPINCOUNT": LIBGOMPS_OWN}
    one, two = "one run", "two at once"
    seconds = take_turns(
        {
            one: lambda: slowest_of(1),
            two: lambda: slowest_of(2),
            f"{one}, long waits": lambda: slowest_of(1, **own),
            f"{two}, long waits": lambda: slowest_of(2, **own),
        },
        rounds,
    )
    return [
        Row(
            f"{what}, cnn, batch 64, 10,000 samples: {slow} against {fast}",
            ratio(seconds[slow], seconds[fast]),
            None,
            at_most=True,
            detail=f"{spread(seconds[slow], seconds[fast])}; {medians({name: seconds[name] for name in (slow, fast)})}",
        )
        for what, slow, fast in (
            ("runs that share the cores", two, one),
            ("the same with libgomp's own waits", f"{two}, long waits", one),
            ("a run alone, short waits against long ones", one, f"{one}, long waits"),
        )
    ]
