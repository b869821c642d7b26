"""The rules that keep the tree a house, checked over its syntax trees and its commands."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from launch.cli import COMMANDS

ROOT = Path(__file__).parent.parent
ROOMS = ("configs", "data_process", "pipelines", "models", "engine", "launch")  # a room imports those before it
FORBIDDEN_NAMES = {"utils", "util", "misc", "helpers", "helper", "common"}


def modules(*rooms):
    """Path from the root to syntax tree of every module in the rooms."""
    paths = sorted(path for room in rooms for path in (ROOT / room).rglob("*.py"))
    return {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in paths}


def imported(path, tree, *, at_start=False):
    """Full dotted names that a module imports; with `at_start` only those that run when it is imported."""
    package = path.removesuffix(".py").removesuffix("/__init__").split("/")
    package = package if path.endswith("__init__.py") else package[:-1]
    names = set()
    for node in running_at_import(tree) if at_start else ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*start, *([node.module] if node.module else [])])
            names |= {f"{source}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) == "import_module":
            names |= {word.value for word in node.args[:1] if isinstance(word, ast.Constant)}
    return names


def running_at_import(tree):
    """Statements that run when a module is imported: neither in a function nor under TYPE_CHECKING."""
    waiting = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
            continue
        yield node
        waiting += ast.iter_child_nodes(node)


def is_in(name, package):
    return name == package or name.startswith(f"{package}.")


def upward_imports(trees):
    found = []
    for path, tree in trees.items():
        above = ROOMS[ROOMS.index(path.split("/")[0]) + 1 :]
        found += [f"{path}: {name}" for name in imported(path, tree) if name.split(".")[0] in above]
    return found


def wrong_models_imports(trees):
    rooms = ("pipelines.plan", "pipelines.draw", "pipelines.batch")
    return [
        f"{path}: {name}"
        for path, tree in trees.items()
        for name in imported(path, tree)
        if is_in(name, "pipelines") and not any(is_in(name, room) for room in rooms)
    ]


def sibling_imports(trees, folder):
    """Imports between files of a folder, other than of files with a leading underscore."""
    package = folder.replace("/", ".")
    return [
        f"{path}: {name}"
        for path, tree in trees.items()
        if path.startswith(f"{folder}/") and not path.endswith("__init__.py")
        for name in imported(path, tree)
        if is_in(name, package) and not name.removeprefix(f"{package}.").startswith("_")
    ]


# Imports.


def test_imports_go_downwards_only():
    assert upward_imports(modules(*ROOMS)) == []


def test_nothing_stands_on_the_benchmarks():
    # The bench command starts one by its name, when it is asked for.
    for path, tree in modules(*ROOMS).items():
        assert [name for name in imported(path, tree) if is_in(name, "benchmarks")] == [], path


def test_models_import_only_plans_draws_and_batches_of_the_pipelines():
    assert wrong_models_imports(modules("models")) == []


DOORS = {
    "lmdb": "data_process/",
    "msgpack": "data_process/",
    "decord": "data_process/",
    "ffmpeg": "data_process/",
    "imageio_ffmpeg": "data_process/",
    "cv2": "data_process/optical_flow.py",
    "safetensors": "models/weights/",
    "nvidia.dali": "pipelines/dali.py",
    "submitit": "launch/submit.py",
    "apex": "engine/optim.py",
    "sklearn": "engine/embedding.py",
    "wandb": "engine/boards.py",
}


@pytest.mark.parametrize("package", DOORS)
def test_an_outside_package_has_one_door(package):
    users = [path for path, tree in modules(*ROOMS).items() if any(is_in(n, package) for n in imported(path, tree))]
    assert [path for path in users if not path.startswith(DOORS[package])] == []


@pytest.mark.parametrize("package", DOORS)
def test_an_outside_package_is_imported_where_it_is_used(package):
    early = [
        path
        for path, tree in modules(*ROOMS).items()
        if any(is_in(name, package) for name in imported(path, tree, at_start=True))
    ]
    assert early == []


@pytest.mark.parametrize("name", ["plan", "draw", "order"])
def test_plans_draws_and_order_import_numpy_and_nothing_heavier(name):
    own = {"numpy", "pipelines", "data_process"}
    files = [path for path in modules("pipelines") if path == f"pipelines/{name}.py" or f"/{name}/" in path]
    assert files
    for path in files:
        roots = {imported_name.split(".")[0] for imported_name in imported(path, modules("pipelines")[path])}
        assert roots - own <= sys.stdlib_module_names
    loaded = loaded_modules(f"import pipelines.{name}")
    assert "numpy" in loaded
    assert not loaded & {"torch", "PIL", "simplejpeg", "lmdb", "msgpack", "scipy", "nvidia"}


@pytest.mark.parametrize("folder", ["models/methods", "models/backbones"])
def test_methods_and_backbones_do_not_import_their_neighbours(folder):
    assert sibling_imports(modules("models"), folder) == []


def test_the_engine_knows_no_method_by_name():
    methods = {Path(path).stem for path in modules("models/methods")} - {"__init__"}
    for path, tree in modules("engine").items():
        assert not any(is_in(name, "models.methods") for name in imported(path, tree)), path
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert node.value.lower() not in methods, f"{path}:{node.lineno} names the method {node.value!r}"


# The checks above find what they look for.


def trees(**sources):
    return {path.replace("__", "/") + ".py": ast.parse(source) for path, source in sources.items()}


def test_an_upward_import_would_be_found_out():
    wrong = trees(models__heads="def late():\n    from engine import optim", pipelines__loader="import models.method")
    assert len(upward_imports(wrong)) == 2
    assert upward_imports(trees(engine__loop="import models.method, pipelines.plan")) == []


def test_a_wrong_import_of_the_models_would_be_found_out():
    wrong = trees(models__heads="from pipelines import loader\nfrom pipelines.plan import Box")
    assert wrong_models_imports(wrong) == ["models/heads.py: pipelines.loader"]


def test_a_neighbour_would_be_found_out():
    wrong = {
        "models/methods/one.py": ast.parse("from models.methods import two\nfrom models.methods._banks import Bank"),
        "models/methods/three.py": ast.parse("from .two import Two"),
    }
    assert len(sibling_imports(wrong, "models/methods")) == 2


def test_an_early_import_would_be_found_out():
    source = "import lmdb\nif TYPE_CHECKING:\n    import submitit\n"
    source += "def late():\n    import msgpack\nclass A:\n    import apex\n"
    assert imported("engine/x.py", ast.parse(source), at_start=True) == {"lmdb", "apex"}


# Code.


@pytest.mark.parametrize("room", ROOMS)
def test_no_error_is_swallowed_unnamed(room):
    for path, tree in modules(room).items():
        for node in ast.walk(tree):
            assert not (isinstance(node, ast.ExceptHandler) and node.type is None), f"{path}:{node.lineno}: bare except"


@pytest.mark.parametrize("room", ROOMS)
def test_no_global_generator_is_used(room):
    drawn = re.compile(
        r"(np|numpy)\.random\.(?!Generator|Philox|SeedSequence|default_rng|BitGenerator)\w+"
        r"|random\.(seed|random|randint|choice|shuffle|sample|uniform)"
    )
    for path, tree in modules(room).items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                assert not drawn.fullmatch(name), f"{path}:{node.lineno}: {name}"


def test_a_file_is_named_after_what_it_defines():
    paths = [path for path in tracked_files() if path.suffix == ".py"]
    assert len(paths) > 20
    named = {part.removesuffix(".py") for path in paths for part in path.parts}
    assert named & FORBIDDEN_NAMES == set()
    assert [path for path in paths if re.search(r"^new_|_v\d+\.py$", path.name)] == []


# Files.


def tracked_files():
    """Files of the repository, from its root; what git does not ignore, or everything in an unpacked archive."""
    if (ROOT / ".git").exists():
        command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        return [Path(line) for line in listed.splitlines() if (ROOT / line).is_file()]
    rooms = [*ROOMS, "tests", "docs", "benchmarks"]
    return [path.relative_to(ROOT) for room in rooms for path in (ROOT / room).rglob("*.*") if path.is_file()]


def test_no_file_is_larger_than_a_megabyte():
    assert [path for path in tracked_files() if (ROOT / path).stat().st_size > 2**20] == []


def test_no_file_names_a_place_on_one_machine():
    # Temporary folders of a system are everyone's; homes, mounts and work folders are not.
    place = re.compile(r"(?<![\w.:/])/(home|root|Users|work|mnt|scratch|opt|data)/\w")
    found = []
    for path in tracked_files():
        if path.suffix in {".npz", ".png", ".jpg", ".mp4", ".lmdb"} or path == Path(__file__).relative_to(ROOT):
            continue
        text = (ROOT / path).read_text(encoding="utf-8")
        found += [f"{path}: {match[0]}" for match in place.finditer(text)]
    assert found == []


# The command.


def loaded_modules(statement):
    """Top-level packages that a fresh interpreter has loaded after a statement, from the root of the repository."""
    code = f"import sys\n{statement}\nprint(*{{name.split('.')[0] for name in sys.modules}}, file=sys.stderr)"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(ran.stderr.split())


HEAVY = {
    "torch",
    "numpy",
    "lmdb",
    "msgpack",
    "nvidia",
    "jsonargparse",
    "submitit",
    "PIL",
    "ffmpeg",
    "rich",
    "yaml",
    "safetensors",
}


def test_help_loads_nothing_heavy():
    loaded = loaded_modules("from launch.cli import main\nmain(['--help'])")
    assert "launch" in loaded
    assert loaded & HEAVY == set()


def test_help_names_every_command_and_has_an_example(capsys):
    from launch.cli import main

    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert [name for name in COMMANDS if not re.search(rf"^  {name} ", text, re.MULTILINE)] == []
    assert "example" in text


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_has_an_example(name):
    ran = subprocess.run(
        [sys.executable, "-m", "launch", name, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stderr
    assert "example:" in ran.stdout
    assert f"intravid {name}" in ran.stdout


def test_every_command_module_is_listed():
    files = {path.stem for path in (ROOT / "launch" / "commands").glob("*.py")} - {"__init__"}
    assert {name for name in files if not name.startswith("_")} <= {name.replace("-", "_") for name in COMMANDS}
