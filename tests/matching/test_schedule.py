import pytest

from mgd_ssl.matching import detection_iterations, evenly_spaced_epochs, unsupervised_epochs


def test_200_epochs_are_the_published_ones():
    assert unsupervised_epochs(200) == [1, 2, 3, 6, 9, 15, 26, 43, 74, 126]


@pytest.mark.parametrize("total", range(1, 1000, 7))
def test_any_length_starts_at_1_and_stays_within(total):
    epochs = unsupervised_epochs(total)
    assert epochs[0] == 1 and epochs[-1] <= total
    assert epochs == sorted(set(epochs))


def test_a_longer_run_goes_on_by_the_same_rule():
    assert unsupervised_epochs(800)[10:] == [214, 366, 626]
    assert unsupervised_epochs(26)[-1] == 26  # 1 + 5^(6/3), exactly


def test_classification_solves_before_the_first_epoch_then_every_second():
    assert evenly_spaced_epochs(6) == [1, 3, 5]
    assert evenly_spaced_epochs(7, 3) == [1, 4, 7]
    assert evenly_spaced_epochs(3, 100) == [1]


def test_detection_slows_down_after_20_000():
    iterations = detection_iterations(90_000)
    assert iterations == [0, 5_000, 10_000, 15_000, 20_000, 51_000, 82_000]
    assert detection_iterations(5_000) == [0]
    assert detection_iterations(20_001)[-1] == 20_000


@pytest.mark.parametrize(
    "schedule", [unsupervised_epochs, evenly_spaced_epochs, detection_iterations]
)
def test_nothing_to_run_is_refused(schedule):
    with pytest.raises(ValueError, match="at least 1"):
        schedule(0)


def test_a_step_of_none_is_refused():
    with pytest.raises(ValueError, match="a step of 0"):
        evenly_spaced_epochs(10, 0)
