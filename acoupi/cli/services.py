"""``acoupi services``: systemd units, which start the sensor with the board."""

from acoupi.cli import home
from acoupi.cli.checks import AsJson
from acoupi.cli.output import done, example, print_json, print_record
from acoupi.cli.table import group

__all__ = ["app"]

app = group("services")


def _run(name: str, said: str) -> None:
    """Call a function of `acoupi.system.services`, and report success."""
    from acoupi.system import services

    getattr(services, name)(home.sensor().settings)
    done(said)


@app.command(epilog=example("acoupi services install"))
def install() -> None:
    """Install the systemd units."""
    _run("install_services", "The services are installed. Next: acoupi services enable")


@app.command(epilog=example("acoupi services uninstall"))
def uninstall() -> None:
    """Remove the systemd units."""
    _run("uninstall_services", "The services are uninstalled.")


@app.command(epilog=example("acoupi services enable"))
def enable() -> None:
    """Start the sensor whenever the board starts."""
    _run("enable_services", "The services will start with the board.")


@app.command(epilog=example("acoupi services disable"))
def disable() -> None:
    """No longer start the sensor when the board starts."""
    _run("disable_services", "The services no longer start with the board.")


@app.command(epilog=example("acoupi services start"))
def start() -> None:
    """Start the services now."""
    _run("start_services", "The services are running.")


@app.command(epilog=example("acoupi services stop"))
def stop() -> None:
    """Stop the services now."""
    _run("stop_services", "The services have stopped.")


@app.command(epilog=example("acoupi services status"))
def status(as_json: AsJson = False) -> None:
    """Show the state of the units; also where there is no systemd."""
    from acoupi.system.services import status_services

    state = status_services(home.sensor().settings)
    if as_json:
        print_json(state)
    else:
        print_record(state.model_dump(exclude_none=True))
