"""Money is whole minor units: what it adds up to, how it reads, and what is no money."""

from decimal import localcontext
from typing import Any

import pytest
from hypothesis import given as always
from hypothesis import settings
from hypothesis import strategies as some

from everlog import InvalidInput, Money
from everlog.core.money import minor_digits, money_from_text


def test_money_adds_subtracts_negates_and_multiplies() -> None:
    four, two = Money(400, "EUR"), Money(200, "EUR")
    assert (four + two, four - two, two - four, -four, two * 3) == (
        Money(600, "EUR"), Money(200, "EUR"), Money(-200, "EUR"), Money(-400, "EUR"), Money(600, "EUR"),
    )  # fmt: skip


def test_two_currencies_are_not_added_or_subtracted() -> None:
    with pytest.raises(InvalidInput, match=r"4\.00 EUR and 4 JPY are of different currencies: convert one first"):
        Money(400, "EUR") + Money(4, "JPY")
    with pytest.raises(InvalidInput, match="of different currencies"):
        Money(400, "EUR") - Money(4, "JPY")


@pytest.mark.parametrize("minor", [1.0, "1", True, None])
def test_only_whole_minor_units_are_money(minor: Any) -> None:
    with pytest.raises(InvalidInput, match="whole minor units"):
        Money(minor, "EUR")


def test_a_part_of_a_unit_cannot_come_from_multiplying() -> None:
    with pytest.raises(InvalidInput, match="whole minor units"):
        Money(5, "EUR") * 0.5  # type: ignore[operator]


@pytest.mark.parametrize("currency", ["eur", "EU", "EURO", "", "€UR", "E1R".lower()])
def test_a_currency_is_three_capital_letters(currency: str) -> None:
    with pytest.raises(InvalidInput, match="is not an ISO 4217 currency code such as 'EUR'"):
        Money(1, currency)


@pytest.mark.parametrize(
    ("money", "text"),
    [
        (Money(4200, "EUR"), "42.00 EUR"),
        (Money(-5, "EUR"), "-0.05 EUR"),
        (Money(0, "USD"), "0.00 USD"),
        (Money(42, "JPY"), "42 JPY"),
        (Money(-1234, "KWD"), "-1.234 KWD"),
        (Money(1, "CLF"), "0.0001 CLF"),
        (Money(12345678901234567890123456789012, "EUR"), "123456789012345678901234567890.12 EUR"),
    ],
)
def test_money_reads_as_its_currency_writes_it_whatever_the_decimal_context_is(money: Money, text: str) -> None:
    assert str(money) == text
    with localcontext(prec=2):
        assert str(money) == text


@pytest.mark.parametrize(
    ("text", "currency", "minor"),
    [
        ("12.30", "EUR", 1230),
        ("12.3", "EUR", 1230),
        ("12", "EUR", 1200),
        ("12.", "EUR", 1200),
        ("-0.05", "EUR", -5),
        ("+1.000", "EUR", 100),
        ("7", "JPY", 7),
        ("7.00", "JPY", 7),
        ("1.234", "BHD", 1234),
        ("99999999999999.99", "EUR", 9999999999999999),
    ],
)
def test_money_is_read_from_text(text: str, currency: str, minor: int) -> None:
    assert money_from_text(text, currency) == Money(minor, currency)


@pytest.mark.parametrize("text", ["", "-", ".5", "1,50", "1e3", "1_000", "NaN", "٣", "1 ", "0x1", "1" * 15, "--1"])
def test_text_that_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"is not an amount of money: write it as 1234\.50"):
        money_from_text(text, "EUR")


@pytest.mark.parametrize(("text", "currency"), [("1.005", "EUR"), ("1.5", "JPY"), ("1.2345", "BHD")])
def test_a_fraction_of_a_minor_unit_is_refused_and_not_rounded(text: str, currency: str) -> None:
    with pytest.raises(InvalidInput, match=f"has more decimals than {currency} has minor units"):
        money_from_text(text, currency)


@pytest.mark.parametrize(("currency", "digits"), [("EUR", 2), ("JPY", 0), ("KWD", 3), ("UYW", 4), ("XYZ", 2)])
def test_minor_digits_follow_iso_4217(currency: str, digits: int) -> None:
    assert minor_digits(currency) == digits


@settings(deadline=None)
@always(some.integers(-(10**14) + 1, 10**14 - 1), some.sampled_from(["EUR", "JPY", "KWD", "CLF"]))
def test_what_money_shows_is_read_as_the_same_money(minor: int, currency: str) -> None:
    amount, _, shown = str(Money(minor, currency)).partition(" ")
    assert shown == currency
    assert money_from_text(amount, currency) == Money(minor, currency)
