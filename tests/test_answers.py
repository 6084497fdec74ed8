"""What Try says of photos: each is asked about once, as long as the model stays the same."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from tlcore import bundle
from tlcore.workspace import HOME_VARIABLE, Workspace

ROUTER = Path(__file__).parents[1] / "pages" / "_router.py"


def test_a_run_that_went_on_is_asked_again(
    trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = shutil.copytree(trained.run.workspace.root, tmp_path / "home", copy_function=os.link)
    monkeypatch.setenv(HOME_VARIABLE, str(home))
    folder = Workspace.default().run_dir(trained.run.id) / "bundle"
    app = AppTest.from_file(str(ROUTER), default_timeout=60).run()
    app.switch_page("predict.py")
    app.query_params["run"] = trained.run.id
    app.run().button(key="three_photos").click().run()
    assert sorted(each.value for each in app.subheader) == ["board", "gradient", "stripes"]
    kernel = np.zeros((1280, 3), np.float32)
    head = bundle.Head(layers=((kernel, np.array([0, 9, 0], np.float32)),), epoch=1)
    trunk = trained.run.bundle / bundle.TRUNK
    bundle.write(folder, bundle.read_info(folder), trunk, head)
    app.run()
    assert not app.exception
    assert [each.value for each in app.subheader] == ["gradient"] * 3
