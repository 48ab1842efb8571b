"""The customer's pages under `/l/{token}`: what a link is for, Pay, and what became of it.

    GET  /l/{token}            the page, from verified facts alone; no side effect, so that link previews do no harm
    POST /l/{token}/pay        one attempt however often it is pressed; waits for it, then 303 to the provider
    GET  /l/{token}/continue   where the browser waits on when the provider is slow; only with a ticket of Pay
    GET  /l/{token}/return     back from the provider: asks for a check, proves nothing
    GET  /back/{account}       the same, where a provider has one way back for all: a cookie knows the link
    POST /l/{token}/ask        ask the seller for a new link, where this one is over; once a day, however often
    GET  /l/{token}/qr.svg     the link as a QR code, to go on with on a telephone
    GET  /l/{token}/status     the same facts as JSON, for the page's script

Everything works without a script, and no page moves on by itself (docs/decisions/0012): the script of one that waits
says that something changed, and shows a button; without a script there is "Check again". Only who just pressed Pay is
led on to the provider, as he asked.
"""

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from urllib.parse import parse_qs, urlencode

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from contracts.messages import Locale
from db import customer_pages
from db.customer_pages import CustomerView
from db.database import Trouble, trouble_of
from rules.pages import OVER, PAYABLE, Opening, PageState, page_state
from runtime.checkout import PayResult, ask_for_link, look, note_return
from runtime.deps import Deps
from runtime.tokens import token_hash
from web.guesses import Guesses
from web.paying import Paying, is_coming
from web.rendering import Renderer, Shown, is_token, qr_code
from web.requests import request_id_of
from web.security import FormGuard, keep_way_back, page_headers, way_back
from web.texts import LANGUAGES, language_of, language_of_browser
from web.threads import Threads
from web.view_log import ViewLog, is_a_look

MAX_FORM_BYTES = 4096
# What a page's own address may say beside the language.
REMEMBERED = ("returned", "asked")

log = structlog.get_logger()

Handler = Callable[[Request], Awaitable[Response]]


