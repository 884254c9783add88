"""The training meter averages over windows and epochs, for blocks of any size."""

import pytest
import torch

from mnist_lit.training.step import LossNotFinite, TrainMeter


def feed(meter: TrainMeter, steps: range) -> list[tuple[int, dict[str, float]]]:
    for step in steps:
        outputs = torch.eye(10)[: 2 + step % 3]
        labels = torch.tensor([0, 1, 9, 9][: len(outputs)])
        meter.update(torch.tensor(float(step)), outputs, labels, lr=step / 100)
    return meter.read()


def test_windows_do_not_depend_on_block_size() -> None:
    whole, cut = TrainMeter(4), TrainMeter(4)
    expected = feed(whole, range(12))
    assert expected == feed(cut, range(3)) + feed(cut, range(3, 10)) + feed(cut, range(10, 12))
    assert [step for step, _ in expected] == [4, 8, 12]
    assert whole.end_epoch() == cut.end_epoch()


def test_means_give_each_sample_the_same_weight() -> None:
    ((_, metrics),) = feed(TrainMeter(3), range(3))
    assert metrics["train_loss"] == pytest.approx((0 * 2 + 1 * 3 + 2 * 4) / 9)
    assert metrics["train_acc"] == pytest.approx(6 / 9)
    assert metrics["lr"] == 0.02


def test_the_state_is_restored_in_the_middle_of_a_window() -> None:
    whole, before, after = TrainMeter(4), TrainMeter(4), TrainMeter(4)
    expected = feed(whole, range(8))
    first = feed(before, range(6))
    after.load_state_dict(before.state_dict())
    assert first + feed(after, range(6, 8)) == expected
    assert after.end_epoch() == whole.end_epoch()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_an_error_that_names_its_step(bad: float) -> None:
    meter = TrainMeter(10)
    for loss in (1.0, 2.0, bad, 3.0):
        meter.update(torch.tensor(loss), torch.eye(10)[:1], torch.tensor([0]), lr=0.1)
    with pytest.raises(LossNotFinite) as caught:
        meter.read()
    assert caught.value.step == 3
