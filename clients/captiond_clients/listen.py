"""``captiond listen``: the captions of a running daemon in the terminal, or as JSON or subtitles."""

from __future__ import annotations

import click

from captiond_clients.client import listen
from captiond_clients.command_line import Format, printer, run, token_option, url_option
from captiond_clients.events import StreamClosed
from captiond_clients.listener import LONGEST_HISTORY
from captiond_clients.terminal import ticking


async def hear(url: str, stream: str, form: Format, history: int, token: str | None, *, once: bool) -> None:
    """Shows events until interrupted, or with ``once`` until a stream closes."""
    with printer(form, name_streams=stream == "*", place=url) as printed, ticking(printed.refresh):
        subscription = listen(
            url,
            stream=stream,
            events="final" if form in ("srt", "vtt") else "all",
            words=form != "text",
            timings=form == "json",
            history=history,
            token=token,
            on_trouble=printed.trouble,
        )
        async with subscription as events:
            async for event in events:
                printed.show(event)
                if once and isinstance(event, StreamClosed):
                    return


async def hear_mqtt(url: str, ca: str | None, base: str, node: str, stream: str, form: Format) -> None:
    """Shows what is published, until interrupted."""
    from captiond_clients.mqtt import each_event

    name_streams = stream == "*" or node == "+"
    with printer(form, name_streams=name_streams) as printed, ticking(printed.refresh):
        await each_event(
            printed.show,
            url,
            base=base,
            node=node,
            stream=stream,
            events="final" if form in ("srt", "vtt") else "all",
            ca=ca,
            on_trouble=printed.trouble,
            on_connected=lambda address: printed.connected(f"the MQTT broker {address}"),
        )


@click.command("listen")
@url_option
@click.option("--stream", default="*", show_default=True, help="Name of one stream, or * for all.")
@click.option(
    "--format", "form", type=click.Choice(["text", "json", "srt", "vtt"]), default="text", show_default=True
)
@click.option(
    "--history",
    type=click.IntRange(0, LONGEST_HISTORY),
    default=20,
    show_default=True,
    help="How many past captions come first.",
)
@click.option("--once", is_flag=True, help="End when a stream closes.")
@token_option
@click.option("--mqtt", is_flag=True, help="Listen through an MQTT broker, without --url.")
@click.option(
    "--mqtt-url",
    default="mqtt://127.0.0.1:1883",
    envvar="CAPTIOND_MQTT_URL",
    show_default=True,
    help="The broker: mqtt:// or mqtts://, with user:password@ where it asks for them.",
)
@click.option("--mqtt-ca", help="Certificates to trust with mqtts://, as a PEM file.")
@click.option("--base", default="captiond", show_default=True, help="Where topics begin (mqtt.base).")
@click.option("--node", default="+", show_default=True, help="Name of one node, or + for all (mqtt.node).")
def command(
    url: str,
    stream: str,
    form: Format,
    history: int,
    once: bool,
    token: str | None,
    mqtt: bool,
    mqtt_url: str,
    mqtt_ca: str | None,
    base: str,
    node: str,
) -> None:
    """Show the captions of a running daemon. Ends with Ctrl-C.

    With --format json each event is one line on standard output. Through MQTT there is no history.
    """
    if mqtt:
        if once:
            raise click.UsageError("--once needs a daemon: over MQTT nobody says that a stream closes.")
        run(hear_mqtt(mqtt_url, mqtt_ca, base, node, stream, form))
        return
    run(hear(url, stream, form, history, token, once=once))
