"""Outlines of networks: the figures of the built network, and nothing that has to be guessed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tlcore.backbones import BACKBONES, build, cuts, outline
from tlcore.backbones.outline import Block, Outline, head_parameters
from tlcore.workspace import Workspace

LITE0 = BACKBONES["efficientnet_lite0"]
CACHED = "efficientnet_lite0-224.outline.json"
SMALL = Outline(blocks=(Block(parameters=5, side=9), Block(parameters=7, side=3)))


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


@pytest.mark.parametrize(
    ("blocks", "tuned"), [(0, 0), (1, 4), (2, 6), (3, 7), (4, 7)], ids=lambda each: str(each)
)
def test_the_last_blocks_are_tuned_and_at_most_all_of_them(blocks: int, tuned: int) -> None:
    whole = Outline(blocks=tuple(Block(parameters=n, side=1) for n in (1, 2, 4)))
    assert whole.parameters == 7
    assert whole.most_tuned == 2
    assert whole.tuned(blocks) == tuned


@pytest.mark.parametrize(
    ("arguments", "parameters"),
    [((1280, 5), 1281 * 5), ((1280, 5, 256), 1281 * 256 + 257 * 5), ((4, 2, 0), 10)],
)
def test_the_head_has_a_bias_for_each_unit(arguments: tuple[int, ...], parameters: int) -> None:
    assert head_parameters(*arguments) == parameters


def test_the_outline_of_a_built_network_is_the_one_that_comes_with_the_program(
    workspace: Workspace,
) -> None:
    model = build.build(LITE0, None)
    found = outline.write_outline(LITE0, model, workspace)
    assert found == outline.shipped()[LITE0.name]
    assert found == outline.outline(LITE0, workspace)
    assert found.parameters == LITE0.parameters
    for cut in cuts.cuts(model):
        assert found.tuned(cut.blocks) == cut.tuned_parameters
        assert found.blocks[-cut.blocks - 1].side == cut.shape[0]


def test_what_was_built_here_counts_more_than_what_comes_with_the_program(
    workspace: Workspace,
) -> None:
    workspace.backbone_cache.mkdir(parents=True)
    built = json.dumps({"version": 1, **SMALL.to_json()})
    (workspace.backbone_cache / CACHED).write_text(built)
    assert outline.outline(LITE0, workspace) == SMALL


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", '{"version": 1}', '{"version": 0, "blocks": []}']
)
def test_a_damaged_outline_is_as_if_it_were_not_there(damage: str, workspace: Workspace) -> None:
    workspace.backbone_cache.mkdir(parents=True)
    (workspace.backbone_cache / CACHED).write_text(damage)
    assert outline.outline(LITE0, workspace) == outline.shipped()["efficientnet_lite0"]


def test_a_network_that_was_never_built_has_no_outline(workspace: Workspace) -> None:
    assert outline.outline(BACKBONES["mobilenet_v2_035"], workspace) is None


def test_the_file_of_outlines_is_what_its_script_writes() -> None:
    file = Path(outline.__file__).with_name("outlines.json")
    assert file.read_text(encoding="utf-8") == outline.shipped_json(outline.shipped())
    for name, each in outline.shipped().items():
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
