"""The Train page before Start: what is chosen there is what the run is told."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

from pages._shared.draft import Draft
from tlcore import dataset, diagnosis, runs
from tlcore.augment import PRESETS, AugmentConfig, augment
from tlcore.backbones import outline
from tlcore.backbones.outline import Outline
from tlcore.config import TUNING_AUGMENT, TUNING_VIEWS, TailConfig, TrainConfig, textbook
from tlcore.dataset import Manifest
from tlcore.decoded import DecodedCache
from tlcore.looking import loader
from tlcore.workspace import HOME_VARIABLE, Workspace

ROUTER = Path(__file__).parent.parent / "pages" / "_router.py"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """An empty workspace that the page uses."""
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "home"))
    return Workspace.default()


@pytest.fixture
def photos(home: Workspace, three_kinds_zip: Path) -> Manifest:
    return dataset.ingest(three_kinds_zip, home)


def opened(photos: Manifest, **address: str) -> AppTest:
    app = AppTest.from_file(str(ROUTER), default_timeout=60).run()
    app.switch_page("train.py")
    for name, value in {"dataset": photos.id, **address}.items():
        app.query_params[name] = value
    app.run()
    assert not app.exception
    return app


def how(app: AppTest):
    return next(radio for radio in app.radio if radio.label == "How far to train")


def variation(app: AppTest):
    return next(group for group in app.button_group if group.label == "Vary the photos")


def number(app: AppTest, label: str):
    return next(field for field in app.number_input if field.label == label)


def switch(app: AppTest, label: str):
    return next(toggle for toggle in app.toggle if toggle.label == label)


def chosen(app: AppTest, home: Workspace) -> TrainConfig:
    """Presses Start and returns what the run was told."""
    app.run().button(key="start").click().run()
    assert not app.exception
    return runs.list_runs(home)[0].config


def said(app: AppTest) -> str:
    return "\n".join(each.value for each in (*app.markdown, *app.caption)).replace("\\", "")


def labels(app: AppTest) -> set[str]:
    """Returns what the fields are called that are drawn."""
    return {field.label for kind in (app.number_input, app.selectbox) for field in kind}


def html_with(app: AppTest, name: str) -> list[str]:
    return [each.value for each in app.html if f'<div class="{name}"' in each.value]


def pictures(app: AppTest) -> list[np.ndarray]:
    """Returns the copies of a photo that the page shows, uint8 [h, w, 3] each."""
    [grid] = html_with(app, "tl-copies")
    found = re.findall(r"data:image/jpeg;base64,([^\"]+)", grid)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(each)))) for each in found]


# What is chosen is what the run is told


def test_the_defaults_of_the_page_are_those_of_the_core(home: Workspace, photos: Manifest) -> None:
    assert chosen(opened(photos), home) == TrainConfig()


HOW: Mapping[str, TrainConfig] = {
    "careful": TrainConfig(mode="finetune", views=TUNING_VIEWS, augment=TUNING_AUGMENT),
    "textbook": textbook("efficientnet_lite0", views=10),
}


@pytest.mark.parametrize("name", HOW)
def test_each_way_to_train_has_its_settings(name: str, home: Workspace, photos: Manifest) -> None:
    app = opened(photos)
    how(app).set_value(name).run()
    assert chosen(app, home) == HOW[name]


def test_the_costly_ways_are_offered_on_request(home: Workspace, photos: Manifest) -> None:
    app = opened(photos)
    assert how(app).options == ["Quick", "Careful", "Textbook"]
    switch(app, "Offer the two costly ways to train").set_value(True).run()
    how(app).set_value("scratch").run()
    assert chosen(app, home) == TrainConfig(mode="scratch")


def test_from_nothing_only_what_has_an_effect_is_asked_for(
    home: Workspace, photos: Manifest
) -> None:
    app = opened(photos)
    number(app, "Learning rate").set_value(0.5).run()
    assert {"Epochs", "Learning rate", "Optimizer", "Dropout"} <= labels(app)
    switch(app, "Offer the two costly ways to train").set_value(True).run()
    how(app).set_value("scratch").run()
    of_the_head = {"Epochs", "Learning rate", "Optimizer", "Schedule", "Batch size"}
    assert not labels(app) & (of_the_head | {"Weight decay", "Weight penalty (L2)"})
    of_all = {"Tuning epochs", "Tuning learning rate", "Dropout", "Hidden units", "Seed"}
    assert of_all <= labels(app)
    assert "find_rate" not in {button.key for button in app.button}
    assert chosen(app, home) == TrainConfig(mode="scratch")


def test_each_variation_has_its_preset_and_some_copies(home: Workspace, photos: Manifest) -> None:
    app = opened(photos)
    variation(app).set_value("textbook").run()
    assert len(pictures(app)) == 6
    variation(app).set_value("light").run()
    assert chosen(app, home) == TrainConfig(views=6, augment=PRESETS["light"])


def test_settings_of_one_s_own_begin_with_the_preset_in_view(
    home: Workspace, photos: Manifest
) -> None:
    app = opened(photos)
    variation(app).set_value("strong").run()
    variation(app).set_value("custom").run()
    number(app, "Rotation, in degrees").set_value(90.0)
    switch(app, "Turn upside down").set_value(True)
    app.run()
    variation(app).set_value("none").run()
    assert not [field for field in app.number_input if field.label == "Copies of each photo"]
    variation(app).set_value("custom").run()
    wanted = replace(PRESETS["strong"], rotation=90.0, vertical_flip=True)
    assert chosen(app, home) == TrainConfig(views=6, augment=wanted)


def test_a_field_that_a_preset_has_filled_no_longer_heeds_what_the_browser_says_late(
    home: Workspace, photos: Manifest
) -> None:
    """It sends what its fields held until it has heard that they are gone."""
    app = opened(photos)
    variation(app).set_value("strong").run()
    variation(app).set_value("custom").run()
    field = number(app, "Rotation, in degrees")
    assert (field.value, field.key is None) == (30, False)
    variation(app).set_value("light").run()
    app.session_state[field.key] = 30.0
    app.run()
    assert chosen(app, home).augment == PRESETS["light"]


def test_careful_varies_photos_by_a_preset_and_shows_no_field_of_it(
    home: Workspace, photos: Manifest
) -> None:
    app = opened(photos)
    how(app).set_value("careful").run()
    assert variation(app).value == "unmirrored"
    assert not [field for field in app.number_input if field.label == "Rotation, in degrees"]
    assert chosen(app, home).augment == replace(PRESETS["textbook"], horizontal_flip=False)


def test_photos_are_mixed_only_where_the_network_is_tuned(
    home: Workspace, photos: Manifest
) -> None:
    config = TrainConfig(mode="finetune", views=1, augment=AugmentConfig(rotation=5, mixup=0.2))
    run = runs.create(home, config, dataset_id=photos.id, dataset_version=1, dataset_name="a")
    app = opened(photos, like=run.id)
    assert number(app, "MixUp").value == 0.2
    how(app).set_value("quick").run()
    assert not [field for field in app.number_input if field.label == "MixUp"]
    assert chosen(app, home) == TrainConfig(views=1, augment=AugmentConfig(rotation=5.0))


# Nothing that was typed is lost


def test_what_was_typed_is_there_again_when_its_way_is_chosen_again(
    home: Workspace, photos: Manifest
) -> None:
    app = opened(photos)
    number(app, "Epochs").set_value(7)
    how(app).set_value("careful").run()
    number(app, "Tuning epochs").set_value(3)
    app.slider[0].set_value(2)
    app.run()
    how(app).set_value("quick").run()
    how(app).set_value("careful").run()
    wanted = TrainConfig(
        mode="finetune",
        epochs=7,
        views=TUNING_VIEWS,
        augment=TUNING_AUGMENT,
        tail=TailConfig(epochs=3, blocks=2),
    )
    assert chosen(app, home) == wanted


def test_copies_that_came_with_tuning_go_with_it(home: Workspace, photos: Manifest) -> None:
    app = opened(photos)
    how(app).set_value("careful").run()
    how(app).set_value("quick").run()
    assert chosen(app, home) == TrainConfig()


def test_the_textbook_recipe_gives_back_what_it_replaced_but_not_what_was_typed_since(
    home: Workspace, photos: Manifest
) -> None:
    app = opened(photos)
    number(app, "Epochs").set_value(7)
    number(app, "Dropout").set_value(0.5)
    how(app).set_value("textbook").run()
    assert (number(app, "Epochs").value, number(app, "Dropout").value) == (10, 0.0)
    assert "Not quite the recipe" not in said(app)
    number(app, "Batch size").set_value(8).run()
    assert "Not quite the recipe any more: Batch size." in said(app)
    how(app).set_value("quick").run()
    assert chosen(app, home) == TrainConfig(epochs=7, dropout=0.5, batch_size=8)


def test_one_press_leads_back_to_the_textbook_recipe(home: Workspace, photos: Manifest) -> None:
    app = opened(photos)
    how(app).set_value("textbook").run()
    number(app, "Epochs").set_value(11)
    variation(app).set_value("light").run()
    next(button for button in app.button if button.label == "Back to the recipe").click().run()
    assert chosen(app, home) == HOW["textbook"]


# What is out of range, and where the page begins


def test_a_value_out_of_range_is_said_in_words_and_nothing_starts(photos: Manifest) -> None:
    app = opened(photos)
    number(app, "Learning rate").set_value(50.0).run()
    assert not app.exception
    assert "Learning rate must be above 0 and at most 10, but it is 50.0." in said(app)
    assert "0.001 is a good start." in said(app)
    assert app.button(key="start").disabled
    number(app, "Learning rate").set_value(0.1)
    number(app, "Hidden units").set_value(-1).run()
    assert "Hidden units must be a whole number from 0 to 8,192, but it is -1." in said(app)
    number(app, "Hidden units").set_value(0).run()
    assert not app.button(key="start").disabled


def test_a_value_out_of_range_is_called_as_its_field_and_set_back_by_one_press(
    home: Workspace, photos: Manifest
) -> None:
    config = TrainConfig(mode="finetune", tail=TailConfig(epochs=5))
    run = runs.create(home, config, dataset_id=photos.id, dataset_version=1, dataset_name="a")
    app = opened(photos, like=run.id)
    number(app, "Tuning epochs").set_value(0).run()
    assert "Tuning epochs must be a whole number from 1 to 10,000, but it is 0." in said(app)
    assert app.button(key="set_back").label == "Set it back to 5"
    app.button(key="set_back").click().run()
    assert number(app, "Tuning epochs").value == 5
    assert chosen(app, home) == config


def test_copies_that_no_epoch_gets_to_are_told_and_not_shown(photos: Manifest) -> None:
    app = opened(photos)
    variation(app).set_value("light").run()
    number(app, "Copies of each photo").set_value(4)
    number(app, "Epochs").set_value(5).run()
    assert "epochs get to" not in said(app)
    assert len(pictures(app)) == 4
    number(app, "Epochs").set_value(4).run()
    assert "4 epochs get to 3 copies only: the first learns from the photo itself." in said(app)
    assert len(pictures(app)) == 3
    number(app, "Epochs").set_value(1).run()
    assert "With 1 epoch it learns from the photo itself only." in said(app)
    assert not html_with(app, "tl-copies")


LIKE: Mapping[str, TrainConfig] = {
    "quick": TrainConfig(epochs=3, optimizer="sgd", schedule="cosine", minutes=5),
    "careful": TrainConfig(mode="finetune", tail=TailConfig(blocks=3)),
    "textbook": textbook("efficientnet_lite1", views=10, seed=4),
    "full": TrainConfig(mode="full", class_weights="balanced", hidden_units=16),
    "scratch": TrainConfig(
        mode="scratch", views=2, augment=AugmentConfig(fill_mode="wrap", zoom=0.5)
    ),
}


@pytest.mark.parametrize("name", LIKE)
def test_a_draft_begins_with_all_settings_of_another_run(name: str) -> None:
    begun = Draft(f"like {name}", LIKE[name])
    assert begun["how"] == name
    assert begun.config() == LIKE[name]


def test_a_run_like_another_has_all_of_its_settings(home: Workspace, photos: Manifest) -> None:
    run = runs.create(home, LIKE["full"], dataset_id=photos.id, dataset_version=1, dataset_name="a")
    app = opened(photos, like=run.id)
    assert how(app).value == "full"
    assert chosen(app, home) == LIKE["full"]


def test_advice_in_the_address_changes_the_settings_it_is_about(
    home: Workspace, photos: Manifest
) -> None:
    before = TrainConfig(learning_rate=0.03)
    run = runs.create(home, before, dataset_id=photos.id, dataset_version=1, dataset_name="a")
    app = opened(photos, like=run.id, advice="smaller_steps")
    assert chosen(app, home) == diagnosis.ADVICE["smaller_steps"].apply(before)


def test_settings_of_another_run_say_so_and_what_was_changed(
    home: Workspace, photos: Manifest
) -> None:
    before = TrainConfig(learning_rate=0.03)
    run = runs.create(home, before, dataset_id=photos.id, dataset_version=1, dataset_name="a")
    app = opened(photos, like=run.id, advice="smaller_steps")
    told = f"With the settings of {run.name}. Changed: Learning rate 0.03 → 0.01."
    assert told in said(app)
    unchanged = f"With the settings of {run.name}. Change one thing and press Start."
    assert unchanged in said(opened(photos, like=run.id))
    assert "is not here any more" in said(opened(photos, like="0123456789ab"))


@pytest.mark.parametrize("advice", ["../..", "<b>" + "x" * 5000])
def test_advice_that_is_not_known_changes_nothing(advice: str, photos: Manifest) -> None:
    app = opened(photos, advice=advice)
    assert (number(app, "Epochs").value, number(app, "Learning rate").value) == (30, 0.001)


# Pictures


def test_the_preview_shows_the_very_copies_that_are_trained_on(
    home: Workspace, photos: Manifest
) -> None:
    config = TrainConfig(views=3, augment=PRESETS["strong"], seed=9)
    run = runs.create(home, config, dataset_id=photos.id, dataset_version=1, dataset_name="a")
    app = opened(photos, like=run.id)
    learned = photos.subset("train")[0]
    pixels = loader(home, photos.id, DecodedCache(home, (224, 224)))(learned.sha256)
    shown = pictures(app)
    assert len(shown) == 3
    for view, copy in enumerate(shown, 1):
        made = augment(pixels, config.augment, seed=9, view=view, key=learned.sha256)
        # A JPEG on the way to the browser changes each pixel a little.
        assert np.abs(made.astype(int) - copy).mean() < 8
    next(each for each in app.button if each.label == "Another photo").click().run()
    assert not app.exception
    assert np.abs(pictures(app)[0].astype(int) - shown[0]).mean() > 8


LITE0 = outline.shipped()["efficientnet_lite0"]


def test_careful_shows_what_is_tuned_and_what_stays(photos: Manifest) -> None:
    app = opened(photos)
    how(app).set_value("careful").run()
    app.slider[0].set_value(3).run()
    [network] = html_with(app, "tl-network")
    # Bars and a square of the legend each.
    assert network.count('class="tl-tuned"') == 3 + 1
    assert network.count('class="tl-frozen"') == 9 + 1
    tuned = LITE0.tuned(3)
    assert f"stays as it is: {LITE0.parameters - tuned:,} parameters" in network
    assert f"tuned: {tuned:,} parameters" in network
    assert "new last layer: 3,843 parameters" in network
    assert "Blocks 10 to 12 of 12 are tuned" in [each.label for each in app.expander]


def with_blocks(home: Workspace, sides: list[int]) -> Outline:
    """Makes the default network one of other blocks, as far as the pages can see."""
    found = Outline.of_sizes([(100, 90, side) for side in sides])
    home.backbone_cache.mkdir(parents=True, exist_ok=True)
    path = home.backbone_cache / "efficientnet_lite0-224.outline.json"
    path.write_text(json.dumps({"version": outline._VERSION, **found.to_json()}))
    return found


def test_a_network_that_cannot_be_cut_is_not_tuned_in_part(
    home: Workspace, photos: Manifest
) -> None:
    with_blocks(home, [7])
    config = TrainConfig(mode="finetune", views=1, augment=PRESETS["light"])
    run = runs.create(home, config, dataset_id=photos.id, dataset_version=1, dataset_name="a")
    app = opened(photos, like=run.id)
    assert how(app).options == ["Quick", "Textbook"]
    assert "Careful is not offered: EfficientNet-Lite0 is a single block" in said(app)
    assert chosen(app, home) == TrainConfig(views=1, augment=PRESETS["light"])


def test_of_a_network_of_two_blocks_one_is_tuned(home: Workspace, photos: Manifest) -> None:
    with_blocks(home, [14, 7])
    app = opened(photos)
    how(app).set_value("careful").run()
    [network] = html_with(app, "tl-network")
    assert network.count('class="tl-tuned"') == 1 + 1
    assert "tuned: 90 parameters" in network
    assert "Block 2 of 2 is tuned" in [each.label for each in app.expander]
    assert chosen(app, home).tail.blocks == 1
