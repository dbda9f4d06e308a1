"""Stripe's API (https://docs.stripe.com/api: customers, invoices, payment intents, balance, pagination, errors)."""

from typing import Annotated, Any, Literal

from pydantic import Field

from connectors.base import Category, Connector, Cursor, Kind, Limit
from connectors.rest import Rest, brief

stripe = Connector(
    slug="stripe", name="Stripe", category=Category.FINANCE, kind=Kind.API_KEY,
    description="Customers, invoices, payments and the balance, with the organization's key. Nothing is changed.",
    url="https://api.stripe.com/v1", docs="https://dashboard.stripe.com/apikeys",
    headers={"Stripe-Version": "2025-09-30.clover"},
    steps=("At dashboard.stripe.com/apikeys create a restricted key.",
           "Let it read Customers, Invoices, PaymentIntents and Balance, and nothing else.", "Copy the key."),
)  # fmt: skip
Customer = Annotated[str | None, Field(pattern="^cus_[A-Za-z0-9]+$", description="Only of this customer, by id")]
Status = Literal["draft", "open", "paid", "uncollectible", "void"]


@stripe.tool("List customers")
async def stripe_list_customers(
    api: Rest, email: str | None = None, limit: Limit = 20, cursor: Cursor = None
) -> dict[str, Any]:
    """Customers, newest first; with `email` those who have exactly this one. `next_cursor` gets the next page."""
    names = ("id", "name", "email", "created", "currency", "balance", "delinquent")
    return await listed(api, "customers", names, email=email, limit=limit, starting_after=cursor)


@stripe.tool("List invoices")
async def stripe_list_invoices(
    api: Rest, customer: Customer = None, status: Status | None = None, limit: Limit = 20, cursor: Cursor = None
) -> dict[str, Any]:
    """Invoices, newest first. Amounts are in the currency's smallest unit. `next_cursor` gets the next page."""
    names = ("id", "number", "customer", "status", "currency", "total", "amount_remaining", "created", "due_date")
    return await listed(api, "invoices", names, customer=customer, status=status, limit=limit, starting_after=cursor)


@stripe.tool("List payments")
async def stripe_list_payments(
    api: Rest, customer: Customer = None, limit: Limit = 20, cursor: Cursor = None
) -> dict[str, Any]:
    """Payments, newest first. Amounts are in the currency's smallest unit. `next_cursor` gets the next page."""
    names = ("id", "customer", "status", "currency", "amount", "amount_received", "created", "description")
    return await listed(api, "payment_intents", names, customer=customer, limit=limit, starting_after=cursor)


@stripe.tool("Get the balance")
async def stripe_get_balance(api: Rest) -> dict[str, Any]:
    """What is available and what is pending, by currency, in its smallest unit."""
    said = await api.get("balance")
    return {name: [brief(each, "currency", "amount") for each in said[name]] for name in ("available", "pending")}


async def listed(api: Rest, path: str, names: tuple[str, ...], **asked: Any) -> dict[str, Any]:
    said = await api.get(path, **asked)
    return {path: [brief(each, *names) for each in said["data"]],
            "next_cursor": said["data"][-1]["id"] if said["has_more"] else None}  # fmt: skip
