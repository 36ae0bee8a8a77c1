import pytest
import torch

from benchmark.errors import MissingError
from benchmark.result import Scores
from benchmark.training.soup import _members as members_of
from benchmark.training.soup import average, greedy


def scores(top1, loss=0.5):
    return Scores(top1=top1, mean_per_class=top1, loss=loss, num_images=10)


def by_name(table):
    return lambda names: scores(table["".join(names)])


def test_average_is_the_mean_of_each_tensor():
    a, b = {"weight": torch.tensor([1.0, 2.0])}, {"weight": torch.tensor([3.0, 6.0])}
    assert average([a, b])["weight"].tolist() == [2.0, 4.0]
    assert average([a])["weight"].dtype == torch.float32


def test_greedy_begins_with_the_best_and_leaves_out_what_lowers_the_score():
    # Wortsman et al., recipe 1: c first; with a it is as good, so a stays; with b it would be worse.
    table = {"a": 0.7, "b": 0.8, "c": 0.9, "cb": 0.85, "ca": 0.9}
    assert greedy("abc", by_name(table)) == ["c", "a"]


def test_greedy_is_one_member_when_every_other_lowers_the_score():
    assert greedy("ab", by_name({"a": 0.9, "b": 0.8, "ab": 0.1})) == ["a"]


def test_lower_loss_goes_first_when_scores_are_equal():
    alone = {"a": scores(0.8, 0.4), "b": scores(0.8, 0.3)}
    assert greedy("ab", lambda names: alone.get("".join(names), scores(0.8))) == ["b", "a"]


def test_missing_ingredients_are_an_error_with_their_reason():
    import safetensors.numpy

    with pytest.raises(MissingError, match="hands them over"):
        members_of(None)
    with pytest.raises(MissingError, match="gone"):
        members_of(safetensors.numpy.save({}, {"missing": "the file is gone"}))
