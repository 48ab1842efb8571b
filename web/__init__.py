"""The doors: receiver, pages, API. The only Starlette."""
