"""Money as whole minor units of a currency, because binary fractions cannot hold a cent."""

import re
from dataclasses import dataclass

from everlog.core.errors import InvalidInput

# ISO 4217: currencies whose minor unit is not a hundredth.
_DIGITS = {
    "BHD": 3, "BIF": 0, "CLF": 4, "CLP": 0, "DJF": 0, "GNF": 0, "IQD": 3, "ISK": 0, "JOD": 3, "JPY": 0, "KMF": 0,
    "KRW": 0, "KWD": 3, "LYD": 3, "OMR": 3, "PYG": 0, "RWF": 0, "TND": 3, "UGX": 0, "UYI": 0, "UYW": 4, "VND": 0,
    "VUV": 0, "XAF": 0, "XOF": 0, "XPF": 0,
}  # fmt: skip

# Whole units fit 64 bits with any currency's minor digits.
_AMOUNT = re.compile(r"([+-]?)([0-9]{1,14})(?:\.([0-9]*))?")


@dataclass(frozen=True, slots=True)
class Money:
    """`Money(4200, "EUR")` is 42.00 euro. Adding two currencies raises `InvalidInput`."""

    minor: int
    currency: str

    def __post_init__(self) -> None:
        if type(self.minor) is not int:
            raise InvalidInput(f"Money takes whole minor units, not {self.minor!r}: 42.00 EUR is Money(4200, 'EUR')")
        if len(self.currency) != 3 or not self.currency.isascii() or not self.currency.isupper():
            raise InvalidInput(f"{self.currency!r} is not an ISO 4217 currency code such as 'EUR'")

    def __add__(self, other: "Money") -> "Money":
        return Money(self.minor + self._same(other).minor, self.currency)

    def __sub__(self, other: "Money") -> "Money":
        return Money(self.minor - self._same(other).minor, self.currency)

    def __neg__(self) -> "Money":
        return Money(-self.minor, self.currency)

    def __mul__(self, times: int) -> "Money":
        return Money(self.minor * times, self.currency)

    def __str__(self) -> str:
        # By its digits: `Decimal` rounds as the caller's context says.
        digits, sign = minor_digits(self.currency), "-" if self.minor < 0 else ""
        text = str(abs(self.minor)).rjust(digits + 1, "0")
        return f"{sign}{text[:-digits]}.{text[-digits:]} {self.currency}" if digits else f"{sign}{text} {self.currency}"

    def _same(self, other: "Money") -> "Money":
        if other.currency != self.currency:
            raise InvalidInput(f"{self} and {other} are of different currencies: convert one first")
        return other


def minor_digits(currency: str) -> int:
    """How many decimals the currency's minor unit has (ISO 4217); 2 for a code not listed."""
    return _DIGITS.get(currency, 2)


def money_from_text(text: str, currency: str) -> Money:
    """`"12.30"`, `"EUR"` becomes `Money(1230, "EUR")`; raises `InvalidInput` rather than round a fraction of a unit."""
    # By its digits: `Decimal` would take "1e9999999" and "1_000", and its context rounds behind 28 digits.
    amount = _AMOUNT.fullmatch(text)
    if amount is None:
        raise InvalidInput(f"{text[:40]!r} is not an amount of money: write it as 1234.50")
    sign, whole, fraction = amount.groups(default="")
    digits = minor_digits(currency)
    if len(fraction) > digits and fraction[digits:].strip("0"):
        raise InvalidInput(f"{text[:40]!r} has more decimals than {currency} has minor units")
    return Money(int(sign + whole + fraction[:digits].ljust(digits, "0")), currency)
