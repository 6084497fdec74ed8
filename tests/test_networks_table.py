"""The table of starting networks on the Train page, and which one it advises."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from tlcore import dataset, hardware, passes
from tlcore.backbones import BACKBONES
from tlcore.dataset import Manifest
from tlcore.workspace import HOME_VARIABLE, Workspace

ROUTER = Path(__file__).parent.parent / "pages" / "_router.py"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "home"))
    return Workspace.default()


@pytest.fixture
def photos(home: Workspace, three_kinds_zip: Path) -> Manifest:
    return dataset.ingest(three_kinds_zip, home)


def test_the_table_says_under_which_licence_a_network_is_and_advice_counts_the_copies(
    home: Workspace, photos: Manifest
) -> None:
    measured = {
        "machine": f"{hardware.cpu_name()}, {passes.threads()} threads, v1",
        "milliseconds": 2.0,
    }
    home.backbone_cache.mkdir(parents=True)
    (home.backbone_cache / "efficientnet_lite0-224.speed.json").write_text(json.dumps(measured))
    app = AppTest.from_file(str(ROUTER), default_timeout=60).run()
    app.switch_page("train.py")
    app.query_params["dataset"] = photos.id
    app.run()
    table = next(each.value for each in app.dataframe if "licence" in each.value)
    assert next(iter(table["network"])) == BACKBONES["efficientnet_lite0"].title
    assert set(table["licence"]) == {"Apache-2.0"}
    assert any("looks at 36 photos within 30 s" in each.value for each in app.caption)
    textbook = next(radio for radio in app.radio if radio.label == "How far to train")
    textbook.set_value("textbook").run()
    # Ten epochs: the first sees the photos, each of the other nine a copy of the 30 learned from.
    copies = 9 * len(photos.subset("train"))
    assert any(f"36 photos and {copies} varied copies within" in each.value for each in app.caption)
