"""The settings file that `paylinks init` writes."""

import json
import os
import secrets
from pathlib import Path

from db.sealing import new_key

_TEXT = """\
# Settings of Paylinks. This file holds secrets: mode 0600, never in a repository.
# PAYLINKS_... variables and the folder PAYLINKS_SECRETS_DIR go before it.

database_url = {database_url}
public_base_url = "http://127.0.0.1:8080"   # what customers open; https in earnest

# Lose these and raw events stay unreadable, and every link that is out stops working: keep a copy apart from backups.
# Newest first; old ones stay as long as something was made with them.
data_keys = [{data_key}]

[[link_keys]]
id = "k1"
secret = {link_secret}

# How long raw bytes from outside are kept, encrypted, after their work has ended; left out: for ever.
[retention]
raw_events = "P90D"
rejected_bodies = "P90D"

# One table per account at a payment provider.
#
# [accounts.acme-bank]
# adapter = "sandbox"
# base_url = "http://127.0.0.1:8801/main"
# api_key = "..."
# webhook_secrets = ["..."]

# One table per CRM that sends invoices and gets results; the name is the `crm` of its messages.
#
# [crms.acme-crm]
# adapter = "sandbox"
# base_url = "http://127.0.0.1:8802"
# token = "..."

# Which account takes which currency; "*" is for the rest.
#
# [routing]
# "*" = "acme-bank"
"""


def write(path: Path, database_url: str = "") -> None:
    """Write the file with fresh secrets, readable by its owner only; raise FileExistsError instead of overwriting."""
    folder = path.absolute().parent
    folder.mkdir(parents=True, exist_ok=True)
    text = _TEXT.format(
        database_url=json.dumps(database_url or f"sqlite:///{folder / 'paylinks.db'}"),
        data_key=json.dumps(new_key()),
        link_secret=json.dumps(secrets.token_urlsafe(32)),
    )
    # Closed to others from its first byte on, and never somebody else's file.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
