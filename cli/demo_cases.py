"""What the demo is made of: cases, each an invoice with what is done about it and how it must end.

demo_examples  docs/examples/invoices.jsonl, each with the next thing that customers do
demo_rows      one invoice for each row of the verdict table, driven as the row says
demo_pages     what is left of the pages that a customer may see
demo_stories   what happens at the simulator of a real provider
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from contracts.ids import new_id
from contracts.messages import LinkExpire
from db import audit, invoices, links
from db.tx import Cause
from runtime.deps import Deps
from sandbox.customers import Customer
from sandbox.office import Office

Name = tuple[str, str, str]  # CRM, id, type


@dataclass(frozen=True, slots=True)
class Ending:
    """How an invoice must end. `rules`: by which its last evidence is judged, `tasks`: open ones; None: any."""

    status: str
    flags: tuple[str, ...] = ()
    rules: frozenset[str] | None = None
    tasks: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Scene:
    """Who acts about an invoice: its customer at his link, and its manager."""

    customer: Customer
    office: Office
    end_link: Callable[[], None]  # the newest link's time is over now


Act = Callable[[Scene], None]


@dataclass(slots=True)
class Case:
    """One invoice, what happens to it, and what came of that."""

    data: dict[str, Any]
    what: str
    account: str
    act: Act
    ending: Ending
    # Where one version came with two amounts, the first to arrive counts, and nobody knows which that is.
    other_amounts: set[int] = field(default_factory=set)
    # What came of it.
    failure: str = ""
    reference: str = ""  # of the order that the customer paid, or saw last
    page: str = ""  # what the newest link's page says at the end
    pages: set[str] = field(default_factory=set)  # all that somebody saw
    at_provider: str = ""  # what its own books say, where they were read
    in_crm: str = ""  # what the CRM's record says, where it was read

    @property
    def id(self) -> str:
        """The CRM's own id."""
        return str(self.data["invoice_id"])

    @property
    def name(self) -> Name:
        """Whose invoice this is: CRM, id, type."""
        return self.data["crm"], self.data["invoice_id"], self.data.get("type", "invoice")

    def is_about(self, amount_minor: int) -> bool:
        """Tell whether a link of this amount is the one that the customer waits for."""
        return amount_minor in {self.data["amount_minor"], *self.other_amounts}


def end_link(deps: Deps, name: Name) -> None:
    """Let the newest link of an invoice end now.

    A link lives five minutes at the least, and no demonstration waits so long. So this moves the end as the command
    link.extend does, only nearer than that command allows; what follows is the workers' own doing.
    """
    with deps.database.begin(Cause.new()) as tx:
        invoice = invoices.find(tx, *name)
        link = links.newest(tx, invoices.lock(tx, invoice.id).id) if invoice is not None else None
        if invoice is None or link is None:
            raise LookupError(f"{name[1]} has no link")
        links.move_end(tx, link.id, 0)
        reason = "the demonstration does not wait for the end of a link"
        audit.write(tx, actor="demo", action="link.extended", subject=invoice.id, reason=reason, link=link.id)
        tx.then(LinkExpire(invoice=invoice.id, link=link.id, extension=new_id()))
