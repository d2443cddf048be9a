import numpy as np
import pytest

from mgd_ssl.data.random_numbers import splitmix64, uniform


def test_splitmix_gives_the_published_numbers():
    # the first numbers of seed 1234567 in the reference implementation of S. Vigna
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert splitmix64(1234567, np.arange(3)).tolist() == expected
    assert splitmix64(1234567, np.array([2])).tolist() == expected[2:]


def test_numbers_of_an_index_depend_on_nothing_else_that_is_asked_for():
    many = uniform((3, 7), np.arange(50), 6)
    np.testing.assert_array_equal(uniform((3, 7), np.array([41, 5]), 6), many[[41, 5]])


@pytest.mark.parametrize("seeds", [(3, 8), (4, 7), (7, 3)])
def test_other_seeds_give_other_numbers(seeds):
    assert not np.isin(uniform(seeds, np.arange(50), 6), uniform((3, 7), np.arange(50), 6)).any()


def test_numbers_are_uniform_and_independent_within_and_across_indices():
    numbers = uniform((0, 0), np.arange(20000), 8)
    assert 0 <= numbers.min() < 1e-4 and 1 - 1e-4 < numbers.max() < 1
    counts = np.histogram(numbers, bins=100, range=(0, 1))[0]
    expected = numbers.size / 100
    assert ((counts - expected) ** 2 / expected).sum() < 149  # chi squared, 99 degrees, p 0.001
    pairs = np.corrcoef(np.concatenate([numbers[:-1], numbers[1:]], axis=1).T)
    assert np.abs(pairs - np.eye(16)).max() < 5 / np.sqrt(len(numbers))
