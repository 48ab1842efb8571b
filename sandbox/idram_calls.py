"""What the simulated Idram asks and tells a merchant's RESULT_URL: the precheck, and the confirmation of a payment.

Sections in brackets are those of "Idram Payment System merchant interface description" (edition of 16 October 2025).
"""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import httpx

from sandbox.faults import Fault
from sandbox.idram_bills import Books, Merchant, Submission, Transaction

NO_ANSWER = 0


@dataclass(frozen=True)
class Said:
    """What the merchant answered; status 0: nothing."""

    status: int
    body: str = ""

    @property
    def agrees(self) -> bool:
        """HTTP 200 and the message OK without anything around it [5 (a), 5 (b)]. ASSUMED: to the letter."""
        return self.status == 200 and self.body == "OK"

    def __str__(self) -> str:
        """Return it for the dump."""
        return f"{self.status} {self.body[:100]}".strip()


def money(cents: int) -> str:
    """Write an amount as confirmations have it: 0.00 [5 (b)]."""
    return f"{cents // 100}.{cents % 100:02}"


def checksum(fields: Mapping[str, str], secret: str) -> str:
    """Sign a confirmation [5 (b)]. ASSUMED: upper-case, as public integrations compare without regard to case."""
    names = ("EDP_REC_ACCOUNT", "EDP_AMOUNT", "", "EDP_BILL_NO", "EDP_PAYER_ACCOUNT", "EDP_TRANS_ID", "EDP_TRANS_DATE")
    text = ":".join(fields[name] if name else secret for name in names)
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest().upper()


def question(merchant: Merchant, submission: Submission) -> dict[str, str]:
    """Return the fields of a precheck [5 (a)]. Nobody signs it."""
    as_given = merchant.precheck_amount == "as_given"
    return {
        "EDP_PRECHECK": "YES",
        "EDP_BILL_NO": submission.bill,
        "EDP_REC_ACCOUNT": merchant.account,
        "EDP_AMOUNT": submission.fields["EDP_AMOUNT"] if as_given else money(submission.cents),
    }


def confirmation(merchant: Merchant, made: Transaction) -> dict[str, str]:
    """Return the fields of a confirmation [5 (b)], signed with the secret of this moment."""
    fields = {
        "EDP_BILL_NO": made.bill,
        "EDP_REC_ACCOUNT": merchant.account,
        "EDP_PAYER_ACCOUNT": made.payer,
        "EDP_AMOUNT": money(made.cents),
        "EDP_TRANS_ID": made.id,
        "EDP_TRANS_DATE": made.date,
    }
    return fields | {"EDP_CHECKSUM": checksum(fields, merchant.secret)}


class Caller:
    """Speaks to the merchants' servers; a confirmation that is late or repeated goes in the background."""

    def __init__(self) -> None:
        """Make it inside the event loop."""
        self._client = httpx.AsyncClient(trust_env=False)
        self._running: set[asyncio.Task[None]] = set()
        self.counts: Counter[str] = Counter()

    async def close(self) -> None:
        """Stop what is being sent."""
        for task in self._running:
            task.cancel()
        await self._client.aclose()

    async def precheck(self, books: Books, submission: Submission) -> bool:
        """Ask whether this bill may be paid. Money moves after OK alone [5 (a)]."""
        if books.merchant.skip_precheck:
            return True
        said = await self._post(books, "precheck", question(books.merchant, submission))
        submission.precheck = str(said)
        return said.agrees

    async def confirm(self, books: Books, made: Transaction, fault: Fault | None = None) -> None:
        """Tell of a payment, as the settings or a fault of this moment want it."""
        variant = fault.name if fault else books.merchant.confirm
        match variant:
            case "lost":
                return
            case "late":
                self._later(self._settle(books, made, fault.seconds if fault else books.merchant.late_seconds))
                return
            case "altered":  # by somebody on the way: the checksum is still that of the true amount
                told = confirmation(books.merchant, made) | {"EDP_AMOUNT": money(made.cents * 10)}
                self._judge(books, made, await self._post(books, "confirm", told))
                return
            case "duplicate":
                self._later(self._again(books, made))
            case "forged":
                self._later(self._forge(books, made))
        await self._settle(books, made, 0.0)

    async def _settle(self, books: Books, made: Transaction, after_seconds: float) -> None:
        await asyncio.sleep(after_seconds)
        for number in range(books.merchant.confirm_tries):
            await asyncio.sleep(books.merchant.confirm_pause_seconds if number else 0.0)
            said = await self._post(books, "confirm", confirmation(books.merchant, made))
            self._judge(books, made, said)
            if said.agrees or made.state == "cancelled":
                return

    async def _again(self, books: Books, made: Transaction) -> None:
        await self._post(books, "confirm", confirmation(books.merchant, made))

    async def _forge(self, books: Books, made: Transaction) -> None:
        """Invent a payment, as somebody would who does not know the secret."""
        invented = replace(made, id="0" * 14, cents=made.cents * 10)
        told = confirmation(replace(books.merchant, secret="a-guess"), invented)  # noqa: S106  # of nobody
        await self._post(books, "forged", told)

    def _judge(self, books: Books, made: Transaction, said: Said) -> None:
        """Do what the document says of an answer that is not OK [5 (b)]: 2xx cancels, anything else does not.

        ASSUMED: no answer at all counts like an answer that is not 2xx.
        """
        made.answers.append(str(said))
        if said.agrees:
            return
        by_status = books.merchant.unconfirmed == "by_status"
        if by_status and 200 <= said.status < 300:
            made.state = "cancelled"
            self.counts["cancelled"] += 1
        email = books.last(made.bill).fields.get("EDP_EMAIL") or books.merchant.email
        books.alerts.append({"to": "support" if by_status else email, "bill": made.bill, "answer": str(said)})

    def _later(self, work: "asyncio._CoroutineLike[None]") -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _post(self, books: Books, name: str, fields: Mapping[str, str]) -> Said:
        self.counts[name] += 1
        books.gate.calls[name] += 1
        if not books.merchant.result_url:
            return Said(NO_ANSWER)
        try:
            patience = books.merchant.patience_seconds
            answer = await self._client.post(books.merchant.result_url, data=dict(fields), timeout=patience)
        except httpx.HTTPError:
            return Said(NO_ANSWER)
        return Said(answer.status_code, answer.text)
