"""Turn an exception that left a command into one line and an exit code.

What is expected to go wrong for a person at a keyboard stands here; everything else keeps its traceback, since somebody
will have to read it.
"""

import tomllib

from cli import exits
from cli.output import say


def report(error: Exception) -> int | None:
    """Say what went wrong and return the exit code; None: this is no expected failure."""
    for judge in (_config, _database, _outside, _file):
        found = judge(error)
        if found is not None:
            code, text = found
            say(f"paylinks: {text}")
            return code
    return None


def _config(error: Exception) -> tuple[int, str] | None:
    from pydantic_settings import SettingsError as SourceError

    from db.sealing import SealBroken
    from runtime.settings import SettingsError, config_file

    if isinstance(error, SettingsError):
        return exits.CONFIG, f"{error}\nSettings come from {config_file()} and PAYLINKS_... variables."
    if isinstance(error, tomllib.TOMLDecodeError):
        return exits.CONFIG, f"{config_file()} is not TOML: {error}"
    if isinstance(error, SourceError):
        return exits.CONFIG, f"{error}: it must be JSON where it comes from the environment"
    if isinstance(error, SealBroken):
        return exits.CONFIG, f"{error}: add the key that sealed them to data_keys"
    return None


def _database(error: Exception) -> tuple[int, str] | None:
    from db.database import Trouble, trouble_of
    from db.health import is_schema_missing
    from db.migrate import MigrationError

    if isinstance(error, MigrationError):
        return exits.FAILED, str(error)
    if is_schema_missing(error):
        return exits.FAILED, "the database lacks tables of ours: run `paylinks migrate`"
    match trouble_of(error):
        case Trouble.OUTAGE:
            return exits.UNREACHABLE, "the database does not answer: see database_url, and whether its server runs"
        case Trouble.BUSY:
            return exits.FAILED, "somebody else holds what this needs: try again in a moment"
        case Trouble.ERROR:
            # The statement's parameters may be personal: only the driver's own first line is shown.
            return exits.FAILED, f"the database refused: {str(getattr(error, 'orig', '')).splitlines()[:1]}"
    return None


def _outside(error: Exception) -> tuple[int, str] | None:
    from gateways.errors import GatewayError, Unavailable

    if isinstance(error, GatewayError):
        return (exits.UNREACHABLE if isinstance(error, Unavailable) else exits.FAILED), error.detail
    return None


def _file(error: Exception) -> tuple[int, str] | None:
    if isinstance(error, OSError) and error.filename:
        return exits.FAILED, f"{error.filename}: {error.strerror}"
    return None
