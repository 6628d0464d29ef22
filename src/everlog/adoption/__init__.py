"""Moving existing data in: rows of a CSV or NDJSON file become events, once, however often they are imported."""

from everlog.adoption.importer import ImportReport, Progress, import_file
from everlog.adoption.mapping import EventMap, map_from_toml, read_map

__all__ = ["EventMap", "ImportReport", "Progress", "import_file", "map_from_toml", "read_map"]
