"""What each field means, in one sentence: for the exported schemas, the AsyncAPI document and the reference page.

A name means the same wherever it stands. Where it does not, the model's name goes before it: "Manager.id".
"""

_FIELDS: dict[str, str] = {
    # the envelope
    "specversion": "The version of CloudEvents.",
    "Envelope.id": "Unique within `source`; the same event sent again keeps its id.",
    "Envelope.source": "Who sent it, as a URI reference: /crm/acme-bitrix24, or /paylinks.",
    "Envelope.type": "The contract and its version.",
    "Envelope.subject": "What it is about; for people and routers.",
    "time": "When it happened (RFC 3339, with a time zone).",
    "datacontenttype": "Always JSON.",
    "dataschema": "The schema that `data` follows, as a URI.",
    "requestid": "An id that logs and answers repeat.",
    "traceparent": "The W3C trace that this belongs to.",
    "data": "The message itself. Fields that we do not know are ignored.",
    # the payable
    "crm": "Which CRM: the id it is configured under.",
    "invoice_id": "The CRM's own id of the payable.",
    "version": "Counts the contents of one payable, from 1; a higher version replaces the lower ones.",
    "InvoiceCreated.version": "Counts the contents of one payable, from 1; a higher version replaces the lower ones. "
    "Leave it out if the CRM counts none: then every changed content becomes the next version.",
    "InvoiceCancelled.version": "Everything up to this version is cancelled, even where it arrives later.",
    "type": "What is to be paid, in the CRM's terms. Ids are counted per type.",
    "kind": "A prepayment is settled against its invoice later.",
    "deal_id": "The CRM's deal, whose stage follows the payment.",
    "amount_minor": "The amount in minor units of the currency: 150000 is 1500.00 AMD.",
    "currency": "ISO 4217 alphabetic code.",
    "currency_exponent": "How many decimals you count with; refused when the currency has another number.",
    "purpose": "What the customer reads: on the payment page, at the provider, on the receipt.",
    "customer": "Who pays.",
    "manager": "Who answers for it in the CRM, and gets the task when a person must decide.",
    "created_by": "The CRM user who made it, for the audit trail.",
    "cancelled_by": "The CRM user who cancelled it, for the audit trail.",
    "policy": "How its link behaves.",
    "account": "The account at a payment provider, by its configured name.",
    "InvoiceCreated.account": "The account at a payment provider, by its configured name; else the currency decides.",
    "Customer.name": "As the customer wants to be called.",
    "email": "Where the customer gets the link and the receipt.",
    "phone": "With the country code.",
    "locale": "The language of the payment page.",
    "Manager.id": "The CRM's id of the manager.",
    "Manager.name": "For tasks and letters.",
    "expires_in": "How long the link lives: an ISO 8601 duration from PT5M to P366D.",
    "partial": "What a part payment does: wait for a person, or count as it is.",
    "reason": "Why, in a few words.",
    # from a provider
    "receipt": "The provider's event id where its signature was checked, else one of ours.",
    "received_at": "When it reached us; its timestamp is judged against this.",
    "method": "How it was sent.",
    "query": "The query string as it came.",
    "headers": "The HTTP headers as they came; the signature is among them.",
    "body_base64": "The raw body, byte for byte, in base64.",
    # between stages
    "invoice": "Our id of the invoice.",
    "link": "Our id of the link.",
    "attempt": "Our id of the attempt: one order at a payment provider.",
    "close_no": "Which wish to close this is; a refused one may be wished again.",
    "late": "Whether the task was still being made when the reason went.",
    "check_no": "Which question this is; every one is a wish of its own.",
    "revision": "Counts the states of one invoice; a later one replaces the earlier.",
    "exception": "Our id of the case.",
    "episode": "Counts the times that this reason came up.",
    # to outside
    "sent_version": "The version that the sender named; absent when he named none.",
    "outcome": "accepted; unchanged (known); superseded (a newer version is known); cancelled (before it came); "
    "conflict (this version is known with other content).",
    "request_id": "The id that our logs and support know this by.",
    "causation": "Our id of the message that this answers.",
    "rejection": "Our id of the kept body.",
    "source": "The envelope's source, if it could be read.",
    "event_id": "The envelope's id, if it could be read.",
    "event_type": "The envelope's type, if it could be read.",
    "problems": "Each field that is wrong, and what to do.",
    "result": "The normalised result, the same that the CRM gets.",
    "status": "What the invoice is. Be ready for a word that you do not know.",
    "flags": "What is odd about the money beside the status. Be ready for a word that you do not know.",
    "PaymentResult.amount_minor": "What was asked, in minor units.",
    "paid_minor": "What was captured so far, in minor units.",
    "refunded_minor": "What was given back so far of what was captured, in minor units.",
    "provider": "The payment provider's name.",
    "provider_reference": "The provider's own number of the payment.",
    "paid_at": "When the payment was complete.",
    "fiscal_status": "Where the receipt stands. Be ready for a word that you do not know.",
    "link_url": "Our link for the customer.",
    # what travels through the broker between stages
    "Delivery.id": "Our id of the message that is due.",
    "Delivery.type": "Its contract and version.",
    "key": "Its deduplication key.",
    "subject": "Whom it is about: our invoice id, or the CRM's before there is one.",
}


def meaning(model: str, field: str) -> str:
    """Return what a field of a model means; raise KeyError for one that nobody has described."""
    return _FIELDS.get(f"{model}.{field}") or _FIELDS[field]
