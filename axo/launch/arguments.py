"""What the arguments of another launcher say about workers and nodes; see LAUNCHERS."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import yaml

from axo.errors import LaunchError
from axo.plan.cluster import Cluster
from axo.registry.registry import did_you_mean

NAMES = ("torchrun", "deepspeed", "accelerate", "python")


@dataclass(frozen=True)
class Arguments:
    """Of a launcher: as they were given, without those that axo says itself."""

    launcher: str
    words: tuple[str, ...]
    cluster: Cluster

    @property
    def named(self) -> dict[str, str]:
        return {option.name: option.value for option in _options(self.launcher, self.words)}


@dataclass(frozen=True)
class _Option:
    name: str
    """Without dashes in front; with `_` for every other one."""
    value: str
    words: tuple[str, ...]


def check_name(name: str) -> str:
    """Raises LaunchError for what is no launcher."""
    if name not in NAMES:
        near = did_you_mean(name, NAMES)
        raise LaunchError(f"--launcher is {name!r}, expected {', '.join(NAMES)}", near or "or leave it out")
    return name


def read_arguments(launcher: str, words: Sequence[str]) -> Arguments:
    """Raises LaunchError for what axo cannot plan with, or says itself."""
    return _READERS[check_name(launcher)](tuple(words))


def _torchrun(words: tuple[str, ...]) -> Arguments:
    named = _named("torchrun", words)
    _refuse("torchrun", named, {"no_python": _MODULE, "run_path": _MODULE})
    workers = named.get("nproc_per_node")
    if workers in ("auto", "gpu"):  # what the Plan finds
        words, workers = _without("torchrun", words, "nproc_per_node"), None
    if ":" in named.get("nnodes", ""):
        raise LaunchError(
            f"torchrun's --nnodes is {named['nnodes']}, a range; the steps of a run are planned for one number of nodes"
        )
    cluster = Cluster(
        num_nodes=_number("torchrun", named, "nnodes") or 1,
        workers_a_node=None if workers is None else _number("torchrun", named, "nproc_per_node"),
        found_in="--launcher torchrun",
    )
    return Arguments("torchrun", words, _on_node("torchrun", cluster, named, rank="node_rank"))


def _accelerate(words: tuple[str, ...]) -> Arguments:
    named = _named("accelerate", words)
    _refuse("accelerate", named, _WRAPS)
    if "config_file" in named:
        named = {**_configured(Path(named["config_file"])), **named}
    total, nodes = _number("accelerate", named, "num_processes"), _number("accelerate", named, "num_machines") or 1
    if total is not None and total % nodes:
        raise LaunchError(
            f"accelerate's --num_processes {total} is not divisible by --num_machines {nodes}",
            "--num_processes counts the workers of all machines, and each has as many",
        )
    workers = None if total is None else total // nodes
    cluster = Cluster(num_nodes=nodes, workers_a_node=workers, found_in="--launcher accelerate")
    return Arguments("accelerate", words, _on_node("accelerate", cluster, named, rank="machine_rank"))


def _deepspeed(words: tuple[str, ...]) -> Arguments:
    named = _named("deepspeed", words)
    _refuse("deepspeed", named, {"no_python": _MODULE, "autotuning": "axo does not run DeepSpeed's autotuner"})
    several = [name for name in ("hostfile", "H", "force_multi", "no_ssh") if name in named]
    if several or (_number("deepspeed", named, "num_nodes") or 1) > 1:
        raise LaunchError(
            f"--launcher deepspeed starts workers on one node, and --{(several or ['num_nodes'])[0]} is for several",
            "axo prepares data on every node: run `axo train RECIPE --nnodes N --node-rank I --rdzv-endpoint HOST:PORT`"
            " on each, without a launcher; the recipe's `deepspeed` works the same",
        )
    include = named.get("include") or named.get("i")
    if include is not None:
        workers = len(include.partition(":")[2].split(",")) if ":" in include else None
    else:
        workers = _number("deepspeed", named, "num_gpus") or _number("deepspeed", named, "num_accelerators")
    return Arguments("deepspeed", words, Cluster(workers_a_node=workers, found_in="--launcher deepspeed"))


def _python(words: tuple[str, ...]) -> Arguments:
    if words:
        raise LaunchError(
            f"--launcher python takes no arguments, found {' '.join(words)}", "it runs one worker in this process"
        )
    return Arguments("python", (), Cluster(workers_a_node=1, found_in="--launcher python"))


_READERS: Mapping[str, Callable[[tuple[str, ...]], Arguments]] = {
    "torchrun": _torchrun,
    "deepspeed": _deepspeed,
    "accelerate": _accelerate,
    "python": _python,
}
_MODULE = "axo says itself what the launcher runs"
_ENGINE = "the recipe says it: write fsdp_config or deepspeed there; axo takes nothing but processes from accelerate"
_WRAPS = {
    "use_fsdp": _ENGINE,
    "use_deepspeed": _ENGINE,
    "use_megatron_lm": "axo has no such engine",
    "use_parallelism_config": "the recipe says it: dp_shard_size, dp_replicate_size",
    "mixed_precision": "the recipe says it: bf16, fp16",
    "dynamo_backend": "the recipe says it: torch_compile",
    "gradient_accumulation_steps": "the recipe says it: gradient_accumulation_steps",
    "deepspeed_config_file": "the recipe says it: deepspeed",
    "tpu": "axo does not train on TPUs",
    "cpu": "axo trains on the CPU where it sees no GPU (CUDA_VISIBLE_DEVICES= hides them); "
    "with --cpu accelerate starts one process",
    "no_python": _MODULE,
}
_CONFIGURED = ("num_processes", "num_machines", "machine_rank", "main_process_ip", "main_process_port", "rdzv_backend")


def _configured(path: Path) -> dict[str, str]:
    """What of accelerate's own file says how many processes there are. LaunchError where it asks for an engine."""
    try:
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise LaunchError(f"accelerate's --config_file {path} cannot be read: {error}") from error
    mapping = cast("dict[str, Any]", content) if isinstance(content, dict) else {}
    kind = str(mapping.get("distributed_type", "NO"))
    if kind in ("DEEPSPEED", "FSDP", "MEGATRON_LM", "XLA", "TPU"):
        raise LaunchError(f"accelerate's --config_file {path} says distributed_type: {kind}", _ENGINE)
    return {name: str(mapping[name]) for name in _CONFIGURED if mapping.get(name) is not None}


