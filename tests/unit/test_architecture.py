"""The shape of the code: layers, light imports, where the environment is touched, and other rules that reviews forget.

Each check takes `{module name: source text}` and returns its findings as `module:line: what`. It is run on axo itself,
where it must find nothing, and on a bad example, where it must find the fault.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

LAYERS = (
    ("__main__",),
    ("cli",),
    ("workflows",),
    ("train", "launch", "infer", "export", "report"),
    ("engines",),
    ("model", "adapters", "data", "objectives", "optim"),
    ("plan",),
    ("recipe",),
    ("registry", "errors", "log", "types", "compat"),
)
"""Top to bottom; imports only point down, and packages of one layer never import each other."""
BASE = len(LAYERS) - 1
"""The one layer whose members may import each other (never in a cycle)."""

HEAVY = {
    "accelerate", "bitsandbytes", "datasets", "deepspeed", "numpy", "pandas", "peft", "pyarrow", "safetensors",
    "tokenizers", "torch", "transformers",
}  # fmt: skip
LIGHT = ("axo.cli", "axo.errors", "axo.log", "axo.plan", "axo.recipe", "axo.registry", "axo.types")
"""What `--help`, `validate` and `explain` import: nothing heavy may come with it."""
OPTIONAL = {"bitsandbytes", "deepspeed"}
"""Heavy libraries that come with an extra: imported inside a function, where a run needs them."""
LAZY = (*LIGHT, "axo.__main__", "axo.workflows", "axo.launch", "axo.train.worker", "axo.train.trackers", "axo.data")
"""Where a heavy library may be imported inside a function. axo.data: `preprocess` starts without torch, and `datasets`
is for hub names only; trackers: their packages are optional."""
ORACLES = {"accelerate", "trl"}
"""Frameworks with a loop of their own: axo is compared with them in tests and never runs on them."""

READS_ENVIRONMENT = ("axo.launch", "axo.plan.cluster", "axo.plan.facts", "axo.plan.hub_cache", "axo.train.worker")
WRITES_ENVIRONMENT = ("axo.launch", "axo.data.processes")
SEES_WHOLE_RECIPE = ("axo.cli", "axo.workflows", "axo.recipe", "axo.plan", "axo.train.run")
PICKLES = {"cloudpickle", "dill", "joblib", "pickle"}
READS_PICKLES = ("axo.engines.deepspeed",)
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "manager", "handler"}

Sources = Mapping[str, str]
Check = Callable[[Sources], list[str]]


@dataclass(frozen=True)
class Import:
    """One name of one import statement."""

    module: str
    """Dotted module that is imported; `from axo.data import pack` gives axo.data.pack where that is a module."""
    names: tuple[str, ...]
    line: int
    at_start: bool
    """Executed when the importing module is; neither inside a function nor under TYPE_CHECKING."""


def layers(sources: Sources) -> list[str]:
    """Imports that point up or to a sibling, and packages without a layer."""
    found = [f"{name}:1: {part!r} has no layer" for name in sources if (part := _part(name)) and _layer(part) is None]
    for name, item in _axo_imports(sources):
        own, other = _part(name), _part(item.module)
        if not own or not other or own == other:
            continue
        upper, lower = _layer(own), _layer(other)
        if upper is None or lower is None or lower > upper or lower == upper == BASE:
            continue
        found.append(
            f"{name}:{item.line}: imports {item.module}, which is {'beside' if lower == upper else 'above'} it"
        )
    return found


def cycles(sources: Sources) -> list[str]:
    """Modules that import each other in a ring, counting imports inside functions too."""
    graph: dict[str, set[str]] = {name: set() for name in sources}
    for name, item in _axo_imports(sources):
        graph[name].add(item.module)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        ring = error.args[1]
        return [f"{ring[0]}:1: import cycle {' <- '.join(ring)}"]
    return []


def light_imports(sources: Sources) -> list[str]:
    """Heavy libraries that come with a light module, directly or through what it imports at its top."""
    starting = {name: [item for item in _imports(text, sources) if item.at_start] for name, text in sources.items()}
    found: list[str] = []
    for name in sources:
        if not _under(name, LIGHT):
            continue
        for reached in _reach(name, starting):
            heavy = [item for item in starting[reached] if _top(item.module) in HEAVY]
            found += [f"{name}:{item.line}: comes with {item.module} (imported by {reached})" for item in heavy]
    return found


def lazy_imports(sources: Sources) -> list[str]:
    """Heavy libraries imported inside a function where the module's top is the place."""
    return [
        f"{name}:{item.line}: imports {item.module} inside a function"
        for name, text in sources.items()
        if not _under(name, LAZY)
        for item in _imports(text, sources)
        if not item.at_start and _top(item.module) in HEAVY - OPTIONAL and not _for_types(text, item)
    ]


