"""The rules of ARCHITECTURE.md: imports run down only, in no circle, and every room stays small."""

from __future__ import annotations

import ast
import functools
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# from the top down; those on one line do not import each other
LEVELS = {
    "shardify": (
        "__main__",
        "cli",
        "tools",
        "build",
        "kaggle sources audio faces image",
        "executors video format options",
        "storage",
        "one_line_errors",
        "errors machine terminal progress interrupt",
        "text",
    ),
    "trainer": (
        "__main__",
        "train evaluate predict export explain audit encode check_vae watch generate study",
        "tools",
        "final_report",
        "monitor saved_model",
        "run",
        "engine",
        "tasks",
        "models",
        "evaluation transforms devices",
        "data",
        "shards",
        "config",
        "errors torch_files",
    ),
}
OF_THE_BUILDER = {
    "format", "storage", "machine", "text", "errors", "one_line_errors", "options", "terminal", "progress", "interrupt",
}  # fmt: skip
FILES, FILES_OF_TRAINER, LINES, PARAMETERS = 12, 18, 300, 8


@functools.cache
def modules() -> dict[str, Path]:
    """Every module of the two packages by its dotted name."""
    found = {}
    for package in LEVELS:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
            found[name.removesuffix(".__init__")] = path
    return found


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(name: str, path: Path, known: dict[str, Path]) -> set[str]:
    """The modules of ours that one imports, wherever in the file, those for type checkers included."""
    found = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: imports are absolute"
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            found.update(module if module in known else node.module for module in whole)
    return {module for module in found if module in known} - {name}


def place(module: str) -> tuple[str, str, int]:
    """(package, room, its level, 0 is the top) of a module."""
    package, _, rest = module.partition(".")
    room = rest.partition(".")[0]
    levels = [names.split() for names in LEVELS[package]]
    if not room:  # the package itself, which gives out what it has on request
        return package, "", 0
    assert any(room in names for names in levels), f"{module}: {room} has no level; add it to ARCHITECTURE.md and here"
    return package, room, next(level for level, names in enumerate(levels) if room in names)


def complaint(module: str, imported: str) -> str | None:
    """What is wrong with one import, None where it keeps to the rules."""
    (package, room, level), (other, target, below) = place(module), place(imported)
    if package == "shardify" and other == "trainer":
        return "the builder does not import the trainer"
    if package == "trainer" and other == "shardify":
        ok = target in OF_THE_BUILDER or not target or module == "trainer.tools.raw_clips"
        return None if ok else f"the trainer imports of the builder only {', '.join(sorted(OF_THE_BUILDER))}"
    if room != target and target and level >= below:
        return "imports run down only"
    return None


@functools.cache
def edges() -> dict[str, set[str]]:
    known = modules()
    return {name: imports(name, path, known) for name, path in known.items()}


def test_imports_run_down_and_only_the_contract_is_shared():
    wrong = {(name, other) for name, others in edges().items() for other in others if complaint(name, other)}
    reasons = [f"{name} imports {other}: {complaint(name, other)}" for name, other in sorted(wrong)]
    assert not reasons, "\n".join(reasons)


def test_no_module_imports_itself_by_way_of_others():
    graphlib.TopologicalSorter(edges()).prepare()  # raises CycleError, which names the circle


@pytest.mark.parametrize(
    ("module", "imported", "words"),
    [
        ("shardify.video.decode", "shardify.build.plan", "down"),
        ("shardify.format.index", "shardify.video.decode", "down"),
        ("shardify.tools.doctor", "trainer.devices.gpu", "does not import the trainer"),
        ("trainer.data.loader", "shardify.video.decode", "only"),
        ("trainer.engine.engine", "trainer.run", "down"),
        ("trainer.config.load", "trainer.data.order", "down"),
        ("trainer.tools.raw_clips", "shardify.executors.local", None),
        ("trainer.engine.ema", "trainer.engine.optimizer", None),
        ("shardify.build.build", "shardify.format.index", None),
    ],
)
def test_the_rules_themselves(module, imported, words):
    said = complaint(module, imported)
    assert said is None if words is None else words in said


def test_the_contract_is_read_without_a_decoder_or_torch():
    rooms = [name for name in modules() if name.startswith(("shardify.format", "shardify.storage"))]
    code = f"import sys, {', '.join(rooms)}; print({{'av', 'torch'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (done.stdout, done.stderr) == ("set()\n", "")


def test_libraries_of_figures_and_pictures_are_loaded_where_they_are_used():
    """They take seconds, and predicting, exporting and a run's start need none of them."""
    slow = {"sklearn", "matplotlib", "scipy"}
    own = {name for name in modules() if name.startswith(("trainer.evaluation.plots", "trainer.tools.audit"))}
    for name, path in modules().items():
        at_once = parsed(path).body
        found = {alias.name for node in at_once if isinstance(node, ast.Import) for alias in node.names}
        for node in at_once:
            if isinstance(node, ast.ImportFrom):
                found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        if name not in own:
            assert not {module.partition(".")[0] for module in found} & slow, name
            assert not found & own, name


def test_rooms_and_files_are_small():
    files = list(modules().values())
    folders = {folder: [path for path in files if path.parent == folder] for folder in {path.parent for path in files}}
    for folder, inside in folders.items():
        inside = [path for path in inside if path.name != "__init__.py"]
        assert len(inside) <= (FILES_OF_TRAINER if folder == ROOT / "trainer" else FILES), folder
    for path in [*files, *(ROOT / "tests").rglob("*.py")]:
        assert len(path.read_text(encoding="utf-8").splitlines()) <= LINES, path


def test_what_travels_together_is_one_value():
    """No function takes more parameters than PARAMETERS, `self` and the like not counted."""
    found = set()
    for name, path in modules().items():
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                taken = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                if sum(parameter.arg not in ("self", "cls") for parameter in taken) > PARAMETERS:
                    found.add(f"{name}.{node.name}")
    assert not found
