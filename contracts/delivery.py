"""What travels through the broker between stages: a hint that one message is due.

Never the truth: it may be lost or doubled, and it holds no personal data.
"""

from contracts.base import Part


class Delivery(Part):
    """Names one message of the store."""

    id: str
    type: str
    key: str
    subject: str
    request_id: str
    traceparent: str | None = None
