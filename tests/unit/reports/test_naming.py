import importlib

import pytest

from benchmark.backbones.contract import backbone_names, find_backbone
from benchmark.registry import member_names
from reports.conditions import group_conditions
from reports.naming import METHOD_TITLES, dataset_title, num_blocks, placement_title
from tests.unit.reports.synthetic import completed, make_spec, make_study


def labels_of(*specs):
    return [condition.label for condition in group_conditions(make_study([completed(spec, 0.9) for spec in specs]))]


def test_titles_are_the_methods_own_when_the_suite_ships_them():
    shipped = member_names("benchmark.methods")
    own = {name: importlib.import_module(f"benchmark.methods.{name}").METHOD.title for name in shipped}
    assert own == METHOD_TITLES


@pytest.mark.parametrize(
    ("placement", "title"),
    [
        ("all", "all blocks"),
        ("every:2", "every 2nd block"),
        ("every:3", "every 3rd block"),
        ("every:11", "every 11th block"),
        ("every:21", "every 21st block"),
        ("first:1", "first block"),
        ("last:4", "last 4 blocks"),
        ("blocks:3", "block 3"),
        ("blocks:0,3,7-11", "blocks 0, 3, 7–11"),
        ("as a plug-in says", "placement as a plug-in says"),
    ],
)
def test_placement_is_said_in_words_when_shown(placement, title):
    assert placement_title(placement) == title


def test_what_every_condition_shares_goes_unsaid_when_it_is_the_papers():
    spec = make_spec("adaptertune", 0, rank=16, placement="all", init="zero")
    assert labels_of(spec) == ["AdapterTune r16"]


def test_placement_is_said_when_the_study_varies_it():
    specs = [make_spec("adaptertune", 0, rank=16, placement=place, init="zero") for place in ("all", "last:4")]
    assert labels_of(*specs) == ["AdapterTune r16 · all blocks", "AdapterTune r16 · last 4 blocks"]


def test_initialisation_is_said_when_it_is_not_the_papers():
    assert labels_of(make_spec("adaptertune", 0, rank=4, init="xavier")) == ["AdapterTune r4 · xavier init"]


def test_switches_read_on_and_off_when_they_tell_two_apart():
    specs = [make_spec("houlsby", 0, rank=8, train_norms=value) for value in (True, False)]
    assert labels_of(*specs) == ["Houlsby adapters r8 · train norms on", "Houlsby adapters r8 · train norms off"]


def test_name_stands_when_a_plug_in_has_no_title():
    assert labels_of(make_spec("my_method", 0, rank=2)) == ["my_method r2"]


def test_number_of_blocks_is_the_backbones_own_when_the_suite_ships_it():
    names = backbone_names()
    assert {name: num_blocks(name) for name in names} == {name: find_backbone(name).depth for name in names}


@pytest.mark.parametrize("name", ["my_vit", "vit_giant_patch14", "vit", "resnet50"])
def test_number_of_blocks_is_unknown_when_the_name_says_no_size(name):
    assert num_blocks(name) is None


def test_data_sets_read_as_published_when_their_names_are_known():
    assert [dataset_title(name) for name in ("cifar100", "vtab_cifar100", "vtab_clevr_count")] == [
        "CIFAR-100",
        "CIFAR-100",
        "clevr count",
    ]
