"""``acoupi services``: the units of systemd, for a sensor that starts with its board."""

from acoupi.cli import home
from acoupi.cli.checks import AsJson
from acoupi.cli.output import done, example, print_json, print_record
from acoupi.cli.table import group

__all__ = ["app"]

app = group("services")


def _run(name: str, said: str) -> None:
    """Call a function of `acoupi.system.services`, and say that it was done."""
    from acoupi.system import services

    getattr(services, name)(home.sensor().settings)
    done(said)


@app.command(epilog=example("acoupi services install"))
def install() -> None:
    """Put the units where systemd looks for them."""
    _run("install_services", "The services are installed. Next: acoupi services enable")


@app.command(epilog=example("acoupi services uninstall"))
def uninstall() -> None:
    """Take the units away again."""
    _run("uninstall_services", "The services are uninstalled.")


@app.command(epilog=example("acoupi services enable"))
def enable() -> None:
    """Start the sensor with the board from now on."""
    _run("enable_services", "The services start with the board.")


@app.command(epilog=example("acoupi services disable"))
def disable() -> None:
    """No longer start the sensor with the board."""
    _run("disable_services", "The services no longer start with the board.")


@app.command(epilog=example("acoupi services start"))
def start() -> None:
    """Start the services now."""
    _run("start_services", "The services run.")


@app.command(epilog=example("acoupi services stop"))
def stop() -> None:
    """Stop the services now."""
    _run("stop_services", "The services have stopped.")


@app.command(epilog=example("acoupi services status"))
def status(as_json: AsJson = False) -> None:
    """Show how the services are; also where there is no systemd."""
    from acoupi.system.services import status_services

    state = status_services(home.sensor().settings)
    if as_json:
        print_json(state)
    else:
        print_record(state.model_dump(exclude_none=True))
