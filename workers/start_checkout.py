"""Open the attempt of a customer who pressed Pay and waits.

Takes     checkout.start, written by the page.
Gives     attempt.check for the first look; an exception when the provider refuses or cannot be asked.
Twice?    Safe: by intent; after a lost answer the provider is asked under the attempt's own reference.
Gives up  After 8 tries over about 2 minutes: dead letter, and the manager is told. The customer may try again.
"""

from contracts.messages import CheckoutStart
from runtime.deps import Deps
from workers.opening import LIMIT, open_attempt
from workers.stage import Outcome, Schedule, stage


@stage(CheckoutStart, schedule=Schedule.growing(8, first=1, longest=30), time_limit=LIMIT)
def start_checkout(message: CheckoutStart, deps: Deps) -> Outcome:
    """Open the attempt that the customer waits for."""
    return open_attempt(message, deps)
