"""A simulated VPOS.am, merchant payment sessions: `python -m sandbox.vpos --help`.

Written from the public pages https://api.vpos.am/docs and https://api.vpos.am/openapi.yaml (version 0.1.0, its first
part), and not from our adapter. It is not VPOS.am: nobody compared it with theirs.

POST /v1/payment-sessions       Bearer, Idempotency-Key            GET  /v1/payment-sessions/{id}
GET  /v1/capabilities           Bearer                             GET  /api/health        without a key
GET  /checkout/{id}             the page where the buyer pays

PUT  /control/{merchant}                          open a merchant or change his settings (vpos_merchants.Merchant)
POST /control/{merchant}/orders/{name}/act        do what a buyer, his bank or the time does (vpos_actions.ACTIONS)
GET  /control/{merchant}/orders | stats           dump and exact counts
POST /control/{merchant}/faults, GET, DELETE      faults on demand (sandbox.faults), also of money and of webhooks

From the pages: create with its seven fields, minor units and alphabetic currencies; the key names order and attempt,
and a repeated create is safe; look-up of the status, health without a key, capabilities by provider, signed webhooks;
401 without a bearer token, 403 for an origin that is not trusted, 405 at health, 429; a browser's return proves
nothing; a fiscal result comes later and is another thing than paid.

ASSUMED, because no public page says it (those marked * are settings of a merchant, with the guess as the default):
    * words: created, pending, processing, paid, failed, expired, cancelled, partially_refunded, refunded
    * names of an answer's fields: id, status, checkoutUrl, expiresAt, paidAt, providerReference, ...
    * lookup_path; list_path, cancel_path, refund_path: none by default, as they are not in the public scope
    * signature_header X-Vpos-Signature, signature_scheme hmac-sha256-hex (raw body) or t-v1; event_type
    * session_seconds: 1800
    * key_required: 400 without an Idempotency-Key; the same key with another body: 409; a repeat: the first answer
    * fiscal: fiscalStatus pending, issued, failed, told on a session and on a refund
    the shape of errors, 400 for a wrong or unknown field, 404 for a session that is not there
    a declined session has failed for good; what a bank works on does not expire
    who is asked with the same order id and another key makes another session
    what the browser carries back (sessionId, status); six tries of a webhook, and any 2xx ends them
"""

import argparse
import sys
from collections.abc import Sequence

from starlette.types import ASGIApp

from sandbox.program import options_of, run, secret
from sandbox.vpos_merchants import Merchant
from sandbox.vpos_service import VposService


def main(argv: Sequence[str] | None = None) -> int:
    """Run the service until a signal comes."""
    options = _options().parse_args(argv)

    def make(public_url: str) -> ASGIApp:
        service = VposService(
            control_key=options.control_key,
            public_url=public_url,
            pause_seconds=options.webhook_pause_seconds,
        )
        if options.api_key:
            service.open(
                Merchant(
                    name=options.merchant,
                    api_key=options.api_key,
                    webhook_url=options.webhook_url,
                    webhook_secret=options.webhook_secret,
                )
            )
        return service.app()

    return run("vpos", options, make)


def _options() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = options_of("vpos", "Simulated VPOS.am payment sessions.", port=8809)
    add = parser.add_argument
    add("--merchant", default="shop", help="the merchant's name at the control interface")
    add("--api-key", default=secret("API_KEY"), help="his bearer token, or SANDBOX_API_KEY")
    add("--webhook-url", default="")
    add("--webhook-secret", default=secret("WEBHOOK_SECRET"), help="or SANDBOX_WEBHOOK_SECRET")
    add("--webhook-pause-seconds", type=float, default=10.0, help="between the tries of a webhook")
    return parser


if __name__ == "__main__":
    sys.exit(main())
