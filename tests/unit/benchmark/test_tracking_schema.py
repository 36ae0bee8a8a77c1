import dataclasses

import pytest

from benchmark.errors import RequestError
from benchmark.tracking import PlannedTrial, schema, study_page, ui_command, without_password

SPEC = {
    "backbone": {"name": "vit_tiny", "weights": "bundled", "image_size_pixels": 64},
    "dataset": {"name": "digits"},
    "method": {"name": "lora", "options": {"rank": 8, "seed": "odd", "bias": False, "alpha": None}},
    "protocol": {"name": "fair", "normalisation": "backbone", "augmentation": "none", "selection": "last_epoch"},
    "training": {"epochs": 5, "learning_rate": 0.001},
    "seed": 3,
}


def planned_trial(trial_id, **changes):
    return PlannedTrial(trial_id, "condition", {**SPEC, **changes})


def test_option_gets_the_methods_prefix_when_its_name_is_taken():
    parameters = schema.trial_parameters(SPEC)
    assert (parameters["seed"], parameters["method.seed"]) == ("3", "odd")


def test_absent_and_boolean_values_are_words_when_made_parameters():
    parameters = schema.trial_parameters(SPEC)
    assert (parameters["alpha"], parameters["bias"]) == ("none", "false")


def test_run_name_is_short_when_nothing_else_differs():
    assert schema.run_names([planned_trial("one")]) == {"one": "lora r8 · seed 3"}


def test_run_name_tells_conditions_apart_when_something_differs():
    trials = [planned_trial("one"), planned_trial("two", dataset={"name": "svhn"}, training={"epochs": 9})]
    names = schema.run_names(trials)
    assert names["one"] == "lora r8 · seed 3 · digits · epochs 5 · learning_rate 0.001"
    assert names["two"] == "lora r8 · seed 3 · svhn · epochs 9"


def test_experiment_name_is_refused_when_empty():
    with pytest.raises(RequestError, match="1 to 488 characters"):
        schema.experiment_name(" ")


def test_folder_names_differ_when_only_signs_differ():
    assert schema.folder_name("a/b") != schema.folder_name("a:b")
    assert schema.folder_name("../..").startswith("-")


def test_password_is_removed_when_an_address_is_shown():
    assert without_password("https://user:secret@host:5000/path") == "https://host:5000/path"
    assert without_password("sqlite:////tmp/a@b/mlflow.db") == "sqlite:////tmp/a@b/mlflow.db"


def test_ui_stays_on_this_machine_when_started():
    command = ui_command("sqlite:////tmp/out/mlflow.db", 5001)
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert command[command.index("--artifacts-destination") + 1] == "/tmp/out/mlartifacts"


def test_ui_is_refused_when_the_store_is_a_server():
    with pytest.raises(RequestError, match="Open it in a browser"):
        ui_command("http://host:5000", 5001)


def test_study_page_names_the_stored_view_when_built():
    assert "viewStateShareKey=adaptertune" in study_page("http://127.0.0.1:5000/", "7")


def test_planned_trial_is_plain_when_stored():
    assert dataclasses.asdict(planned_trial("one"))["spec"] == SPEC
