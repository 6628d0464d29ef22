"""Fieldnote as a whole: `everlog --app everlog.fieldnote.app:platform …` finds it here."""

from everlog import Platform
from everlog.fieldnote.tenants import tenants
from everlog.fieldnote.upcasters import UPCASTERS
from everlog.fieldnote.users import users

platform = Platform("sqlite:///.everlog/demo.db", tenants, users, *UPCASTERS)
