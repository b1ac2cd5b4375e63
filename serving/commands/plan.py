"""`serving plan`: the GPUs that a model needs, before they are bought or booked."""

from __future__ import annotations

from typing import Annotated

import typer

from serving.errors import ServingError, SettingsError
from serving.planning.gpus import GPUS, Gpu
from serving.planning.models import ModelShape, known_models
from serving.planning.plan import MEMORY_UTILIZATION, Plan
from serving.planning.report import ADMIN_SECRET, engine, report, team_values, values, values_yaml
from serving.settings import keys


class DoesNotFitError(ServingError):
    """Error of a plan that cannot work; the message says why and what to change."""


def plan_command(
    model: Annotated[str, typer.Option(help="gpt-oss-20b or gpt-oss-120b.")] = "gpt-oss-20b",
    gpu: Annotated[str | None, typer.Option(metavar="NAME", help=f"One of {', '.join(GPUS)}.")] = None,
    memory: Annotated[
        float | None, typer.Option(metavar="GIB", min=1, help="Memory of a GPU that is not in the list, in GiB.")
    ] = None,
    bandwidth: Annotated[
        float | None, typer.Option(metavar="TB/S", min=0.001, help="Its memory's bandwidth, in 10^12 bytes a second.")
    ] = None,
    tflops: Annotated[
        float | None, typer.Option(metavar="TFLOPS", min=0.1, help="Its dense bfloat16 operations, in 10^12 a second.")
    ] = None,
    tensor_parallel_size: Annotated[int, typer.Option(metavar="N", min=1, help="GPUs that share each layer.")] = 1,
    pipeline_parallel_size: Annotated[int, typer.Option(metavar="N", min=1, help="Groups that share the layers.")] = 1,
    context: Annotated[
        int | None, typer.Option(metavar="TOKENS", min=256, help="Longest prompt and answer together. Unset: 32768.")
    ] = None,
    streams: Annotated[int, typer.Option(metavar="N", min=1, help="Answers at a time, from one engine.")] = 64,
    replicas: Annotated[int, typer.Option(metavar="N", min=1, help="Engines.")] = 1,
    utilization: Annotated[
        float, typer.Option(min=0.05, max=1, help="Part of a GPU's memory that vLLM takes.")
    ] = MEMORY_UTILIZATION,
    kv_cache: Annotated[str, typer.Option(metavar="TYPE", help="bf16 or fp8: how keys and values are kept.")] = "bf16",
    reserve: Annotated[
        float | None,
        typer.Option(metavar="GIB", min=0, help="What each GPU needs beside weights and KV cache, if you measured it."),
    ] = None,
    image: Annotated[
        str | None, typer.Option(metavar="REPOSITORY", help="Where your image lies, for the chart's values.")
    ] = None,
    team: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Make a key for this team, and the administrator's, and put their hashes in."
        ),
    ] = None,
    only_values: Annotated[
        bool, typer.Option("--values", help="Print nothing but the chart's values, to go into a file.")
    ] = False,
) -> None:
    """Say how a model fits on GPUs, how fast it can be at most, and what to give the Helm chart.

    Needs neither a GPU nor vLLM. Exit status 1 means that it does not fit.

    \b
    Examples:
      serving plan --model gpt-oss-20b --gpu l40s
      serving plan --model gpt-oss-120b --gpu h100 --tensor-parallel-size 2 --context 65536 --streams 128
      serving plan --model gpt-oss-120b --memory 96 --bandwidth 1.8 --tflops 500
      serving plan --model gpt-oss-120b --gpu h200 --replicas 4 --values > values.yaml
      serving plan --model gpt-oss-120b --gpu h100 --tensor-parallel-size 2 --team search \\
        --image registry.example.com/gpt-oss-serving --values > values.yaml
    """
    plan = Plan(
        model=_model(model),
        gpu=_gpu(gpu, memory, bandwidth, tflops),
        tensor_parallel=tensor_parallel_size,
        pipeline_parallel=pipeline_parallel_size,
        context=context or min(32_768, _model(model).context),
        streams=streams,
        utilization=utilization,
        kv_element_bytes=_element_bytes(kv_cache),
        reserve_gib=reserve,
    )
    problems = plan.problems()
    if not only_values:
        typer.echo("\n".join(report(plan, replicas)))
    if problems:
        raise DoesNotFitError("; ".join(problems) if only_values else "this does not fit; see above what to change")
    if not only_values:
        typer.echo("\n".join(["", *engine(plan, replicas)]))
        typer.echo("\nvalues.yaml for deploy/helm/gpt-oss-serving (`settings` alone is a settings file)\n")
    whole = {"image": {"repository": image}} if image else {}
    whole |= values(plan, replicas)
    if team is not None:
        whole |= team_values(team, _new_keys(team))
    typer.echo(values_yaml(whole), nl=False)


def _new_keys(team: str) -> dict[str, str]:
    """Make both keys and show them; returns what is stored of the team's."""
    key, admin = keys.new_key(), keys.new_key()
    typer.echo(
        f"The key of team {team}, shown this once:\n\n  {key.text}\n\n"
        "The administrator's key, with which Prometheus asks for metrics, belongs into a Secret:\n\n"
        f"  kubectl create secret generic {ADMIN_SECRET} --from-literal=admin-key={admin.text} \\\n"
        f"    --from-literal='admin-key-hash={admin.hashed(keys.new_salt())}'\n",
        err=True,
    )
    return {"id": key.id, "hash": str(key.hashed(keys.new_salt()))}


def _model(name: str) -> ModelShape:
    models = known_models()
    short = name.removeprefix("openai/")
    if short not in models:
        raise SettingsError([("--model", f"`{name}` is not known; there are {', '.join(models)}")])
    return models[short]


def _gpu(name: str | None, memory: float | None, bandwidth: float | None, tflops: float | None) -> Gpu:
    given = {"--memory": memory, "--bandwidth": bandwidth, "--tflops": tflops}
    if name is not None and any(value is not None for value in given.values()):
        raise SettingsError([("--gpu", "is a GPU of the list; leave out --memory, --bandwidth and --tflops, or it")])
    if name is not None:
        if name.lower() not in GPUS:
            raise SettingsError([("--gpu", f"`{name}` is not known; there are {', '.join(GPUS)}, or give --memory")])
        return GPUS[name.lower()]
    if memory is None or bandwidth is None or tflops is None:
        missing = ", ".join(flag for flag, value in given.items() if value is None)
        raise SettingsError([("--gpu", f"is missing: name one ({', '.join(GPUS)}), or give {missing}")])
    return Gpu("your GPU", memory, bandwidth, tflops)


def _element_bytes(kv_cache: str) -> int:
    sizes = {"bf16": 2, "fp8": 1}
    if kv_cache not in sizes:
        raise SettingsError([("--kv-cache", f"should be bf16 or fp8; got `{kv_cache}`")])
    return sizes[kv_cache]