def oracles(sources: Sources) -> list[str]:
    """Imports of training frameworks."""
    found: list[str] = []
    for name, text in sources.items():
        for item in _imports(text, sources):
            trainer = _top(item.module) == "transformers" and any(part.endswith("Trainer") for part in item.names)
            if trainer or _top(item.module) in ORACLES:
                found.append(f"{name}:{item.line}: imports {item.module}, which is for tests only")
    return found


def environment(sources: Sources) -> list[str]:
    """os.environ outside of the few modules that read or write it."""
    found: list[str] = []
    for name, text in sources.items():
        tree = _tree(text)
        writes = _environment_writes(tree)
        for node in ast.walk(tree):
            if not _is_environment(node):
                continue
            allowed = WRITES_ENVIRONMENT if node in writes else READS_ENVIRONMENT
            if not _under(name, allowed):
                found.append(f"{name}:{node.lineno}: {'writes' if node in writes else 'reads'} the environment")
    return found


def whole_recipe(sources: Sources) -> list[str]:
    """Imports of `Recipe` where a section is enough."""
    return [
        f"{name}:{item.line}: imports the whole Recipe"
        for name, item in _axo_imports(sources, with_types=True)
        if item.module == "axo.recipe.recipe" and not _under(name, SEES_WHOLE_RECIPE)
    ]


def global_statements(sources: Sources) -> list[str]:
    return [f"{name}:{node.lineno}: global" for name, node in _nodes(sources) if isinstance(node, ast.Global)]


def docstrings(sources: Sources) -> list[str]:
    """Modules that do not say what they are for."""
    return [f"{name}:1: no docstring" for name, text in sources.items() if not ast.get_docstring(_tree(text))]


def names(sources: Sources) -> list[str]:
    """Files whose name says nothing."""
    return [f"{name}:1: a vague name" for name in sources if name.split(".")[-1].lower() in VAGUE_NAMES]


def pickles(sources: Sources) -> list[str]:
    """Pickle in any of its forms: what axo writes and reads itself is safetensors and JSON."""
    found = [
        f"{name}:{item.line}: imports {item.module}"
        for name, text in sources.items()
        for item in _imports(text, sources)
        if _top(item.module) in {"pickle", "cPickle", "dill", "cloudpickle", "joblib"}
        and not _under(name, READS_PICKLES)
    ]
    for name, node in _nodes(sources):
        if isinstance(node, ast.Attribute) and ast.unparse(node) in {"torch.save", "torch.load"}:
            found.append(f"{name}:{node.lineno}: {ast.unparse(node)}")
    return found


MACHINE_PATH = re.compile(r"""(?<![\w.}>)])/(?:work|tmp|home|root|Users|mnt|scratch)/\w""")


def machine_paths(sources: Sources) -> list[str]:
    """Absolute paths of somebody's machine."""
    return [
        f"{name}:{number}: {line.strip()}"
        for name, text in sources.items()
        for number, line in enumerate(text.splitlines(), 1)
        if MACHINE_PATH.search(line)
    ]


