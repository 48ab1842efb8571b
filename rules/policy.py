"""What the link of an invoice may do, put together from the deployment's, the CRM's and the invoice's own words.

    deployment ──> CRM ──> invoice       the most specific word counts; what nobody says is the default here

The result is kept with the link as it was in force, so that a later change of the settings changes no link that is out.
The amount and currency of a link are no setting.
"""

from datetime import timedelta
from typing import Literal

from pydantic import BaseModel, ConfigDict

from contracts.messages import Policy


class LinkPolicy(BaseModel):
    """A policy without gaps. `attempts`: how many payments may be begun by one link."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    expires_in: timedelta = timedelta(days=7)
    partial: Literal["review", "accept", "collect"] = "review"  # collect: the same link takes the rest
    over: Literal["review", "accept"] = "review"  # review: a task to give back what is too much
    late: Literal["review", "accept"] = "accept"
    old_link: Literal["review", "accept"] = "accept"  # also by a cancelled link
    unsent: Literal["amend", "replace"] = "amend"  # what a new version does to a link that nobody has seen
    attempts: int = 20
    resend: bool = True
    cancel: bool = True
    reissue: bool = True
    retry: bool = True
    extend: bool = True

    @classmethod
    def in_force(cls, *layers: Policy) -> "LinkPolicy":
        """Lay policies over each other, the least specific first."""
        said: dict[str, object] = {}
        for layer in layers:
            said |= layer.model_dump(exclude_none=True)
        return cls.model_validate(said)

    @classmethod
    def kept(cls, text: str) -> "LinkPolicy":
        """Read what is kept with a link."""
        return cls.model_validate_json(text)
