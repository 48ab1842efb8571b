"""Tell the manager that a customer asks for a new link.

Takes     link.wanted, written by the customer's page.
Gives     one task, open until the link is reissued or the invoice is settled.
Twice?    Safe: one request per link and day, one open task per invoice.
Gives up  After 10 tries over about 25 minutes: dead letter.
"""

from datetime import timedelta

from contracts.messages import LinkWanted
from contracts.statuses import LinkState
from db import invoices, links
from rules.verdicts import Reason
from runtime.checkout import CLOSED
from runtime.deps import Deps
from workers.stage import ALREADY_DONE, DONE, Outcome, Schedule, stage
from workers.standing import raise_exception


@stage(LinkWanted, schedule=Schedule.growing(10, first=1, longest=600), time_limit=timedelta(milliseconds=1800))
def want_link(message: LinkWanted, deps: Deps) -> Outcome:
    """Ask a person, unless a newer link is out or nothing is left to pay."""
    with deps.concluding(message) as tx:
        invoice = invoices.lock(tx, message.invoice)
        newest = links.newest(tx, invoice.id)
        if newest is None or newest.id != message.link or invoice.status in CLOSED:
            return ALREADY_DONE
        state = LinkState(newest.state)
        detail = f"the customer asks for a new link, his is {state}: reissue it, or tell him why not"
        raise_exception(tx, invoice.id, Reason.LINK_WANTED, detail)
    return DONE
