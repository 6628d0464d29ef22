"""Inside `transaction.atomic()`, which commits."""

import os

import django
from django.conf import settings
from django.db import connection, models, transaction
from psycopg.conninfo import conninfo_to_dict

from everlog import NoStream, Session
from examples.joining import TABLE, Issued, platform

URL = os.environ["EVERLOG_STORE"]


def database(url: str) -> dict[str, object]:
    """The same database in Django's words."""
    named = conninfo_to_dict(url)
    options = {key.upper(): value for key, value in named.items() if key in ("host", "port", "user", "password")}
    return {"ENGINE": "django.db.backends.postgresql", "NAME": named["dbname"], **options}


settings.configure(DATABASES={"default": database(URL)})
django.setup()


class Invoice(models.Model):  # type: ignore[misc]  # Django has no types
    number = models.TextField(primary_key=True)
    cents = models.IntegerField()

    class Meta:
        app_label = "joining"
        db_table = "invoice"


def issue(acme: Session, number: str, cents: int) -> None:
    with transaction.atomic(), acme.join(connection) as joined:
        Invoice.objects.create(number=number, cents=cents)
        joined.append(f"invoice-{number}", Issued(number, cents), expect=NoStream())


def main() -> None:
    with connection.cursor() as cursor:
        cursor.execute(TABLE)
    with platform(URL).open() as log:
        acme = log.tenant("acme")
        issue(acme, "2026-1", 4200)
        with transaction.atomic():  # yours, and both blocks join it
            issue(acme, "2026-2", 100)
            issue(acme, "2026-3", 200)
        print([(invoice.number, invoice.cents) for invoice in Invoice.objects.order_by("number")])
        print([(e.data.number, e.data.cents) for e in acme.events(Issued)])
    connection.close()


if __name__ == "__main__":
    main()
