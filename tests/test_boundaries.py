"""What may be imported where, looked at in fresh processes."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent
HEAVY = {"tensorflow", "keras", "sklearn", "scipy", "streamlit", "h5py"}
# Importing the core itself must cost nothing.
SLOW = HEAVY | {"numpy", "pandas", "PIL", "ai_edge_litert", "psutil", "filelock"}


def loaded_after(code: str) -> set[str]:
    """Runs code in a fresh process and returns the top-level modules it has loaded."""
    listing = "import sys; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{listing}"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


def imported_by(path: Path) -> set[str]:
    """Returns the modules of tlcore that a file names in its imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith("tlcore")}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tlcore"):
            found.add(str(node.module))
            for alias in node.names:
                below = PROJECT.joinpath(*str(node.module).split("."), f"{alias.name}.py")
                if below.is_file():
                    found.add(f"{node.module}.{alias.name}")
    return found


def all_modules() -> list[str]:
    paths = sorted((PROJECT / "tlcore").rglob("*.py"))
    names = [".".join(path.relative_to(PROJECT).with_suffix("").parts) for path in paths]
    return [name for name in names if not name.endswith(("__init__", "__main__"))]


def test_importing_the_core_loads_nothing_heavy() -> None:
    assert not loaded_after("import tlcore") & SLOW


def test_no_module_of_the_core_loads_what_trains_or_shows() -> None:
    code = "\n".join(f"import {name}" for name in all_modules())
    assert len(all_modules()) >= 25
    assert not loaded_after(code) & HEAVY


def test_the_command_line_starts_without_what_few_commands_need() -> None:
    assert not loaded_after("import tlcore.cli") & (HEAVY | {"pandas", "cv2", "ai_edge_litert"})


def test_what_pages_and_server_import_of_the_core_is_light() -> None:
    files = [PROJECT / "app.py", *(PROJECT / "pages").rglob("*.py")]
    names = set().union(*(imported_by(path) for path in files))
    assert "tlcore.runs" in names and "tlcore.supervisor" in names
    assert not loaded_after("\n".join(f"import {name}" for name in sorted(names))) & HEAVY


def test_naming_a_photo_needs_neither_tensorflow_nor_scikit_learn(trained, tmp_path) -> None:
    workspace = trained.run.workspace.root
    photo = next((workspace / "datasets" / trained.manifest.id / "files").rglob("*/*"))
    code = (
        "from pathlib import Path\n"
        "from tlcore.predict import Predictor, photos_of\n"
        "from tlcore.evaluate import load_evaluation\n"
        "from tlcore.workspace import Workspace\n"
        f"predictor = Predictor(Path({str(trained.run.bundle)!r}), Workspace(Path("
        f"{str(workspace)!r})))\n"
        f"(one,) = predictor.predict([('a', Path({str(photo)!r}))])\n"
        "assert one.label\n"
        f"assert load_evaluation(Path({str(trained.run.folder / 'evaluation.json')!r}))\n"
    )
    assert not loaded_after(code) & HEAVY


@pytest.mark.parametrize("folder", ["tlcore", "pages"])
def test_no_module_bears_the_name_of_another_one(folder: str) -> None:
    """`pages` is first on the path there, so a page called `random` would hide Python's own."""
    names = {path.stem for path in (PROJECT / folder).glob("*.py")} - {"__init__", "__main__"}
    if folder == "pages":
        assert not names & (set(sys.stdlib_module_names) | HEAVY | SLOW)
    else:
        assert not names & (HEAVY | SLOW)
