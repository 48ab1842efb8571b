"""Press Pay, wait for whoever opens the attempt, and learn where the customer pays."""

import asyncio

import structlog

from contracts.statuses import AttemptState
from runtime.checkout import PayResult, press_pay
from runtime.deps import Deps
from web.opening_watch import OpeningWatch
from web.security import may_redirect
from web.threads import Threads

# Providers answer within a second or two; whoever still waits then gets a page that waits on.
WAIT_SECONDS = 8.0
# Each press may find that the attempt lapsed or was replaced, and then makes or finds the next one.
MAX_PRESSES = 4

log = structlog.get_logger()


class Paying:
    """What stands between Pay and the provider's page."""

    def __init__(self, deps: Deps, threads: Threads) -> None:
        self._deps = deps
        self._threads = threads
        self._watch = OpeningWatch(deps.database, threads)

    async def press_and_wait(self, link_id: str, request_id: str) -> PayResult:
        """Press Pay; end with resume, refused, or wait when it takes too long."""
        result = await self._press_until_settled(link_id, request_id)
        log.info(
            "page.pay",
            link=link_id,
            attempt=result.attempt_id,
            action=result.action,
            reason=result.reason,
            request_id=request_id,
        )
        return result

    async def wait_on(self, link_id: str) -> None:
        """Wait as long as after Pay, or until the attempt is no longer on its way."""
        await self._watch.wait(link_id, WAIT_SECONDS)

    def provider_page(self, result: PayResult) -> str | None:
        """Return where to send the browser, if that is an address that we may send it to."""
        if result.pay_url is None:
            return None
        if may_redirect(result.pay_url, self._deps.settings.accounts.get(result.account or "")):
            return result.pay_url
        log.error("page.pay_url_refused", attempt=result.attempt_id, account=result.account)
        return None

    async def _press_until_settled(self, link_id: str, request_id: str) -> PayResult:
        loop = asyncio.get_running_loop()
        until = loop.time() + WAIT_SECONDS
        result = PayResult("wait")
        for _ in range(MAX_PRESSES):
            result = await self._threads.press(lambda: press_pay(self._deps, link_id, request_id=request_id))
            if result.action != "new" and not is_coming(result):
                return result
            attempt = await self._watch.wait(link_id, until - loop.time())
            if attempt is None:
                break
            if attempt.state is AttemptState.FAILED:
                # The customer sees that it failed, and decides; no other attempt is made unasked.
                return PayResult("refused", "failed", result.attempt_id)
        return PayResult("wait", AttemptState.RESERVED, result.attempt_id)


def is_coming(result: PayResult) -> bool:
    """Tell whether the provider's page may come by waiting: the attempt is being opened, or asked about."""
    return result.action == "wait" and result.reason != AttemptState.PROCESSING
