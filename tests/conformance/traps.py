"""What a naive build of payment links gets wrong, and the tests which show that this one does not.

A test named `test_trap_<number>_...` shows its trap by that name, wherever it stands. `shown_by` names the others: file
under tests/ and function. 17 to 20 are shown with CRMs of the tests' own: the adapter of a CRM that has a trap shows
it again.
"""

import ast
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent

_PIPELINE = "integration/test_arca_pipeline.py::"
_SUITE = "conformance/test_every_provider.py::"
_EVENTS = "conformance/test_every_provider_events.py::"
_SURPRISES = "conformance/test_every_provider_surprises.py::"


@dataclass(frozen=True)
class Trap:
    """One mistake, and what shows that it is not made here."""

    number: int
    mistake: str
    shown_by: tuple[str, ...] = ()


TRAPS = (
    Trap(
        1,
        "the customer's way back is taken for a payment",
        (
            "integration/test_pages_pay.py::test_a_paid_invoice_says_so_only_when_the_provider_does",
            "integration/test_pages_pay.py::test_returning_asks_once_however_often",
            "integration/test_prechecks.py::test_the_way_back_leads_the_browser_that_left_to_its_link_and_nobody_else",
        ),
    ),
    Trap(
        2,
        "a callback is believed without asking, at the latest when asking fails",
        (
            "integration/test_trusted_events.py::test_otherwise_the_provider_is_asked",
            "integration/test_trusted_events.py::test_an_event_that_is_not_signed_is_never_believed",
            _PIPELINE + "test_a_forged_callback_pays_nothing",
            _EVENTS + "test_what_is_forged_or_altered_is_refused_at_the_door_and_at_work",
        ),
    ),
    Trap(
        3,
        "the status of a refunded order is read as success",
        (
            _SUITE + "test_every_documented_status_says_the_state_and_the_money_that_it_means",
            "unit/test_arca_wire.py::test_every_status_has_one_meaning",
        ),
    ),
    Trap(
        4,
        "held money is taken for captured money",
        (
            "integration/test_holds.py::test_held_money_is_captured_once_and_pays_the_invoice",
            "integration/test_odd_ways.py::test_a_hold_that_the_bank_released_lets_the_customer_pay_again",
            "unit/test_arca_wire.py::test_no_money_is_seen_in_a_hold_or_an_unpaid_order",
        ),
    ),
    Trap(
        5,
        "a look-up that fails with a 5xx is read as a failed payment",
        (
            "integration/test_expiry.py::test_a_provider_that_is_away_keeps_no_link_alive_and_money_is_found_later",
            "conformance/test_ameriabank_simulator.py::test_a_payment_that_nobody_tried_is_http_500_before_any_password",
        ),
    ),
    Trap(
        6,
        "a lost registration is repeated under the same number, and its page expected",
        (
            _PIPELINE + "test_a_lost_order_is_closed_and_the_customer_gets_another",
            "faults/test_one_effect.py::test_a_time_out_after_the_effect_in_each_family",
            _SUITE + "test_a_second_create_does_what_is_declared_and_makes_no_second_order",
        ),
    ),
    Trap(
        7,
        "a second create silently writes another amount over the first",
        (
            "faults/test_one_effect.py::test_a_time_out_after_the_effect_in_each_family",
            "integration/test_link_policy.py::test_a_link_that_was_shown_is_replaced_by_a_new_version",
            "integration/test_prechecks.py::test_numbers_count_up_for_each_account_and_end_where_the_bank_says",
        ),
    ),
    Trap(
        8,
        "refunds are repeated where nobody knows the second for the first; zero is sent and means all",
        (
            "integration/test_refunds.py::test_a_lost_answer_elsewhere_is_never_repeated_but_looked_for",
            _PIPELINE + "test_a_refund_whose_answer_is_lost_is_made_once",
            "faults/test_kills.py::test_who_gives_money_back_is_killed_where_it_matters_and_gives_it_back_once",
        ),
    ),
    Trap(
        9,
        "events are told apart by an id alone, which many providers do not give",
        (
            "integration/test_receiver_http.py::test_what_is_not_signed_is_never_a_duplicate",
            "integration/test_stage_runtime.py::test_a_check_asked_for_in_a_shared_transaction_is_hastened_not_doubled",
            "faults/test_one_effect.py::test_three_equal_webhooks_at_once_are_one_verdict_and_one_change_in_the_crm",
            "conformance/test_provider_sandbox.py::test_a_hint_has_neither_id_nor_facts",
        ),
    ),
    Trap(
        10,
        "two equal refunds of a part look alike, and the second is dropped",
        (
            _PIPELINE + "test_refunds_made_at_the_bank_are_found_one_by_one",
            _PIPELINE + "test_a_growing_total_is_booked_by_its_differences",
            "integration/test_refunds.py::test_an_equal_refund_from_before_is_not_taken_for_this_one",
            _SUITE + "test_a_refund_made_at_the_providers_own_desk_is_seen",
        ),
    ),
    Trap(
        11,
        "facts come in another order: a refund before its payment, a decline after the money",
        (
            "unit/test_verdicts.py::test_the_order_in_which_facts_arrive_changes_nothing",
            "unit/test_verdicts.py::test_a_late_decline_never_undoes_a_payment",
            "conformance/test_provider_sandbox.py::test_a_refund_may_be_told_before_its_payment",
            "conformance/test_provider_sandbox.py::test_a_reordered_event_comes_after_a_later_one",
        ),
    ),
    Trap(
        12,
        "ids are compared with regard to case",
        ("unit/test_verdicts.py::test_order_ids_compare_without_regard_to_case",),
    ),
    Trap(
        13,
        "money as a float, of the wrong unit, or with 51 where 051 is meant",
        (
            "unit/test_contracts_properties.py::test_minor_units_are_kept_exactly",
            "unit/test_bad_input.py::test_an_exponent_that_is_not_the_currencys_is_explained",
            "unit/test_arca_wire.py::test_numeric_currencies_are_read_with_and_without_their_zero",
        ),
    ),
    Trap(14, "times without a zone", ("unit/test_arca_wire.py::test_a_time_without_a_zone_is_the_accounts",)),
    Trap(
        15,
        "a provider's session of minutes is sent out as the link of an invoice of days",
        (
            "integration/test_pages_pay.py::test_a_session_that_lapsed_is_asked_about_and_replaced",
            "integration/test_pages_pay.py::test_pay_leads_to_the_providers_page",
        ),
    ),
    Trap(
        16,
        "money that was paid in the last second is lost to our own expiry",
        (
            "integration/test_expiry.py::test_a_payment_that_nobody_told_of_is_found_before_the_link_expires",
            "integration/test_expiry.py::test_an_order_that_ended_is_watched_for_a_day_and_silent_money_is_found",
            _PIPELINE + "test_a_payment_that_settles_after_the_session_is_late_money_not_lost_money",
            "unit/test_verdicts.py::test_money_may_follow_every_other_end",
        ),
    ),
    Trap(
        17,
        "an event of the CRM is lost, as it is never repeated",
        (
            "integration/test_intake_take.py::test_many_batches_that_hold_the_same_invoices_in_any_order_all_get_through",
        ),
    ),
    Trap(
        18,
        "our own write to the CRM comes back as a change of theirs",
        ("integration/test_intake_take.py::test_the_same_again_is_a_duplicate_and_its_first_ones_state_is_told",),
    ),
    Trap(
        19,
        "a batch answers 200 with errors inside",
        (
            "conformance/test_arca.py::test_http_200_says_nothing_and_400_is_their_fault",
            "conformance/test_crm_sandbox.py::test_a_written_result_is_read_back_whole",
        ),
    ),
    Trap(
        20,
        "two kinds of overload need pauses of two kinds",
        ("unit/test_gateway_http.py::test_a_longer_retry_after_is_handed_to_the_caller",),
    ),
    Trap(
        21,
        "the manager gets the same task twice",
        (
            "conformance/test_crm_sandbox.py::test_a_lost_task_is_unknown_and_the_key_tells",
            "integration/test_stage_runtime.py::test_a_dead_letter_about_an_invoice_tells_its_manager_once",
            "integration/test_odd_ways.py::test_a_case_that_ended_while_its_task_was_being_made_leaves_no_open_task",
        ),
    ),
    Trap(
        22,
        "money is matched to an invoice by its amount alone",
        (_SUITE + "test_an_answer_about_another_order_is_not_believed",),
    ),
    Trap(
        23,
        "raw callbacks, names and card numbers stand in logs",
        (
            "integration/test_receiver_http.py::test_the_row_holds_nothing_readable",
            "integration/test_stage_runtime.py::test_a_log_line_of_a_run_holds_ids_and_no_payload",
            "unit/test_gateway_http.py::test_an_error_body_never_reaches_the_text",
        ),
    ),
    Trap(
        24,
        "a checksum broken by what a proxy added, by writing JSON anew, by decoding twice",
        (
            "unit/test_arca_wire.py::test_a_parameter_that_a_proxy_added_breaks_no_checksum",
            "unit/test_arca_wire.py::test_parameters_are_decoded_once",
            "integration/test_receiver_http.py::test_an_event_is_kept_as_it_came",
            "integration/test_receiver_http.py::test_bytes_that_are_no_text_are_kept",
        ),
    ),
    Trap(
        25,
        "an event is answered 200 before it is durable, and never comes again",
        (
            "integration/test_receiver_http.py::test_the_answer_waits_for_the_commit",
            "integration/test_receiver_kill.py::test_what_was_answered_2xx_survives_sigkill",
            "integration/test_receiver_http.py::test_while_the_database_is_away_providers_are_told_to_come_again",
        ),
    ),
    Trap(
        26,
        "a provider that must hear a literal word hears another",
        (
            "integration/test_prechecks.py::test_the_customer_takes_the_form_pays_and_the_invoice_says_how_it_was_proven",
        ),
    ),
    Trap(
        27,
        "an idempotency key is used again after the provider forgot it",
        ("conformance/test_stripe.py::test_trap_27_a_key_that_is_pruned_makes_no_second_session",),
    ),
    Trap(
        28,
        "the fiscal receipt and the payment are one status",
        (
            "integration/test_commands.py"
            "::test_the_crm_is_told_of_each_state_of_the_receipt_and_the_payment_is_not_touched",
            "integration/test_commands.py::test_a_receipt_that_was_issued_does_not_become_pending_again",
        ),
    ),
    Trap(
        29,
        "links can be guessed or counted up, and pages tell who the customer is",
        (
            "integration/test_pages_traces.py::test_who_guesses_must_wait_and_a_real_link_opens_all_the_same",
            "integration/test_pages_doors.py::test_a_page_says_what_it_is_for_and_nothing_personal",
            _SUITE + "test_a_created_order_has_a_page_and_keeps_it_out_of_logs",
        ),
    ),
    Trap(
        30,
        "a return address leads anywhere",
        (_SURPRISES + "test_a_true_answer_with_any_place_made_odd_gives_a_value_or_one_of_three_failures",),
    ),
)


@cache
def existing() -> set[str]:
    """Return the id of every test function under tests/, as `folder/file.py::function`, by parsing the files."""
    return {
        f"{path.relative_to(TESTS).as_posix()}::{node.name}"
        for path in TESTS.rglob("test_*.py")
        for node in ast.parse(path.read_text("utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def named_after(number: int, tests: set[str]) -> set[str]:
    """Return the tests whose names say that they show this trap."""
    return {one for one in tests if re.search(rf"::test_trap_{number}_", one)}