class Pages:
    """The routes and what they share."""

    def __init__(self, deps: Deps, threads: Threads, guesses: Guesses, views: ViewLog) -> None:
        self._deps = deps
        self._threads = threads
        self._guesses = guesses
        self._views = views
        self._guard = FormGuard(deps.settings)
        self._paying = Paying(deps, threads)
        self._headers = page_headers(deps.settings)
        self._render = Renderer()

    def routes(self) -> list[Route]:
        """Return the routes; they stand behind web.requests.RequestIds."""
        return [
            Route("/l/{token}", self._guarded(self._show)),
            Route("/l/{token}/pay", self._guarded(self._pay), methods=["GET", "POST"]),
            Route("/l/{token}/continue", self._guarded(self._continue)),
            # Some banks send the customer back by a form.
            Route("/l/{token}/return", self._guarded(self._return), methods=["GET", "POST"]),
            # Where a provider has one way back for all orders of an account.
            Route("/back/{account}", self._guarded(self._come_back), methods=["GET", "POST"]),
            Route("/l/{token}/ask", self._guarded(self._ask), methods=["GET", "POST"]),
            Route("/l/{token}/qr.svg", self._guarded(self._qr)),
            Route("/l/{token}/status", self._guarded(self._status)),
            Route("/assets/{name}", self._render.asset),
        ]

    # --- the pages ----------------------------------------------------------------------------------------------------

    async def _show(self, request: Request) -> Response:
        view = await self._find(request)
        if view is None:
            return self._not_found(request)
        if is_a_look(request):
            self._views.note(view.link_id, view.facts.now)
        state = page_state(view.facts)
        kept = {name: "1" for name in REMEMBERED if name in request.query_params}
        is_between = state in (PageState.READY, PageState.REST, PageState.IN_PROGRESS)
        may_be_paid = is_between and view.facts.opening in (Opening.COMING, Opening.OPEN)
        is_checking = "returned" in kept and may_be_paid
        waits = is_checking or state in (PageState.IN_PROGRESS, PageState.PROCESSING)
        more = {} if state is PageState.IN_PROGRESS and not is_checking else {"returned": "1"}
        return self._page(
            request,
            view,
            "checking" if is_checking else state.value,
            can_pay=state in PAYABLE,
            next_url=_with(self._address(request), self._query(request, view, **more)) if waits else None,
            kept=kept,
        )

    async def _pay(self, request: Request) -> Response:
        if request.method != "POST":
            return self._see_other(self._address(request))  # someone reloaded, or typed the address
        view = await self._find(request)
        if view is None:
            return self._not_found(request)
        if not await self._is_from_our_page(request, view):
            return self._message(request, "refused", 403, self._language(request, view))
        result = await self._paying.press_and_wait(view.link_id, request_id_of(request.scope))
        if result.reason == "unavailable":
            return self._page(request, view, "unavailable", status=503)
        if is_coming(result):
            query = self._query(request, view, t=self._guard.ticket(view.link_id))
            return self._see_other(f"{self._address(request)}/continue?{query}")
        return self._onward(request, view, result)

    async def _continue(self, request: Request) -> Response:
        view = await self._find(request)
        if view is None:
            return self._not_found(request)
        ticket = request.query_params.get("t", "")
        if not self._guard.admits(view.link_id, ticket):
            return self._back(request, view)
        result = await self._threads.view(lambda: look(self._deps, view.link_id))
        if is_coming(result) and "again" in request.query_params:  # pressed there, so he waits as after Pay
            await self._paying.wait_on(view.link_id)
            result = await self._threads.view(lambda: look(self._deps, view.link_id))
        if not is_coming(result):
            return self._onward(request, view, result)
        query = self._query(request, view, t=ticket, again="1")
        return self._page(
            request,
            view,
            "preparing",
            next_url=f"{self._address(request)}/continue?{query}",
            path="/continue",
            kept={"t": ticket},
        )

    async def _return(self, request: Request) -> Response:
        view = await self._find(request)
        if view is None:
            return self._not_found(request)
        request_id = request_id_of(request.scope)
        await self._threads.press(lambda: note_return(self._deps, view.link_id, request_id=request_id))
        return self._back(request, view, returned="1")

    async def _come_back(self, request: Request) -> Response:
        """Lead the browser to the link that it left from. Nothing that the provider says of the order is looked at."""
        token = way_back(request)
        if token is None or not is_token(token):
            return self._message(
                request, "come_back", 200, language_of_browser(request.headers.get("accept-language", ""))
            )
        return self._see_other(f"/l/{token}/return")

    async def _ask(self, request: Request) -> Response:
        if request.method != "POST":
            return self._see_other(self._address(request))
        view = await self._find(request)
        if view is None:
            return self._not_found(request)
        if not await self._is_from_our_page(request, view):
            return self._message(request, "refused", 403, self._language(request, view))
        if page_state(view.facts) in OVER:
            request_id = request_id_of(request.scope)
            await self._threads.press(lambda: ask_for_link(self._deps, view.link_id, request_id=request_id))
        return self._back(request, view, asked="1")

    async def _qr(self, request: Request) -> Response:
        view = await self._find(request)
        if view is None:
            return self._not_found(request)
        # Whatever became of the link meanwhile: a page of a moment ago still asks for its picture.
        url = f"{self._deps.settings.public_base_url.rstrip('/')}{self._address(request)}"
        return Response(qr_code(url), 200, self._headers, "image/svg+xml")

    async def _status(self, request: Request) -> Response:
        view = await self._find(request)
        if view is None:
            return self._nothing_to_tell(request)
        state = page_state(view.facts)
        return JSONResponse(
            {"state": state, "opening": view.facts.opening, "now": _now(view), "can_pay": state in PAYABLE},
            headers=self._headers,
        )

    async def _is_from_our_page(self, request: Request, view: CustomerView) -> bool:
        decided = self._guard.by_headers(request.headers)
        if decided is not None:
            return decided
        form = await _form(request)
        return self._guard.by_token(view.link_id, form.get("form", [""])[0])

    # --- answers ------------------------------------------------------------------------------------------------------

    def _page(
        self,
        request: Request,
        view: CustomerView,
        shown: str,
        *,
        status: int = 200,
        can_pay: bool = False,
        next_url: str | None = None,
        path: str = "",
        kept: Mapping[str, str] = MappingProxyType({}),
        handover: tuple[str, Mapping[str, str]] | None = None,
    ) -> Response:
        language = self._language(request, view)
        address = self._address(request)
        can_ask = shown in OVER
        page = Shown(
            state=shown,
            language=language,
            language_urls={code: f"{address}{path}?{urlencode({'lang': code, **kept})}" for code in LANGUAGES},
            pay_url=_with(f"{address}/pay", self._query(request, view)) if can_pay else None,
            form_token=self._guard.token(view.link_id) if can_pay or can_ask else "",
            ask_url=_with(f"{address}/ask", self._query(request, view)) if can_ask else None,
            has_asked="asked" in request.query_params,
            qr_url=f"{address}/qr.svg" if can_pay and shown != "checking" else None,
            status_url=f"{address}/status",
            expected=_now(view),
            next_url=next_url,
            handover=handover,
        )
        body = self._render.page(page, view, self._deps.settings.merchant_of(view.crm))
        return Response(body, status, self._headers, "text/html")

    def _message(self, request: Request, shown: str, status: int, language: Locale, **headers: str) -> Response:
        reference = request_id_of(request.scope)
        merchant = self._deps.settings.merchant
        body = self._render.message(shown, language, reference if status >= 500 else None, merchant)
        return Response(body, status, {**self._headers, **headers}, "text/html")

    def _not_found(self, request: Request) -> Response:
        """Answer the same for a token that is none and for one that nobody has."""
        language = language_of_browser(request.headers.get("accept-language", ""))
        later = _come_again(request)
        if later:
            return self._message(request, "too_many", 429, language, **later)
        return self._message(request, "not_found", 404, language)

    def _nothing_to_tell(self, request: Request) -> Response:
        later = _come_again(request)
        error, status = ("too_many", 429) if later else ("not_found", 404)
        return JSONResponse({"error": error}, status, {**self._headers, **later})

    def _onward(self, request: Request, view: CustomerView, result: PayResult) -> Response:
        """Send the browser to the provider, or back to the page, which says why not.

        Where the provider takes a form, it stands on a page of ours with one button: no redirect can post it.
        """
        provider_page = self._paying.provider_page(result)
        if provider_page is None:
            return self._back(request, view)
        if not result.pay_fields:
            return self._see_other(provider_page)
        response = self._page(request, view, "handover", handover=(provider_page, result.pay_fields))
        keep_way_back(response, request.path_params["token"], self._deps.settings)
        return response

    def _see_other(self, url: str) -> Response:
        return RedirectResponse(url, 303, self._headers)

    def _back(self, request: Request, view: CustomerView, **more: str) -> Response:
        return self._see_other(_with(self._address(request), self._query(request, view, **more)))

    def _address(self, request: Request) -> str:
        """Return the page's own path; the token in it was checked or is about to be."""
        return f"/l/{request.path_params['token']}"

    def _language(self, request: Request, view: CustomerView) -> Locale:
        return language_of(request.query_params.get("lang"), view.locale)

    def _query(self, request: Request, view: CustomerView, **more: str) -> str:
        """Carry the customer's choice of a language on."""
        language = self._language(request, view)
        return urlencode(({"lang": language} if language != view.locale else {}) | more)

    # --- the database -------------------------------------------------------------------------------------------------

    async def _find(self, request: Request) -> CustomerView | None:
        """Return what the token of the path opens. A miss is counted, and `_not_found` answers by the count."""
        token = request.path_params["token"]
        view = await self._threads.view(lambda: self._read(token)) if is_token(token) else None
        if view is None:
            address = request.client.host if request.client else None
            request.state.come_again = await self._guesses.missed(address, request_id_of(request.scope))
        return view

    def _read(self, token: str) -> CustomerView | None:
        with self._deps.database.read() as tx:
            return customer_pages.by_token_hash(tx, token_hash(token))

    def _guarded(self, handler: Handler) -> Handler:
        """Answer with a page when the database is away or a lock is not had."""

        async def endpoint(request: Request) -> Response:
            try:
                return await handler(request)
            except ClientDisconnect:
                return Response(status_code=400)  # nobody reads it
            except Exception as error:
                if trouble_of(error) not in (Trouble.OUTAGE, Trouble.BUSY):
                    raise
                log.warning("page.unavailable", request_id=request_id_of(request.scope), error=type(error).__name__)
                language = language_of_browser(request.headers.get("accept-language", ""))
                return self._message(request, "trouble", 503, language, **{"retry-after": "10"})

        return endpoint


def _with(path: str, query: str) -> str:
    return f"{path}?{query}" if query else path


def _come_again(request: Request) -> dict[str, str]:
    """Return the header for an address that missed too often; nothing for one that may go on."""
    seconds = getattr(request.state, "come_again", None)
    return {} if seconds is None else {"retry-after": str(seconds)}


def _now(view: CustomerView) -> str:
    """Sum up what a waiting page waits to see changed."""
    return f"{page_state(view.facts)}/{view.facts.opening}"


async def _form(request: Request) -> Mapping[str, list[str]]:
    """Read a small form; anything else is an empty one."""
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_FORM_BYTES:
            return {}
    try:
        return parse_qs(body.decode("ascii"), max_num_fields=8)
    except ValueError:
        return {}