# How sources are read.


def axo_sources() -> dict[str, str]:
    """Every module of axo: dotted name -> text."""
    return {_module_name(path): path.read_text(encoding="utf-8") for path in sorted((ROOT / "axo").rglob("*.py"))}


def project_texts() -> dict[str, str]:
    """Every text file that git would carry, by its path."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    paths = [ROOT / line for line in listed.stdout.splitlines() if not line.endswith((".jsonl", ".safetensors"))]
    return {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in paths if path.is_file()}


def _module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(text: str, sources: Sources) -> Iterator[Import]:
    tree = _tree(text)
    at_start = _start_statements(tree.body)
    start_lines = {node.lineno for node in at_start}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, (alias.name,), node.lineno, node.lineno in start_lines)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            for alias in node.names:
                inner = f"{module}.{alias.name}"
                target = inner if inner in sources else module
                yield Import(target, (alias.name,), node.lineno, node.lineno in start_lines)


def _start_statements(body: list[ast.stmt]) -> list[ast.stmt]:
    """Statements that run when the module is imported."""
    found: list[ast.stmt] = []
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or _is_type_checking(node):
            continue
        found.append(node)
        for field in ("body", "orelse", "finalbody", "handlers"):
            inner = getattr(node, field, [])
            for part in inner:
                found += _start_statements(part.body if isinstance(part, ast.ExceptHandler) else [part])
    return found


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}


def _for_types(text: str, item: Import) -> bool:
    """Whether the import stands under `if TYPE_CHECKING`."""
    return any(begin <= item.line <= end for begin, end in _type_checking_lines(text))


@cache
def _type_checking_lines(text: str) -> list[tuple[int, int]]:
    """First and last line of each block under `if TYPE_CHECKING`."""
    return [(node.lineno, node.end_lineno or 0) for node in ast.walk(_tree(text)) if _is_type_checking(node)]  # type: ignore[attr-defined]


@cache
def _tree(text: str) -> ast.Module:
    return ast.parse(text)


def _axo_imports(sources: Sources, *, with_types: bool = False) -> Iterator[tuple[str, Import]]:
    for name, text in sources.items():
        for item in _imports(text, sources):
            if _top(item.module) == "axo" and (with_types or not _for_types(text, item)):
                yield name, item


def _reach(name: str, starting: Mapping[str, list[Import]]) -> list[str]:
    """`name` and every axo module that is imported with it, packages included."""
    reached: list[str] = []
    waiting = [name]
    while waiting:
        module = waiting.pop()
        if module in reached or module not in starting:
            continue
        reached.append(module)
        waiting += [item.module for item in starting[module]]
        waiting.append(module.rpartition(".")[0])
    return reached


def _is_environment(node: ast.AST) -> bool:
    """`os.environ`, `os.getenv` and their like; from-imports of them too."""
    words = {"environ", "environb", "getenv", "putenv", "unsetenv"}
    if isinstance(node, ast.ImportFrom):
        return node.module == "os" and any(alias.name in words for alias in node.names)
    return isinstance(node, ast.Attribute) and node.attr in words and ast.unparse(node.value) == "os"


def _environment_writes(tree: ast.AST) -> set[ast.AST]:
    """The `os.environ` nodes whose use changes the environment."""
    changed: set[ast.AST] = set()
    for node in ast.walk(tree):
        stored = isinstance(getattr(node, "ctx", None), ast.Store | ast.Del)
        if isinstance(node, ast.Subscript) and stored:
            changed.add(node.value)
        if isinstance(node, ast.Attribute):
            if node.attr in {"update", "setdefault", "pop", "clear", "popitem"}:
                changed.add(node.value)
            if node.attr in {"putenv", "unsetenv"} or stored:
                changed.add(node)
    return {node for node in changed if _is_environment(node)}


def _nodes(sources: Sources) -> Iterator[tuple[str, ast.AST]]:
    for name, text in sources.items():
        for node in ast.walk(_tree(text)):
            yield name, node


def _part(name: str) -> str:
    """`data` of axo.data.pack; empty for axo itself, which anybody may import."""
    return name.split(".")[1] if "." in name else ""


def _layer(part: str) -> int | None:
    return next((number for number, parts in enumerate(LAYERS) if part in parts), None)


def _top(module: str) -> str:
    return module.split(".")[0]


def _under(name: str, places: tuple[str, ...]) -> bool:
    return any(name == place or name.startswith(place + ".") for place in places)


# axo keeps the rules.

CODE_CHECKS: tuple[Check, ...] = (
    layers, cycles, light_imports, lazy_imports, oracles, environment, whole_recipe, global_statements, docstrings,
    names, pickles,
)  # fmt: skip


@pytest.mark.parametrize("check", CODE_CHECKS, ids=lambda check: check.__name__)
def test_axo_keeps(check: Check) -> None:
    assert check(axo_sources()) == []


def test_no_file_of_the_project_names_a_path_of_one_machine() -> None:
    assert machine_paths(project_texts()) == []


def test_every_file_of_axo_is_read() -> None:
    sources = axo_sources()
    assert {"axo", "axo.errors", "axo.registry.tables", "axo.recipe.recipe"} <= set(sources)


@pytest.mark.parametrize("module", ["axo.cli.main", "axo.plan.resolve", "axo.recipe.recipe", "axo.registry.tables"])
def test_a_light_module_leaves_heavy_libraries_out_of_the_process(module: str) -> None:
    program = f"import sys, {module}; print(*sorted({HEAVY!r} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert answer.stdout.strip() == ""


def test_help_leaves_heavy_libraries_out_of_the_process() -> None:
    program = (
        "import sys\nfrom axo.cli.main import main\nsys.argv = ['axo', '--help']\n"
        f"try:\n    main()\nfinally:\n    print('HEAVY', *sorted({HEAVY!r} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert answer.stdout.splitlines()[-1] == "HEAVY"
    assert "train" in answer.stdout


# Each check finds its fault.

BAD: list[tuple[Check, dict[str, str], str]] = [
    (layers, {"axo.data.pack": "import axo.train.loop", "axo.train.loop": ""}, "above"),
    (layers, {"axo.data.pack": "def f():\n    from axo.train.loop import x", "axo.train.loop": ""}, "above"),
    (layers, {"axo.data.pack": "from axo.model import load", "axo.model.load": ""}, "beside"),
    (layers, {"axo.train.run": "from axo.launch.local import start", "axo.launch.local": ""}, "beside"),
    (layers, {"axo.errors": "import axo.recipe.recipe", "axo.recipe.recipe": ""}, "above"),
    (layers, {"axo.extras.thing": ""}, "no layer"),
    (cycles, {"axo.data.a": "import axo.data.b", "axo.data.b": "from axo.data import a"}, "cycle"),
    (cycles, {"axo.data.a": "def f():\n    import axo.data.b", "axo.data.b": "import axo.data.a"}, "cycle"),
    (light_imports, {"axo.cli.main": "import torch.nn"}, "torch.nn"),
    (light_imports, {"axo.cli.main": "try:\n    import numpy\nexcept ImportError:\n    numpy = None"}, "numpy"),
    (light_imports, {"axo.cli.main": "class A:\n    import torch"}, "torch"),
    (
        light_imports,
        {"axo.cli.main": "from axo.workflows import train", "axo.workflows.train": "import torch"},
        "imported by axo.workflows.train",
    ),
    (
        light_imports,
        {"axo.cli.main": "import axo.workflows.x", "axo.workflows": "import torch", "axo.workflows.x": ""},
        "imported by axo.workflows",
    ),
    (lazy_imports, {"axo.train.loop": "def f():\n    import torch"}, "inside a function"),
    (oracles, {"axo.train.loop": "from transformers import Trainer"}, "tests only"),
    (oracles, {"axo.train.loop": "from trl import SFTConfig"}, "tests only"),
    (environment, {"axo.data.pack": "import os\nx = os.environ['A']"}, "reads"),
    (environment, {"axo.data.pack": "import os\nx = os.getenv('A')"}, "reads"),
    (environment, {"axo.data.pack": "from os import environ"}, "reads"),
    (environment, {"axo.plan.facts": "import os\nos.environ['A'] = '1'"}, "writes"),
    (environment, {"axo.plan.facts": "import os\nos.environ.setdefault('A', '1')"}, "writes"),
    (environment, {"axo.plan.facts": "import os\ndel os.environ['A']"}, "writes"),
    (environment, {"axo.plan.facts": "import os\nos.putenv('A', '1')"}, "writes"),
    (environment, {"axo.plan.facts": "import os\nos.environ |= {'A': '1'}"}, "writes"),
    (whole_recipe, {"axo.data.pack": "from axo.recipe.recipe import Recipe", "axo.recipe.recipe": ""}, "whole"),
    (
        whole_recipe,
        {
            "axo.data.pack": "if TYPE_CHECKING:\n    from axo.recipe.recipe import Recipe",
            "axo.recipe.recipe": "",
        },
        "whole",
    ),
    (global_statements, {"axo.log": "x = 1\ndef f():\n    global x\n    x = 2"}, "axo.log:3"),
    (docstrings, {"axo.log": "import sys"}, "no docstring"),
    (names, {"axo.data.utils": ""}, "vague"),
    (names, {"axo.data.helpers": ""}, "vague"),
    (pickles, {"axo.train.checkpoint": "import pickle"}, "pickle"),
    (pickles, {"axo.train.checkpoint": "import torch\ntorch.save({}, 'x')"}, "torch.save"),
    (machine_paths, {"README.md": "see " + "/wo" + "rk/thing"}, "README.md:1"),
    (machine_paths, {"a.py": "x = '" + "/ho" + "me/me/model'"}, "a.py:1"),
]  # fmt: skip


@pytest.mark.parametrize(("check", "sources", "expected"), BAD)
def test_a_check_finds_the_fault_of_a_bad_example(check: Check, sources: dict[str, str], expected: str) -> None:
    findings = check(sources)
    assert findings
    assert expected in findings[0]


GOOD: list[tuple[Check, dict[str, str]]] = [
    (layers, {"axo.train.loop": "import axo.data.pack\nimport axo", "axo.data.pack": "import axo.errors"}),
    (layers, {"axo.registry.tables": "import axo.errors", "axo.errors": "import sys"}),
    (cycles, {"axo.data.a": "if TYPE_CHECKING:\n    import axo.data.b", "axo.data.b": "import axo.data.a"}),
    (light_imports, {"axo.cli.main": "def f():\n    import torch\nif TYPE_CHECKING:\n    import numpy"}),
    (light_imports, {"axo.cli.main": "def f():\n    import axo.workflows.x", "axo.workflows.x": "import torch"}),
    (lazy_imports, {"axo.train.loop": "import torch", "axo.workflows.x": "def f():\n    import torch"}),
    (lazy_imports, {"axo.train.loop": "if TYPE_CHECKING:\n    import torch"}),
    (
        environment,
        {"axo.plan.facts": "import os\nx = dict(os.environ)", "axo.launch.local": "import os\nos.environ |= {}"},
    ),
    (whole_recipe, {"axo.plan.resolve": "from axo.recipe.recipe import Recipe", "axo.recipe.recipe": ""}),
    (machine_paths, {"a.py": "x = 'data/tmp/x' + './work/here' + 'https://host/home/x'"}),
]


@pytest.mark.parametrize(("check", "sources"), GOOD)
def test_a_check_finds_nothing_in_a_good_example(check: Check, sources: dict[str, str]) -> None:
    assert check(sources) == []
