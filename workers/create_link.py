"""Create the provider order behind a payment link, at once, where sessions live for days.

Takes     link.create, written when an invoice gets its link.
Gives     attempt.check for the first look; an exception when the provider refuses or cannot be asked.
Twice?    Safe: by intent; after a lost answer the provider is asked under the attempt's own reference.
Gives up  After 8 tries over about 40 minutes: dead letter, and the manager is told.
"""

from contracts.messages import LinkCreate
from runtime.deps import Deps
from workers.opening import LIMIT, open_attempt
from workers.stage import Outcome, Schedule, stage


@stage(LinkCreate, schedule=Schedule.growing(8, first=20, longest=900), time_limit=LIMIT)
def create_link(message: LinkCreate, deps: Deps) -> Outcome:
    """Open the link's first attempt before anybody presses Pay."""
    return open_attempt(message, deps)