def _on_node(launcher: str, cluster: Cluster, named: Mapping[str, str], *, rank: str) -> Cluster:
    """Which node this is: axo must know, for the first one alone writes output_dir."""
    if cluster.num_nodes == 1:
        return cluster
    if named.get("rdzv_backend", "static") != "static":
        raise LaunchError(
            f"{launcher}'s --rdzv_backend {named['rdzv_backend']} numbers the nodes as they come, and axo must know "
            "which one is the first: it alone writes output_dir",
            f"leave --rdzv_backend out and give --{rank} on each node; or use no launcher: `axo train RECIPE "
            "--nnodes N --node-rank I --rdzv-endpoint HOST:PORT`",
        )
    number = _number(launcher, named, rank, least=0)
    if number is None or number >= cluster.num_nodes:
        raise LaunchError(
            f"{launcher} has {cluster.num_nodes} nodes, and --{rank} is {'not given' if number is None else number}",
            f"give --{rank} 0 to {cluster.num_nodes - 1}, another one on each node",
        )
    return replace(cluster, node_rank=number)


def _named(launcher: str, words: tuple[str, ...]) -> dict[str, str]:
    return {option.name: option.value for option in _options(launcher, words)}


def _options(launcher: str, words: Sequence[str]) -> Iterator[_Option]:
    """`--name value`, `--name=value`, `--flag`, with - or _ inside the name."""
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-") or word in ("-m", "--module"):
            message = f"{launcher} is given {word}, which says what to run"
            raise LaunchError(message, f"{_MODULE}: give only its options behind --")
        name, equals, value = word.lstrip("-").partition("=")
        taken = (word,)
        if not equals and rest and not rest[0].startswith("-"):
            value = rest.pop(0)
            taken = (word, value)
        yield _Option(name.replace("-", "_"), value, taken)


def _without(launcher: str, words: Sequence[str], name: str) -> tuple[str, ...]:
    return tuple(word for option in _options(launcher, words) if option.name != name for word in option.words)


def _refuse(launcher: str, named: Mapping[str, str], reasons: Mapping[str, str]) -> None:
    for name in named:
        if name in reasons:
            raise LaunchError(f"--launcher {launcher} is given --{name}", reasons[name])


def _number(launcher: str, named: Mapping[str, str], name: str, *, least: int = 1) -> int | None:
    text = named.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()) or int(text) < least:
        raise LaunchError(f"{launcher}'s --{name} is {text!r}, expected a whole number, {least} or more")
    return int(text)
