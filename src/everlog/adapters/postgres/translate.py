"""The driver's errors in our words, said once."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import errors
from psycopg_pool import PoolClosed, PoolTimeout

from everlog.core.errors import InvalidInput, Misconfigured, OutcomeUnknown, StoreUnavailable

# Another attempt may well succeed: somebody holds a lock, the server has no room or goes down.
TROUBLE = (
    psycopg.OperationalError, psycopg.InterfaceError, errors.LockNotAvailable, errors.QueryCanceled,
    errors.DeadlockDetected, errors.SerializationFailure, errors.InsufficientResources, errors.ReadOnlySqlTransaction,
    errors.IdleInTransactionSessionTimeout, errors.TransactionTimeout,
)  # fmt: skip


@contextmanager
def translated() -> Iterator[None]:
    """What psycopg raises inside the block leaves it as an `EverlogError`; the block must store nothing then."""
    try:
        yield
    except PoolClosed as error:
        raise closed() from error
    except PoolTimeout as error:
        raise unavailable(error) from error
    except TROUBLE as error:
        raise unavailable(error) from error
    except errors.InsufficientPrivilege as error:
        raise Misconfigured(
            f"PostgreSQL says: {said(error)}: what a role needs is granted by everlog store migrate --engine-role"
        ) from error
    except (psycopg.Error, UnicodeEncodeError, OverflowError) as error:
        raise InvalidInput(f"PostgreSQL refused it: {said(error)}") from error


def closed() -> StoreUnavailable:
    return StoreUnavailable("the store is closed: open it again")


def unavailable(error: Exception) -> StoreUnavailable:
    """The driver's error in our words; nothing was stored."""
    return StoreUnavailable(f"PostgreSQL says: {said(error)}: nothing was stored; try again once the cause is gone")


def outcome_unknown(error: Exception) -> OutcomeUnknown:
    """The connection was lost once COMMIT was on its way, and no new one can be had to ask."""
    return OutcomeUnknown(f"PostgreSQL cannot say whether this is stored ({said(error)}): retry with the same ids")


def said(error: Exception) -> str:
    """The first line, without the statement it happened in, which may hold data."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
