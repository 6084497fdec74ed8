"""Outlines of networks: the figures of the built network, and nothing that has to be guessed."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tlcore.backbones import BACKBONES, build, cuts, outline
from tlcore.backbones.outline import Outline, head_parameters
from tlcore.workspace import Workspace

LITE0 = BACKBONES["efficientnet_lite0"]
CACHED = "efficientnet_lite0-224.outline.json"
SMALL = Outline.of_sizes([(5, 4, 9), (7, 6, 3)])


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


@pytest.mark.parametrize(
    ("blocks", "tuned"), [(0, 0), (1, 4), (2, 6), (3, 7), (4, 7)], ids=lambda each: str(each)
)
def test_the_last_blocks_are_tuned_and_at_most_all_of_them(blocks: int, tuned: int) -> None:
    whole = Outline.of_sizes((2 * n, n, 1) for n in (1, 2, 4))
    assert whole.parameters == 14
    assert whole.most_tuned == 2
    assert whole.tuned(blocks) == tuned


def test_blocks_and_the_last_of_them_have_a_title() -> None:
    whole = Outline.of_sizes([(1, 1, 1)] * 12)
    assert [block.title for block in whole.blocks][::11] == ["Block 1", "Block 12"]
    assert [whole.title(blocks) for blocks in (0, 1, 2, 3)] == [
        *("Block 12", "Block 12", "Blocks 11 and 12", "Blocks 10 to 12"),
    ]
    assert whole.title(12) == whole.title(99) == "Blocks 1 to 12"


@pytest.mark.parametrize(
    ("arguments", "parameters"),
    [((1280, 5), 1281 * 5), ((1280, 5, 256), 1281 * 256 + 257 * 5), ((4, 2, 0), 10)],
)
def test_the_head_has_a_bias_for_each_unit(arguments: tuple[int, ...], parameters: int) -> None:
    assert head_parameters(*arguments) == parameters


def test_the_outline_of_a_built_network_is_the_one_that_comes_with_the_program(
    workspace: Workspace,
) -> None:
    import keras

    with keras.StatelessScope():  # no weights are needed
        model = build.build(LITE0, None)
    found = outline.of_model(model)
    assert found == outline.shipped()[LITE0.name]
    assert found == outline.keep_outline(LITE0, model, workspace)
    assert found.parameters == LITE0.parameters
    for cut in cuts.cuts(model):
        assert found.tuned(cut.blocks) == cut.tuned_parameters
        assert found.blocks[-cut.blocks - 1].side == cut.shape[0]


def test_the_outline_of_a_network_that_is_not_in_the_table_is_kept_once(
    workspace: Workspace,
) -> None:
    import keras

    other = dataclasses.replace(LITE0, name="own-0000000000000000")
    assert outline.outline(other, workspace) is None
    with keras.StatelessScope():
        model = build.build(LITE0, None)
    found = outline.keep_outline(other, model, workspace)
    assert outline.outline(other, workspace) == found
    (file,) = workspace.backbone_cache.glob("own-*.outline.json")
    written = file.stat().st_mtime_ns
    assert outline.keep_outline(other, model, workspace) == found
    assert file.stat().st_mtime_ns == written


def test_what_was_built_here_counts_more_than_what_comes_with_the_program(
    workspace: Workspace,
) -> None:
    workspace.backbone_cache.mkdir(parents=True)
    built = json.dumps({"version": 2, **SMALL.to_json()})
    (workspace.backbone_cache / CACHED).write_text(built)
    assert outline.outline(LITE0, workspace) == SMALL


@pytest.mark.parametrize(
    "damage",
    [
        *("", "{", "[]", '{"version": 2}', '{"version": 1, "blocks": []}'),
        '{"version": 2, "parameters": [1], "tunable": [1, 1], "side": [1]}',
    ],
)
def test_a_damaged_outline_is_as_if_it_were_not_there(damage: str, workspace: Workspace) -> None:
    workspace.backbone_cache.mkdir(parents=True)
    (workspace.backbone_cache / CACHED).write_text(damage)
    assert outline.outline(LITE0, workspace) == outline.shipped()["efficientnet_lite0"]


def test_the_file_of_outlines_is_what_its_script_writes() -> None:
    file = Path(outline.__file__).with_name("outlines.json")
    assert file.read_text(encoding="utf-8") == outline.shipped_json(outline.shipped())
    assert list(outline.shipped()) == list(BACKBONES)
    for name, each in outline.shipped().items():
        assert each.most_tuned >= 1
        assert each.parameters == BACKBONES[name].parameters
        assert Outline.from_json(each.to_json()) == each


def test_an_outline_is_read_without_tensorflow(workspace: Workspace) -> None:
    script = (
        "import sys; from pathlib import Path;"
        "from tlcore.backbones import BACKBONES, outline; from tlcore.workspace import Workspace;"
        f"outline.outline(BACKBONES['mobilenet_v2'], Workspace(Path({str(workspace.root)!r})));"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
