"""``captiond models compile``: a model's graphs for this machine, before anybody waits for them.

Takes a model's name, gives a line for each graph. Exit code 78 where it cannot be compiled, proven or kept.
"""

from __future__ import annotations

from pathlib import Path

import click
from captiond_engine import models
from captiond_engine.errors import DeviceError
from captiond_engine.types import Precision
from captiond_engine.whisper.graph_store import GraphStore
from captiond_engine.whisper.loading import OwnGraph, choose_device, own_graphs
from captiond_engine.whisper.packed import PRECISIONS
from captiond_engine.whisper.weights import read_checkpoint

from captiond.cli import config_option, load, set_option
from captiond.progress import StartDisplay


@click.command("compile")
@click.argument("name", required=False)
@click.option(
    "--precision",
    "precisions",
    multiple=True,
    type=click.Choice(PRECISIONS),
    help="Of the decoder's weights on a CPU, as often as needed (model.precision).",
)
@click.option("--device", type=click.Choice(["auto", "cpu", "gpu"]), help="model.device")
@config_option
@set_option
def command(
    name: str | None,
    precisions: tuple[Precision, ...],
    device: str | None,
    config_path: Path | None,
    settings: tuple[str, ...],
) -> None:
    """Compile a model's graphs for this machine, check them, and keep them for every later start.

    A minute or two for a small model. What is there already is only checked. Without NAME: the model of the
    configuration.
    """
    config = load(config_path, name, settings)
    store = GraphStore()
    checkpoint = read_checkpoint(models.find(config.model.name))
    chosen = choose_device(device or config.model.device)
    for precision in precisions or (config.model.precision,):
        with StartDisplay() as display:
            graphs = own_graphs(checkpoint, chosen, precision=precision, store=store, progress=display)
        for graph in graphs:
            print(describe(graph, store), flush=True)


def describe(graph: OwnGraph, store: GraphStore) -> str:
    """One line about a graph. Raises DeviceError where it was not kept."""
    facts = graph.stored
    if facts is None:
        raise DeviceError(
            f"The {graph.kind} graph could not be kept in {store.folder}.",
            advice="Give this user the folder, or another one with CAPTIOND_CACHE_DIR.",
            code="graph_not_kept",
        )
    how = f"compiled in {facts.took_s:.0f} s" if graph.origin == "compiled" else "was there"
    return f"{graph.kind:16} {how:18} {facts.size_bytes / 1e6:6.1f} MB  {store.path(facts.key)}"
